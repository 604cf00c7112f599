"""The cost model: which line counts, what documents it bears, what people see."""

import io
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from qfarm.cli import costs
from qfarm.costs.fit import Guess
from qfarm.costs.model import (
    EVERYWHERE,
    UNKNOWN,
    CostModel,
    Key,
    Observation,
    Start,
    Work,
    learn,
    works,
)
from qfarm_schemas.level import LevelOfTheory
from support import build

XTB = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic")
START = Start(
    seconds=Guess(size=100, value=10, exponent=2),
    memory_mb=Guess(size=100, value=500, exponent=1),
    parallel=0.8,
)
WORK = works([(build.stage(time_limit=3600.0, memory_mb=8000), START)])[0]
KEY = Key("cpu", build.PBE0.id, "single_point")
NIGHT = KEY._replace(partition="night")


def seen(key: Key, count: int, factor: float = 1.0, seed: int = 0) -> list[Observation]:
    """Costs around ``factor * 10 * (size / 100) ** 2`` s, and 1000 MB everywhere."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(20, 500, count)
    seconds = factor * 10 * (sizes / 100) ** 2 * np.exp(rng.normal(0, 0.2, count))
    return [
        Observation(key, float(a), float(b), 1000.0) for a, b in zip(sizes, seconds, strict=True)
    ]


MODEL = learn([*seen(KEY, 200, 3.0), *seen(NIGHT, 200, 12.0, seed=1)], [WORK])


def test_each_partition_has_a_line_of_its_own() -> None:
    assert MODEL.seconds(KEY, 100).median == pytest.approx(30, rel=0.1)
    assert MODEL.seconds(NIGHT, 100).median == pytest.approx(120, rel=0.1)
    assert MODEL.memory_mb(KEY, 100).median == pytest.approx(1000, rel=0.05)


def test_a_new_partition_is_taken_to_be_like_the_others() -> None:
    elsewhere = MODEL.seconds(KEY._replace(partition="new"), 100)
    assert elsewhere.median == pytest.approx(60, rel=0.15)
    assert elsewhere.upper95 > 120
    assert MODEL.seconds(KEY.everywhere, 100) == elsewhere


def test_the_first_record_of_a_partition_moves_it_from_the_others_to_its_own() -> None:
    many = seen(KEY, 100)
    slow = Observation(NIGHT, 100.0, 100.0, 1000.0)
    before = learn(many, [WORK]).seconds(NIGHT, 100)
    one = learn([*many, slow], [WORK]).seconds(NIGHT, 100)
    five = learn([*many, *[slow] * 5], [WORK]).seconds(NIGHT, 100)
    assert before.median == pytest.approx(10, rel=0.1)
    assert 50 < one.median < five.median < 105


def test_a_partition_with_one_record_grows_as_the_others_do() -> None:
    """Elsewhere seconds grow with the size, where the engine's guess is its square."""
    sizes = [20.0 * 1.1**n for n in range(34)]
    elsewhere = [Observation(KEY, size, size / 10, 1000.0) for size in sizes]
    model = learn([*elsewhere, Observation(NIGHT, 20.0, 20.0, 1000.0)], [WORK])
    ratio = model.seconds(NIGHT, 400).median / model.seconds(NIGHT, 20).median
    assert ratio == pytest.approx(20, rel=0.2)


def test_cores_count_for_what_was_guessed_and_not_for_what_was_learnt() -> None:
    guessed = CostModel((WORK,))
    assert guessed.seconds(KEY, 100, 1).median == pytest.approx(10)
    assert guessed.seconds(KEY, 100, 4).median == pytest.approx(10 * (0.2 + 0.8 / 4))
    assert MODEL.seconds(KEY, 100, 4) == MODEL.seconds(KEY, 100, 1)


def test_what_nobody_told_of_has_an_answer_too() -> None:
    other = Key("cpu", "l0", "single_point")
    assert CostModel().seconds(other, 10).median == pytest.approx(UNKNOWN.seconds.value)
    assert CostModel().memory_mb(other, 10).median == pytest.approx(UNKNOWN.memory_mb.value)
    assert learn(seen(other, 5), [WORK]).lines == ()


def test_the_order_of_observations_does_not_matter() -> None:
    observations = [*seen(KEY, 50), *seen(NIGHT, 50, 4.0, seed=2)]
    shuffled = random.Random(5).sample(observations, len(observations))
    assert learn(shuffled, [WORK]) == learn(observations, [WORK])


def test_stages_of_one_name_and_level_are_one_work_with_the_largest_limits() -> None:
    stages = [
        build.stage(time_limit=60.0, memory_mb=9000),
        build.stage(time_limit=600.0, memory_mb=2000),
        build.stage(name="other"),
    ]
    found = works((stage, START) for stage in stages)
    assert [(one.stage, one.time_limit, one.memory_mb) for one in found] == [
        ("other", 86400.0, 4000.0),
        ("single_point", 600.0, 9000.0),
    ]
    assert found == works((stage, START) for stage in reversed(stages))


def test_a_document_gives_the_model_back() -> None:
    document = MODEL.as_document()
    assert CostModel.from_document(document) == MODEL
    assert {type(value) for value in document.values()} == {int, list}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON, JSON, JSON)
def test_garbage_is_as_if_never_learnt(document: Any, works: Any, lines: Any) -> None:
    assert CostModel.from_document(document) == CostModel()
    inside = {"version": 1, "works": works, "lines": lines}
    assert CostModel.from_document(inside) == CostModel()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", float("nan")),
        ("scale", 0.0),
        ("exponent", -1.0),
        ("height", float("inf")),
        ("records", None),
    ],
)
def test_a_spoilt_line_costs_that_line_only(field: str, value: object) -> None:
    document: Any = MODEL.as_document()
    document["lines"][0]["fit"][field] = value
    found = CostModel.from_document(document)
    assert found.works == MODEL.works
    assert found.lines == MODEL.lines[1:]


def test_a_document_of_another_version_is_not_read() -> None:
    assert CostModel.from_document(MODEL.as_document() | {"version": 2}) == CostModel()


def test_people_see_a_row_for_each_partition() -> None:
    rows = costs.rows(MODEL)
    assert [row[0] for row in rows] == ["all", "cpu", "night"]
    assert {len(row) for row in rows} == {len(costs.HEADINGS)}
    assert rows[1][1:5] == ("single_point", "pyscf", "PBE0+MBD/tight", "200")
    size, seconds, at_most, memory = (float(rows[1][n]) for n in (5, 7, 8, 9))
    assert rows[1][6] == "size^2.0"
    assert seconds == pytest.approx(30 * (size / 100) ** 2, rel=0.1)
    assert at_most == pytest.approx(seconds * math.exp(1.645 * 0.2), rel=0.1)
    assert memory == pytest.approx(1000, rel=0.05)


def test_people_see_that_nothing_is_learnt() -> None:
    console = Console(file=io.StringIO(), width=120)
    costs.show(CostModel(), console)
    assert console.file.getvalue().startswith("Nothing is learnt yet")  # type: ignore[attr-defined]
    console = Console(file=io.StringIO(), width=120)
    costs.show(MODEL, console)
    assert "at most (95 %)" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_work_knows_its_level() -> None:
    assert MODEL.work(build.PBE0.id, "single_point") == WORK
    assert MODEL.work(XTB.id, "single_point") is None
    assert isinstance(WORK, Work)
    assert EVERYWHERE not in {line.partition for line in MODEL.lines if line.fit.records < 400}
