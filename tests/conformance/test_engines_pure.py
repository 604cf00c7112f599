"""What every engine of the table must do without running anything."""

import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.engine_cases import CASES, WATER, Case
from conformance.engine_inputs import Input
from conformance.engine_runs import climbed, make_job
from qfarm.engines import TABLE
from qfarm.engines.base import Command, Engine, Job, PythonCall, Site
from qfarm.ladder import Aid
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory

SIDES = ("scf", "geometry", "overlap", "memory")


def rungs(tested: Engine, case: Case) -> Iterator[tuple[str, Aid, Job]]:
    """Every aid of the ladder: side, aid, job that climbed to it."""
    for side in SIDES:
        task = TaskKind.OPTIMISATION if side == "geometry" else TaskKind.SINGLE_POINT
        for aid in getattr(tested.ladder, side):
            yield side, aid, climbed(case, side, aid, task)


def with_thresholds(level: LevelOfTheory, factor: float) -> LevelOfTheory:
    """The level with other thresholds; what is "none" stays so."""
    given = level.thresholds.model_dump()
    other = {name: value and value * factor for name, value in given.items()}
    return LevelOfTheory.model_validate(level.model_dump() | {"thresholds": other})


def test_every_engine_has_a_case() -> None:
    assert set(CASES) == set(TABLE)
    assert all(case.ways for case in CASES.values())


def test_the_engine_is_called_as_in_the_table(tested: Engine, name: str) -> None:
    assert tested.name == name


def test_importing_the_engine_does_not_load_its_library(name: str, case: Case) -> None:
    code = f"import sys, {TABLE[name]}; sys.exit({case.library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# input


def test_input_is_deterministic_text_with_plain_names(tested: Engine, case: Case) -> None:
    for _side, aid, job in rungs(tested, case):
        first, second = tested.write(job), tested.write(job.model_copy())
        assert first == second, aid.name
        assert first
        assert all(Path(file).name == file for file in first)
        assert all(isinstance(text, str) and text.isascii() for text in first.values())


def test_input_tells_jobs_apart(tested: Engine, case: Case) -> None:
    moved = Fragment(numbers=WATER.numbers, positions=np.array(WATER.positions) + 1e-9)
    charged = WATER.model_copy(update={"charge": 2})
    inputs = [tested.write(make_job(case, fragment=f)) for f in (WATER, moved, charged)]
    assert inputs[0] != inputs[1]
    assert inputs[0] != inputs[2]


def test_input_holds_no_absolute_path(tested: Engine, case: Case) -> None:
    job = make_job(case)
    plain = job.model_copy(update={"site": job.site.model_copy(update={"command": ()})})
    for text in tested.write(plain).values():
        assert not re.search(r"(?<![\w/.])/\w", text)


FRAGMENTS = st.builds(
    lambda rows, charge: Fragment(
        numbers=[number for number, _ in rows],
        positions=[position for _, position in rows],
        charge=charge,
        multiplicity=1 + (sum(number for number, _ in rows) - charge) % 2,
    ),
    st.lists(
        st.tuples(st.sampled_from([1, 6, 7, 8]), st.tuples(*[st.floats(-99, 99)] * 3)),
        min_size=1,
        max_size=6,
    ),
    st.integers(-2, 1),
)


@given(fragment=FRAGMENTS)
def test_input_says_what_the_fragment_is(tested: Engine, case: Case, fragment: Fragment) -> None:
    if tested.refuse(fragment, case.level, TaskKind.SINGLE_POINT):
        return
    found = case.read(tested.write(make_job(case, fragment=fragment)))
    assert found.numbers == fragment.numbers.tolist()
    np.testing.assert_allclose(found.positions, fragment.positions, rtol=0, atol=1e-9)
    assert (found.charge, found.multiplicity) == (fragment.charge, fragment.multiplicity)


def test_an_open_shell_is_written_or_refused(tested: Engine, case: Case) -> None:
    triplet = WATER.model_copy(update={"multiplicity": 3})
    if tested.refuse(triplet, case.level, TaskKind.SINGLE_POINT):
        return
    assert case.read(tested.write(make_job(case, fragment=triplet))).multiplicity == 3


def test_input_demands_the_thresholds_of_the_level(tested: Engine, case: Case) -> None:
    for factor in (1.0, 1e-7):
        level = with_thresholds(case.level, factor)
        words = case.read(tested.write(make_job(case, level=level))).words
        for threshold, word in case.thresholds.items():
            assert 0 < float(words[word]) <= getattr(level.thresholds, threshold), word


def decisive(case: Case, found: Input) -> dict[str, str]:
    """What of an input decides the number."""
    return {word: text for word, text in found.words.items() if not case.aids.fullmatch(word)}


def test_aids_change_nothing_that_decides_the_number(tested: Engine, case: Case) -> None:
    """Neither level nor thresholds; an aid that does change something says so."""
    for _side, aid, job in rungs(tested, case):
        if aid.name in case.start_ups:
            continue
        plain = case.read(tested.write(make_job(case, job.stage.task)))
        found = case.read(tested.write(job))
        same = decisive(case, found) == decisive(case, plain)
        assert same == (not aid.deviation), aid.name
        assert (found.numbers, found.charge) == (plain.numbers, plain.charge)


# rungs


