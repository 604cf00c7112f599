"""What a run of every engine gives: numbers, units, forces, rungs, ways to fail."""

import json
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from conformance.engine_cases import CASES, WATER, Case, Way
from conformance.engine_runs import Made, after, climbed, kind_of, make_job, run, runnable
from qfarm import verdict
from qfarm.engines.base import Engine
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.result import Result
from support.needs import has_gpu
from support.run_engine import accepted

SHIFT = 1e-3
"""A: step of the finite differences."""


def good(ran: Made) -> Result:
    assert isinstance(ran.outcome, Result), ran.outcome
    missed = [check for check in verdict.judge(_subject(ran, ran.outcome)) if not check.passed]
    assert not missed, missed
    return ran.outcome


def _subject(ran: Made, result: Result) -> verdict.Subject:
    return verdict.Subject(result, ran.job.stage, ran.job.fragment)


@pytest.fixture(scope="session")
def optimisation(tested: Engine, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Of the single point's water, where the engine can."""
    assert TaskKind.OPTIMISATION in case.tasks
    job = make_job(case, TaskKind.OPTIMISATION)
    return run(tested, job, tmp_path_factory.mktemp("optimisation"))


@pytest.mark.parametrize("task", list(TaskKind))
def test_water_is_accepted(
    tested: Engine, case: Case, task: TaskKind, request: pytest.FixtureRequest
) -> None:
    if task not in case.tasks:
        assert tested.refuse(WATER, case.level, task)
        return
    single = task is TaskKind.SINGLE_POINT
    result = good(request.getfixturevalue("single_point" if single else "optimisation"))
    assert result.scf_trace
    assert result.engine_version
    assert single == (not result.optimisation_trace)
    assert single == (result.geometry_converged is None)
    assert single == np.array_equal(result.positions, WATER.positions)


def test_a_run_leaves_nothing_else(single_point: Made, tested: Engine, case: Case) -> None:
    known = (*tested.write(single_point.job), *case.outputs, "stdout.txt", "stderr.txt")
    left = {path.name for path in single_point.folder.iterdir() if path.is_file()}
    assert set(case.outputs) <= left
    for name in left - set(known):
        assert any(fnmatch(name, pattern) for pattern in case.leaves), name


def test_units_are_ours(single_point: Made, case: Case) -> None:
    result = good(single_point)
    assert case.energy[0] < result.energy < case.energy[1]
    assert 0.5 < np.abs(result.forces).max() < 5.0
    for charges in result.charges.values():
        assert abs(charges.sum()) < 1e-4
    if not case.real:
        return
    assert 0.3 < np.linalg.norm(result.dipole) < 0.6
    assert result.dipole[2] < 0, "the dipole points from oxygen to the hydrogens"
    assert result.homo is not None
    assert result.lumo is not None
    assert -16 < result.homo < -5 < 0 < result.lumo < 6
    for charges in result.charges.values():
        assert -1.0 < charges[0] < -0.2


def test_the_scf_trace_ends_at_the_energy(single_point: Made) -> None:
    """With dispersion, where the program adds it in each iteration, else without."""
    result = good(single_point)
    ends = (result.energy, result.energy - result.energy_parts.get("MBD", 0.0))
    assert min(abs(result.scf_trace[-1].energy - end) for end in ends) < 1e-4


def test_what_the_engine_checked_is_named(single_point: Made) -> None:
    checks = good(single_point).checks
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert check.required
        assert check.found
        assert check.kind, "what a miss of this check means"


def test_forces_are_minus_the_slope_of_the_energy(
    tested: Engine, case: Case, single_point: Made, tmp_path: Path
) -> None:
    level = case.gradient_level or case.level
    here = single_point
    if level != case.level:
        here = run(tested, make_job(case, level=level), tmp_path / "here")
    for atom, axis in case.components:
        energies = []
        for sign in (1, -1):
            positions = np.array(WATER.positions)
            positions[atom, axis] += sign * SHIFT
            moved = Fragment(numbers=WATER.numbers, positions=positions)
            job = make_job(case, fragment=moved, level=level)
            energies.append(good(run(tested, job, tmp_path / f"{atom}{axis}{sign}")).energy)
        slope = (energies[0] - energies[1]) / (2 * SHIFT)
        assert abs(good(here).forces[atom, axis] + slope) < case.force_tolerance


def test_equal_jobs_give_equal_numbers_and_outputs(
    tested: Engine, case: Case, single_point: Made, tmp_path: Path
) -> None:
    again = run(tested, make_job(case), tmp_path)
    if case.repeats and has_gpu():
        assert abs(good(again).energy - good(single_point).energy) < case.repeats
        return
    assert good(again).model_dump_json() == good(single_point).model_dump_json()
    if case.library:
        assert again.files == single_point.files


# rungs


def test_every_scf_rung_gives_the_same_numbers(
    tested: Engine, case: Case, single_point: Made, tmp_path: Path
) -> None:
    """Each goes on from what the one before has left; a start-up is never accepted."""
    plain, before = good(single_point), single_point
    limits, kind = case.level.thresholds, FailureKind.SCF_NOT_CONVERGED
    for aid in tested.ladder.scf[1:]:
        job = climbed(case, "scf", aid, TaskKind.SINGLE_POINT)
        before = after(tested, before, job, kind, tmp_path / aid.name)
        kind = FailureKind.SCF_NOT_CONVERGED
        if aid.name in case.start_ups:
            kind = FailureKind.START_UP
            assert isinstance(before.outcome, Failure)
            assert before.outcome.kind is kind, before.outcome
            continue
        found = good(before)
        assert abs(found.energy - plain.energy) < (limits.energy or 1e-5), aid.name
        atol = 10 * (limits.forces or 1e-4)
        np.testing.assert_allclose(found.forces, plain.forces, atol=atol)


@pytest.mark.parametrize("side", ["overlap", "memory"])
def test_the_last_rung_of_the_other_sides_gives_a_result(
    tested: Engine, case: Case, tmp_path: Path, side: str
) -> None:
    for aid in getattr(tested.ladder, side)[-1:]:
        good(run(tested, climbed(case, side, aid, TaskKind.SINGLE_POINT), tmp_path))


def test_every_geometry_rung_finds_the_same_minimum(
    tested: Engine, case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if TaskKind.OPTIMISATION not in case.tasks:
        assert not tested.ladder.geometry
        return
    plain = good(request.getfixturevalue("optimisation"))
    for aid in tested.ladder.geometry[1:]:
        job = climbed(case, "geometry", aid, TaskKind.OPTIMISATION)
        found = good(run(tested, job, tmp_path / aid.name))
        assert abs(found.energy - plain.energy) < 1e-4  # (0.01 eV/A)^2 over 10 eV/A^2 and more


# ways to fail


WAYS = [(name, way) for name, case in CASES.items() for way in case.ways]


@pytest.mark.parametrize(("engine_name", "way"), WAYS)
def test_every_way_to_fail_has_its_kind(engine_name: str, way: str, tmp_path: Path) -> None:
    chosen, case = runnable(engine_name), CASES[engine_name]
    plan, made = _plan(case.ways[way], tmp_path), case.ways[way]
    job = make_job(case, made.task, **made.fields)
    ran = run(chosen, job, tmp_path / "run", plan)
    assert not accepted(job, ran.outcome)
    assert kind_of(job, ran.outcome) is made.kind, ran.outcome
    if isinstance(ran.outcome, Failure):
        assert ran.outcome.cause
        assert ran.outcome.remedy
        assert all(check.remedy for check in ran.outcome.checks if not check.passed)


def _plan(way: Way, folder: Path) -> str:
    if not way.does:
        return ""
    path = folder / "plan.json"
    path.write_text(json.dumps([{"do": way.does}]))
    return str(path)
