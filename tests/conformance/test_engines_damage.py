"""No damaged output becomes a record: cuts, lost and doubled lines, spoilt numbers, garbage."""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.engine_cases import WATER, Case, up_to_farewell
from conformance.engine_damage import (
    Damaged,
    accepted,
    cuts,
    other_numbers,
    sampled_cuts,
    with_doubled_lines,
    with_other_numbers,
    with_spoilt_numbers,
    without_lines,
    wrongly_accepted,
)
from conformance.engine_runs import Made, make_job, run
from qfarm.engines.base import Command, Engine, Exit
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.result import Result

LONG, EVERY, AROUND, LAST = 500, 7, 2, 100
"""Lines above which cuts are sampled; from cut to cut; around a marker; at the end."""

FEW = 200
"""Lines of one file that are lost, doubled or spoilt one at a time; of a longer one chance, which
never changes, takes so many."""

Damage = Callable[[str, Iterable[int]], Iterator[Damaged]]


@pytest.fixture(scope="session")
def goods(
    tested: Engine, case: Case, single_point: Made, tmp_path_factory: pytest.TempPathFactory
) -> list[Made]:
    """Accepted runs: one of each task."""
    found = [single_point]
    if TaskKind.OPTIMISATION in case.tasks:
        job = make_job(case, TaskKind.OPTIMISATION)
        found.append(run(tested, job, tmp_path_factory.mktemp("good_optimisation")))
    return found


def essential(case: Case, ran: Made) -> list[str]:
    """Output files without which there is no result; of an optimisation, its geometry too."""
    return [*case.outputs, *(name for name in case.geometry if name in ran.files)]


