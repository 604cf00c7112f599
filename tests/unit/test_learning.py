"""From samples of the store to what workers and launchers foresee."""

from typing import Any, cast

import pytest

from qfarm.costs.model import CostModel, Key
from qfarm.engines import engine
from qfarm.store.fleet import Demand, Fleet, Sample
from qfarm.store.wish import Ahead
from qfarm_launchers.learning import costs, model_of, relearn
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_schemas.level import LevelOfTheory
from qfarm_workers.appraisal import Foresight
from support import build

CPU = Partition(name="cpu")
STAGE = build.stage(time_limit=500.0)
GONE = LevelOfTheory(engine="of-an-older-qfarm", method="PBE0")


def sample(formula: str, seconds: float, **changed: Any) -> Sample:
    fields = {"partition": "cpu", "stage": STAGE.name, "level_id": STAGE.level.id, "n_atoms": 3}
    return Sample(formula=formula, wall_seconds=seconds, peak_memory_mb=500, **fields | changed)


SAMPLES = [sample("H2O", 5.0), sample("H4O2", 20.0), sample("H6O3", 45.0)] * 20
"""Seconds grow with the square of the number of functions: 43, 86, 129."""


class OneFleet:
    """A fleet that has samples and keeps costs."""

    def __init__(self) -> None:
        self.kept: Any = None

    def samples(self, size: int) -> tuple[Sample, ...]:
        return tuple(SAMPLES[:size])

    def keep_costs(self, document: Any) -> None:
        self.kept = document


def ahead(formula: str) -> Ahead:
    return Ahead(STAGE.name, STAGE.level.id, formula, 3)


def foresight() -> Foresight:
    model = model_of(SAMPLES, [STAGE], engine)
    return Foresight(model, engine, FarmConfig(partitions=(CPU,)))


def test_sizes_are_what_the_engine_says() -> None:
    model = model_of(SAMPLES, [STAGE], engine)
    key = Key("cpu", STAGE.level.id, STAGE.name)
    assert model.seconds(key, 43).median == pytest.approx(5, rel=0.05)
    assert model.seconds(key, 86).median == pytest.approx(20, rel=0.05)


def test_what_was_learnt_is_kept_for_workers() -> None:
    fleet = OneFleet()
    model = relearn(cast(Fleet, fleet), [STAGE], engine)
    assert model == model_of(SAMPLES, [STAGE], engine)
    assert CostModel.from_document(fleet.kept) == model
    assert relearn(cast(Fleet, fleet), [STAGE], engine, size=0).lines == ()


def test_samples_of_stages_or_engines_that_are_gone_are_left_out() -> None:
    others = [sample("H2O", 1.0, stage="gone"), sample("H2O", 1.0, level_id=GONE.id)]
    stages = [STAGE, build.stage(level=GONE)]
    assert model_of([*SAMPLES, *others], stages, engine) == model_of(SAMPLES, [STAGE], engine)


def test_no_stage_costs_more_than_its_limit() -> None:
    (water, huge) = costs(Demand(2, (ahead("H2O"), ahead("C100H200"))), foresight(), CPU)
    assert water.seconds < water.at_most < 20
    assert (huge.seconds, huge.at_most) == (500.0, 500.0)
