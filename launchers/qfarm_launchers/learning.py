"""Learning: what accepted attempts cost becomes what workers and launchers foresee."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from qfarm.costs.model import CostModel, Key, Observation, Start, Work, learn, works
from qfarm.errors import NotFoundError
from qfarm.store.fleet import Demand, Fleet, Sample
from qfarm_launchers.scaling.situation import Cost
from qfarm_schemas.config import Partition, Stage
from qfarm_schemas.elements import counts
from qfarm_workers.appraisal import Foresight
from qfarm_workers.bench import Engines

SAMPLES: Final = 10_000
"""Attempts that are learnt from, drawn at random: more would not tell more."""


def relearn(
    fleet: Fleet, stages: Iterable[Stage], engines: Engines, size: int = SAMPLES
) -> CostModel:
    """Learn from the store's records, and keep the result for workers.

    Parameters
    ----------
    fleet : Fleet
        Gives samples and keeps what was learnt.
    stages : iterable of Stage
        Those that are in the queue; samples of others are left out.
    engines : callable
        Engine table.
    size : int
        Records to draw.
    """
    model = model_of(fleet.samples(size), stages, engines)
    fleet.keep_costs(model.as_document())
    return model


def model_of(samples: Sequence[Sample], stages: Iterable[Stage], engines: Engines) -> CostModel:
    """The model that samples give; pure."""
    known = works(_with_starts(stages, engines))
    by_key = {(work.level.id, work.stage): work for work in known}
    seen = (_observation(sample, by_key, engines) for sample in samples)
    return learn((one for one in seen if one is not None), known)


def costs(demand: Demand, foresight: Foresight, partition: Partition) -> tuple[Cost, ...]:
    """What the stages of a demand's sample cost in a partition, for `Situation.sample`."""
    foreseen = (foresight.cost(ahead, partition) for ahead in demand.sample)
    return tuple(Cost(one.seconds, one.at_most) for one in foreseen)


def _with_starts(stages: Iterable[Stage], engines: Engines) -> Iterator[tuple[Stage, Start]]:
    """Stages of engines that this qfarm has."""
    for stage in stages:
        try:
            engine = engines(stage.level.engine)
        except NotFoundError:
            continue
        yield stage, engine.start_costs(stage.level, stage.task)


def _observation(
    sample: Sample, known: dict[tuple[str, str], Work], engines: Engines
) -> Observation | None:
    work = known.get((sample.level_id, sample.stage))
    if work is None:
        return None
    size = engines(work.level.engine).cost_size(work.level, counts(sample.formula))
    key = Key(sample.partition, sample.level_id, sample.stage)
    return Observation(key, size, sample.wall_seconds, sample.peak_memory_mb)