def few(text: str) -> list[int]:
    """Numbers of the lines to damage: all of a short text, some of a long one."""
    numbers = np.arange(len(text.splitlines()))
    if len(numbers) <= FEW:
        return list(numbers.tolist())
    chosen = np.random.default_rng(7).choice(numbers, FEW, replace=False)
    return sorted({*chosen.tolist(), *numbers[-FEW // 4 :].tolist()})


# how the process ended


@pytest.mark.parametrize("code", [1, 2, 137, -6, -9, -11, -15])
def test_a_result_of_a_process_that_failed_is_not_accepted(
    tested: Engine, goods: list[Made], code: int
) -> None:
    for ran in goods:
        assert isinstance(ran.outcome, Result), ran.outcome
        assert not accepted(ran.job, tested.parse(ran.job, ran.files, Exit(code)))


def test_no_files_at_all_is_a_failure(tested: Engine, case: Case) -> None:
    for code in (0, 1, -9):
        outcome = tested.parse(make_job(case), {}, Exit(code))
        assert isinstance(outcome, Failure)
        assert outcome.kind in (FailureKind.CRASHED, FailureKind.BAD_OUTPUT)
        assert outcome.cause
        assert outcome.remedy


def test_no_essential_file_may_be_missing(tested: Engine, case: Case, goods: list[Made]) -> None:
    for ran in goods:
        for file in essential(case, ran):
            files = {name: text for name, text in ran.files.items() if name != file}
            assert not accepted(ran.job, tested.parse(ran.job, files, Exit(0))), file
            files = {**ran.files, file: ""}
            assert not accepted(ran.job, tested.parse(ran.job, files, Exit(0))), file


def test_files_of_an_older_run_are_not_accepted(
    tested: Engine, case: Case, goods: list[Made]
) -> None:
    """Of a program; a library's folder is always fresh and its result is renamed into place."""
    for ran in goods:
        if not isinstance(tested.run(ran.job), Command):
            return
        for file in set(essential(case, ran)) - {"stdout.txt"}:
            assert not accepted(ran.job, tested.parse(ran.job, ran.files, Exit(0, (file,)))), file


def test_the_output_of_another_job_is_not_accepted(
    tested: Engine, case: Case, goods: list[Made]
) -> None:
    """Another charge, the same atoms elsewhere, one atom more."""
    positions = np.array(WATER.positions)
    positions[0, 0] += 0.1
    others = [
        WATER.model_copy(update={"positions": positions}),
        type(WATER)(
            numbers=[8, 1, 1, 1], positions=[*WATER.positions.tolist(), [3, 0, 0]], charge=1
        ),
        type(WATER)(numbers=[1, 8, 1], positions=np.array(WATER.positions)[[1, 0, 2]]),
    ]
    if tested.command:  # a library is given job and result in one piece
        others.append(WATER.model_copy(update={"charge": 2}))
    for fragment in others:
        job = make_job(case, fragment=fragment)
        assert not accepted(job, tested.parse(job, goods[0].files, Exit(0))), fragment


# one file damaged


def test_an_output_cut_before_any_line_is_not_accepted(
    tested: Engine, case: Case, goods: list[Made]
) -> None:
    for ran in goods:
        for file in essential(case, ran):
            text = up_to_farewell(case, file, ran.files[file])
            long = len(text.splitlines()) > LONG
            sample = sampled_cuts(text, case.markers, EVERY, AROUND, LAST)
            some = sample if long else cuts(text)
            assert not wrongly_accepted(tested, ran.job, ran.files, file, some)


def test_a_json_cut_at_any_byte_is_not_accepted(
    tested: Engine, case: Case, goods: list[Made]
) -> None:
    for ran in goods:
        for file in (name for name in case.outputs if name.endswith(".json")):
            text = ran.files[file].rstrip()
            damaged = ((f"cut at {end}", text[:end]) for end in range(len(text)))
            assert not wrongly_accepted(tested, ran.job, ran.files, file, damaged)


@pytest.mark.parametrize(
    "damage",
    [
        without_lines,
        with_doubled_lines,
        partial(with_spoilt_numbers, garbage=["NaN", "********", "1e300"]),
        partial(with_spoilt_numbers, garbage=["-1E+300", "Infinity", "garbage", ""]),
    ],
    ids=["lost", "doubled", "spoilt", "garbage"],
)
def test_one_damaged_line_changes_no_accepted_number(
    tested: Engine, case: Case, goods: list[Made], damage: Damage
) -> None:
    for ran in goods:
        assert isinstance(ran.outcome, Result), ran.outcome
        for file in (name for name in essential(case, ran) if not name.endswith(".json")):
            text = ran.files[file]
            same = partial(other_numbers, ran.outcome)
            damaged = damage(text, few(text))
            assert not with_other_numbers(tested, ran.job, ran.files, file, damaged, same)


# garbage


TEXT = st.text(max_size=200)
GARBAGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(deadline=None)
@given(texts=st.lists(TEXT, max_size=8), code=st.integers(-15, 2))
def test_garbage_is_never_accepted(
    tested: Engine, case: Case, single_point: Made, texts: list[str], code: int
) -> None:
    names = [*case.outputs, "failure.json", "stdout.txt", "stderr.txt", "job.json", "other"]
    files = dict(zip(dict.fromkeys(names), texts, strict=False))
    assert not accepted(single_point.job, tested.parse(single_point.job, files, Exit(code)))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), text=TEXT)
def test_garbage_in_the_middle_never_raises(
    tested: Engine, case: Case, single_point: Made, data: st.DataObject, text: str
) -> None:
    """Nor is it accepted with other numbers, unless it is JSON, where any number may be changed."""
    file = data.draw(st.sampled_from(case.outputs))
    whole = single_point.files[file]
    start = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 300))
    files = {**single_point.files, file: whole[:start] + text + whole[start + length :]}
    outcome = tested.parse(single_point.job, files, Exit(0))
    assert isinstance(outcome, Result | Failure)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_result_with_one_value_spoilt_never_raises(
    tested: Engine, case: Case, single_point: Made, data: st.DataObject
) -> None:
    """JSON outputs only: some spoilt values are harmless, none may raise."""
    file = data.draw(st.sampled_from(case.outputs))
    if not file.endswith(".json"):
        return
    whole = json.loads(single_point.files[file])
    path = data.draw(st.sampled_from(list(paths(whole))))
    spoil(whole, path, data.draw(GARBAGE))
    files = {**single_point.files, file: json.dumps(whole)}
    outcome = tested.parse(single_point.job, files, Exit(0))
    with np.errstate(all="ignore"):  # 1e300 eV/A overflows in a norm, and is refused
        accepted(single_point.job, outcome)


def paths(value: Any, head: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path below a JSON value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, below in items:
        yield (*head, key)
        yield from paths(below, (*head, key))


def spoil(value: Any, path: tuple[Any, ...], garbage: Any) -> None:
    """Put `garbage` at `path`."""
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = garbage
