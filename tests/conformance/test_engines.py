"""What every engine of the table must do, on real runs of a water molecule."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.engine_cases import CASES, WATER, Case
from qfarm.engines import TABLE, engine
from qfarm.engines.base import Command, Engine, Exit, Job, PythonCall
from qfarm_schemas.attempt import Failure, FailureKind
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result
from support.run_engine import Ran, accepted, run

SHIFT = 1e-3
"""A: step of the finite differences."""


def make_job(case: Case, task: TaskKind = TaskKind.SINGLE_POINT, **fields: Any) -> Job:
    stage = Stage(name="stage", task=task, level=case.level, time_limit=300)
    return Job(**({"fragment": WATER, "stage": stage} | fields))


@pytest.fixture(scope="module", params=sorted(TABLE))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture(scope="module")
def tested(name: str) -> Engine:
    return engine(name)


@pytest.fixture(scope="module")
def single_point(tested: Engine, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(tested, make_job(case), tmp_path_factory.mktemp("single_point"))


def test_every_engine_has_a_case() -> None:
    assert set(CASES) == set(TABLE)


# what is pure


def test_the_engine_is_called_as_in_the_table(tested: Engine, name: str) -> None:
    assert tested.name == name


def test_importing_the_engine_does_not_load_its_library(name: str, case: Case) -> None:
    code = f"import sys, {TABLE[name]}; sys.exit({case.library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_input_is_deterministic_text_with_plain_names(tested: Engine, case: Case) -> None:
    first, second = tested.write(make_job(case)), tested.write(make_job(case))
    assert first == second
    assert first
    assert all(Path(file).name == file for file in first)


def test_input_tells_jobs_apart(tested: Engine, case: Case) -> None:
    moved = Fragment(numbers=WATER.numbers, positions=np.array(WATER.positions) + 1e-9)
    charged = WATER.model_copy(update={"charge": 2})
    inputs = [tested.write(make_job(case, fragment=f)) for f in (WATER, moved, charged)]
    assert inputs[0] != inputs[1]
    assert inputs[0] != inputs[2]


def test_input_holds_no_absolute_path(tested: Engine, case: Case) -> None:
    for text in tested.write(make_job(case)).values():
        assert not re.search(r"(?<![\w/.])/\w", text)


def test_what_to_run_is_named_without_a_folder(tested: Engine, case: Case) -> None:
    program = tested.run(make_job(case))
    assert isinstance(program, PythonCall | Command)
    assert program == tested.run(make_job(case))


def test_rungs_have_names_of_their_own(tested: Engine) -> None:
    for aids in (tested.ladder.scf, tested.ladder.geometry):
        names = [aid.name for aid in aids]
        assert all(names)
        assert len(set(names)) == len(names)
    assert tested.ladder.scf


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
    "fields",
    [{"options": {"no_such_option": 1}}, {"method": "no-such-method"}, {"basis": "light"}],
    ids=["option", "method", "basis"],
)
def test_unknown_levels_are_refused(tested: Engine, case: Case, fields: dict[str, Any]) -> None:
    level = LevelOfTheory.model_validate(case.level.model_dump() | fields)
    reason = refusal(tested, WATER, level)
    assert reason
    assert next(iter(fields["options"])) in reason if "options" in fields else True


def test_an_element_beyond_every_table_is_refused(tested: Engine, case: Case) -> None:
    oganesson = Fragment(numbers=[118], positions=[[0, 0, 0]])
    assert "118" in (refusal(tested, oganesson, case.level) or "")


# what a run gives


def good(ran: Ran) -> Result:
    assert isinstance(ran.outcome, Result), ran.outcome
    return ran.outcome


@pytest.mark.parametrize("task", list(TaskKind))
def test_water_is_accepted(
    tested: Engine, case: Case, task: TaskKind, single_point: Ran, tmp_path: Path
) -> None:
    if task not in case.tasks:
        assert tested.refuse(WATER, case.level, task)
        return
    single = task is TaskKind.SINGLE_POINT
    ran = single_point if single else run(tested, make_job(case, task), tmp_path)
    result = good(ran)
    assert accepted(ran.job, result)
    assert result.scf_trace
    assert result.engine_version
    assert single == (not result.optimisation_trace)


def test_the_child_leaves_nothing_else(single_point: Ran, tested: Engine, case: Case) -> None:
    known = {*tested.write(single_point.job), *case.outputs, "stdout.txt", "stderr.txt"}
    assert set(single_point.files) <= known
    assert set(case.outputs) <= set(single_point.files)


def test_units_are_ours(single_point: Ran, case: Case) -> None:
    result = good(single_point)
    assert case.energy[0] < result.energy < case.energy[1]
    assert 0.5 < np.abs(result.forces).max() < 5.0
    assert 0.3 < np.linalg.norm(result.dipole) < 0.6
    assert result.dipole[2] < 0, "the dipole points from oxygen to the hydrogens"
    assert result.homo is not None
    assert result.lumo is not None
    assert -16 < result.homo < -5 < 0 < result.lumo < 6
    for charges in result.charges.values():
        assert -1.0 < charges[0] < -0.2
        assert abs(charges.sum()) < 1e-4


def test_the_scf_trace_ends_at_the_energy(single_point: Ran) -> None:
    result = good(single_point)
    scf_energy = result.energy - result.energy_parts.get("MBD", 0.0)
    assert abs(result.scf_trace[-1].energy - scf_energy) < 1e-4


def test_forces_are_minus_the_slope_of_the_energy(
    tested: Engine, case: Case, single_point: Ran, tmp_path: Path
) -> None:
    for atom, axis in case.components:
        energies = []
        for sign in (1, -1):
            positions = np.array(WATER.positions)
            positions[atom, axis] += sign * SHIFT
            moved = Fragment(numbers=WATER.numbers, positions=positions)
            folder = tmp_path / f"{atom}{axis}{sign}"
            folder.mkdir()
            energies.append(good(run(tested, make_job(case, fragment=moved), folder)).energy)
        slope = (energies[0] - energies[1]) / (2 * SHIFT)
        assert abs(good(single_point).forces[atom, axis] + slope) < case.force_tolerance


def test_equal_jobs_give_equal_bytes(
    tested: Engine, case: Case, single_point: Ran, tmp_path: Path
) -> None:
    again = run(tested, make_job(case), tmp_path)
    assert again.files == single_point.files


def test_the_last_scf_rung_gives_the_same_numbers(
    tested: Engine, case: Case, single_point: Ran, tmp_path: Path
) -> None:
    job = make_job(case, scf=dict(tested.ladder.scf[-1].settings))
    found, plain = good(run(tested, job, tmp_path)), good(single_point)
    assert accepted(job, found)
    assert abs(found.energy - plain.energy) < case.level.thresholds.energy
    np.testing.assert_allclose(found.forces, plain.forces, atol=10 * case.level.thresholds.forces)


# what is never accepted


@pytest.mark.parametrize("code", [1, 137, -9, -11])
def test_a_result_of_a_process_that_failed_is_not_accepted(
    tested: Engine, single_point: Ran, code: int
) -> None:
    assert isinstance(tested.parse(single_point.job, single_point.files, Exit(code)), Failure)


def test_no_files_at_all_is_a_failure(tested: Engine, case: Case) -> None:
    outcome = tested.parse(make_job(case), {}, Exit(0))
    assert isinstance(outcome, Failure)
    assert outcome.kind in (FailureKind.CRASHED, FailureKind.BAD_OUTPUT)


def test_an_output_cut_anywhere_is_not_accepted(
    tested: Engine, case: Case, single_point: Ran
) -> None:
    for file in case.outputs:
        text = single_point.files[file].rstrip()
        for end in range(len(text)):
            files = {**single_point.files, file: text[:end]}
            outcome = tested.parse(single_point.job, files, Exit(0))
            assert not accepted(single_point.job, outcome), f"{file} cut at {end}"


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
@given(texts=st.lists(TEXT, max_size=6), code=st.integers(-15, 2))
def test_garbage_is_never_accepted(
    tested: Engine, case: Case, single_point: Ran, texts: list[str], code: int
) -> None:
    names = [*case.outputs, "failure.json", "stdout.txt", "stderr.txt", "job.json", "other"]
    files = dict(zip(names, texts, strict=False))
    outcome = tested.parse(single_point.job, files, Exit(code))
    assert not accepted(single_point.job, outcome)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_result_with_one_value_spoilt_never_raises(
    tested: Engine, case: Case, single_point: Ran, data: st.DataObject
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
    if isinstance(outcome, Result):
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