def test_rungs_have_names_of_their_own(tested: Engine) -> None:
    """Only the first may have none: nothing is done there."""
    for side in SIDES:
        names = [aid.name for aid in getattr(tested.ladder, side)]
        assert all(names[1:])
        assert len(set(names)) == len(names)
        assert not any(aid.deviation for aid in getattr(tested.ladder, side)[:1])
    assert tested.ladder.scf


def test_a_start_up_is_followed_by_what_it_prepares(tested: Engine, case: Case) -> None:
    names = [aid.name for aid in tested.ladder.scf]
    assert set(case.start_ups) <= set(names)
    after = [names[names.index(start) + 1] for start in case.start_ups]
    assert not set(after) & set(case.start_ups)
    assert not case.start_ups or tested.restart.files or tested.restart.texts


# what the site gives and gets


def test_what_to_run_is_named_without_a_folder(tested: Engine, case: Case) -> None:
    job = make_job(case).model_copy(update={"site": Site()})
    program = tested.run(job)
    assert isinstance(program, PythonCall | Command)
    assert program == tested.run(job)
    assert isinstance(program, Command) == bool(tested.command)
    if isinstance(program, Command):
        assert program.argv == tested.command
        assert "/" not in "".join(program.argv)


def test_a_program_is_started_as_the_site_says(tested: Engine, case: Case) -> None:
    if not tested.command:
        return
    site = Site(
        command=("mpirun", "-n", "{ranks}", "prog", "{threads}"),
        ranks=4,
        environment={"A": "b"},
    )
    program = tested.run(make_job(case, site=site, threads=2))
    assert isinstance(program, Command)
    assert program.argv == ("mpirun", "-n", "4", "prog", "2")
    assert dict(program.environment) == {"A": "b"}


def test_parameter_files_are_named_by_the_elements(tested: Engine, case: Case) -> None:
    needed = tested.parameters(WATER, case.level)
    other = Fragment(numbers=[1, 8, 1, 1, 8], positions=np.arange(15.0).reshape(5, 3), charge=1)
    assert needed == tested.parameters(WATER, case.level) == tested.parameters(other, case.level)
    assert len(set(needed.names)) == len(needed.names)
    for file in needed.names:
        assert not PurePosixPath(file).is_absolute()
        assert ".." not in PurePosixPath(file).parts
    assert Path(needed.linked).name == needed.linked
    assert needed.names or not needed.linked
    hydrogen = Fragment(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 0.74]])
    assert set(tested.parameters(hydrogen, case.level).names) <= set(needed.names)


def test_what_is_left_for_the_next_attempt_is_no_input(tested: Engine, case: Case) -> None:
    inputs = tested.write(make_job(case))
    for pattern in (*tested.restart.texts, *tested.restart.files):
        assert pattern
        assert not pattern.startswith(("/", "*", "."))
        assert not any(fnmatch(file, pattern) for file in (*inputs, *STREAMS))


def test_the_soft_stop_is_a_file_of_its_own(tested: Engine, case: Case) -> None:
    stop = tested.soft_stop
    if stop is None:
        return
    assert stop
    assert Path(stop).name == stop
    assert stop not in tested.write(make_job(case))
    assert not any(fnmatch(stop, pattern) for pattern in tested.restart.files)


STREAMS = ("stdout.txt", "stderr.txt")


# what is refused


def refusal(tested: Engine, fragment: Fragment, level: LevelOfTheory) -> str | None:
    return tested.refuse(fragment, level, TaskKind.SINGLE_POINT)


def test_tasks_are_taken_or_refused_as_stated(tested: Engine, case: Case) -> None:
    for task in TaskKind:
        refused = tested.refuse(WATER, case.level, task)
        assert (refused is None) == (task in case.tasks), task


@given(charge=st.integers(-3, 9), multiplicity=st.integers(1, 13))
def test_impossible_electron_counts_are_refused(
    tested: Engine, case: Case, charge: int, multiplicity: int
) -> None:
    fragment = WATER.model_copy(update={"charge": charge, "multiplicity": multiplicity})
    electrons, unpaired = 10 - charge, multiplicity - 1
    possible = electrons > 0 and unpaired <= electrons and (electrons - unpaired) % 2 == 0
    reason = refusal(tested, fragment, case.level)
    if not possible:
        assert reason
        assert re.search("charge|multiplicity", reason)
    if charge == 0 and multiplicity == 1:
        assert reason is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"options": {"no_such_option": 1}}, "no_such_option"),
        ({"method": "no-such-method"}, "no-such-method"),
        ({"basis": "no-such-tier"}, ""),
    ],
    ids=["option", "method", "basis"],
)
def test_unknown_levels_are_refused(
    tested: Engine, case: Case, fields: dict[str, Any], named: str
) -> None:
    if "basis" in fields:  # a tier that this engine does not have
        fields = {"basis": "none" if case.level.basis.value != "none" else "light"}
    level = LevelOfTheory.model_validate(case.level.model_dump() | fields)
    reason = refusal(tested, WATER, level)
    assert reason
    assert named in reason


def test_an_element_beyond_every_table_is_refused(tested: Engine, case: Case) -> None:
    oganesson = Fragment(numbers=[118], positions=[[0, 0, 0]])
    assert re.search("118|Og", refusal(tested, oganesson, case.level) or "")
