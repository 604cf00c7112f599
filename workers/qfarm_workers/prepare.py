"""Prepare: from a claim to a job, with what its place and earlier attempts give it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qfarm.engines.base import Engine, Job, Restart
from qfarm.ladder import effective_level, settings
from qfarm.store.protocol import Claim
from qfarm_schemas.attempt import Attempt, Failure, Rung
from qfarm_schemas.config import Partition
from qfarm_schemas.failure import FailureKind
from qfarm_workers.bench import Bench, Place
from qfarm_workers.restart import NOTHING, Kept, Spot, trusted


@dataclass(frozen=True)
class Prepared:
    """An attempt that can start.

    Attributes
    ----------
    claim : Claim
        The right to make it.
    engine : Engine
        Who computes.
    rung : Rung
        Where on the ladder.
    job : Job
        What is computed.
    linked : Path or None
        Folder that the engine wants to see under the name `Parameters.linked`.
    kept : Kept
        Restart files.
    """

    claim: Claim
    engine: Engine
    rung: Rung
    job: Job
    linked: Path | None = None
    kept: Kept = NOTHING

    @property
    def spot(self) -> Spot:
        """Where this attempt's restart files belong; the level is the one computed."""
        return Spot(self.claim.key, self.job.level.id, self.claim.number)


def prepared(claim: Claim, engine: Engine, rung: Rung, place: Place, bench: Bench) -> Prepared:
    """Put together what an attempt on a rung starts from."""
    level = effective_level(claim.stage.level, rung)
    kept = NOTHING
    if bench.restarts is not None and engine.restart != Restart() and trusted(claim.history):
        spot = Spot(claim.key, level.id, claim.number)
        kept = bench.restarts.find(spot, engine.restart)
    job = job_of(claim, engine, rung, bench.partition)
    given = {"site": place.site, "restart": kept.given}
    return Prepared(claim, engine, rung, job.model_copy(update=given), place.linked, kept)


def job_of(claim: Claim, engine: Engine, rung: Rung, partition: Partition) -> Job:
    """The calculation on a rung, at its effective level, within the smaller of the limits."""
    level, ladder = effective_level(claim.stage.level, rung), engine.ladder
    return Job(
        fragment=claim.start,
        stage=claim.stage.model_copy(update={"level": level}),
        scf=dict(settings(ladder.scf, rung.scf)),
        geometry=dict(settings(ladder.geometry, rung.geometry)),
        overlap=dict(settings(ladder.overlap, rung.overlap)),
        memory=dict(settings(ladder.memory, rung.memory)),
        threads=partition.threads,
        memory_mb=min(claim.stage.memory_mb, partition.memory_mb),
        after=last_failure(claim.history),
    )


def last_failure(history: Sequence[Attempt]) -> FailureKind | None:
    """How the last attempt ended that came to an end of its own.

    A lost worker or an interruption leaves things as they were before it.
    """
    outcomes = (attempt.outcome for attempt in reversed(history))
    kinds = (outcome.kind for outcome in outcomes if isinstance(outcome, Failure))
    return next((kind for kind in kinds if kind not in _NO_END), None)


_NO_END: Final = (FailureKind.LOST_WORKER, FailureKind.INTERRUPTED)
