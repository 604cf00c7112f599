"""Real GFN2-xTB optimisations of small dimers."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.optimize import BFGS

from qfarm import ladder, verdict
from qfarm.engines.base import Job
from qfarm.engines.tblite.settings import LADDER
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import OptimisationStep, Result
from support.needs import need

need(find_spec("tblite"), "tblite")

from qfarm.engines.tblite import compute as tblite_compute  # noqa: E402
from qfarm.engines.tblite import optimise as tblite_optimise  # noqa: E402

GFN2 = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic")
DIMER = Fragment(
    numbers=[8, 1, 1, 8, 1, 1],
    positions=[
        [-1.55, -0.11, 0.0],
        [-1.93, 0.76, 0.0],
        [-0.60, 0.04, 0.0],
        [1.35, 0.11, 0.0],
        [1.68, -0.37, -0.76],
        [1.68, -0.37, 0.76],
    ],
)
ROUGH = DIMER.model_copy(update={"positions": DIMER.positions * 0.9})


def stage(task: TaskKind = TaskKind.OPTIMISATION, **fields: Any) -> Stage:
    return Stage(name="preopt", task=task, level=GFN2, **fields)


def job(fragment: Fragment = DIMER, rung: str = "bfgs", **fields: Any) -> Job:
    geometry = dict(ladder.settings(LADDER.geometry, rung))
    return Job(fragment=fragment, stage=stage(**fields), geometry=geometry)


def compute(asked: Job) -> Result:
    found = tblite_compute.compute(asked)
    assert isinstance(found, Result), found
    return found


def failed(asked: Job) -> Failure:
    found = tblite_compute.compute(asked)
    assert isinstance(found, Failure)
    return found


@pytest.mark.parametrize("rung", [aid.name for aid in LADDER.geometry])
@pytest.mark.parametrize("max_force", [1e-2, 1e-3])
def test_every_rung_relaxes_the_water_dimer(rung: str, max_force: float) -> None:
    asked = job(ROUGH, rung, max_force=max_force)
    found = compute(asked)
    checks = verdict.judge(verdict.Subject(found, asked.stage, asked.fragment))
    assert all(check.passed for check in checks), checks
    assert np.linalg.norm(found.forces, axis=1).max() <= max_force
    assert found.energy == pytest.approx(-276.1685, abs=2e-3)


def test_the_trace_runs_from_the_start_to_the_result() -> None:
    found = compute(job())
    start = compute(Job(fragment=DIMER, stage=stage(TaskKind.SINGLE_POINT)))
    assert found.optimisation_trace[0].energy == pytest.approx(start.energy, abs=1e-6)
    assert found.optimisation_trace[0].max_force == pytest.approx(
        np.linalg.norm(start.forces, axis=1).max(), abs=1e-5
    )
    assert found.optimisation_trace[-1].energy == pytest.approx(found.energy, abs=1e-6)


def test_a_single_point_at_the_result_gives_the_result() -> None:
    found = compute(job())
    again = DIMER.model_copy(update={"positions": found.positions})
    single = compute(Job(fragment=again, stage=stage(TaskKind.SINGLE_POINT)))
    assert single.energy == found.energy
    np.testing.assert_allclose(single.forces, found.forces, rtol=0, atol=1e-12)
    assert single.scf_trace == found.scf_trace


@pytest.mark.parametrize(("rung", "steps"), [("bfgs", 3), ("bfgs-line-search", 1), ("bfgs", 1)])
def test_too_few_steps_fail_with_every_step_kept(rung: str, steps: int) -> None:
    failure = failed(job(ROUGH, rung, max_steps=steps))
    assert failure.kind is FailureKind.GEOMETRY_NOT_CONVERGED
    assert failure.evidence["steps"] == steps
    kept = failure.evidence["optimisation_trace"]
    assert isinstance(kept, list)
    trace = [OptimisationStep.model_validate(step) for step in kept]
    assert len(trace) == steps + 1
    assert trace[-1].energy < trace[0].energy


def test_an_optimiser_that_gives_up_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    class GivesUp(BFGS):
        def step(self, forces: Any = None) -> None:
            raise RuntimeError("LineSearch failed!")

    monkeypatch.setitem(tblite_optimise._OPTIMISERS, "bfgs", GivesUp)
    failure = failed(job())
    assert failure.kind is FailureKind.GEOMETRY_NOT_CONVERGED
    assert "LineSearch failed!" in failure.cause
    assert failure.evidence["steps"] == 0


@pytest.mark.parametrize("steps", [4, 12])
def test_fire_and_bfgs_share_the_steps(steps: int) -> None:
    asked = job(ROUGH, max_steps=steps, max_force=1e-6)
    failure = failed(asked.model_copy(update={"geometry": {"calm_steps": 8}}))
    assert failure.evidence["steps"] == steps


def test_fire_hands_over_when_the_forces_are_calm() -> None:
    plain, calmed = compute(job()), compute(job(rung="fire-then-bfgs"))
    assert plain.optimisation_trace[0].max_force < 0.5, "calm from the start"
    assert len(calmed.optimisation_trace) == len(plain.optimisation_trace)


def test_an_scc_failure_at_the_start_is_an_scc_failure() -> None:
    failure = failed(job().model_copy(update={"scf": {"max_iterations": 3}}))
    assert failure.kind is FailureKind.SCF_NOT_CONVERGED
    assert "optimisation_trace" not in failure.evidence


def test_one_atom_is_relaxed_at_once() -> None:
    found = compute(job(Fragment(numbers=[11], positions=[[1.0, 2.0, 3.0]], charge=1)))
    assert found.geometry_converged
    assert len(found.optimisation_trace) == 1
    assert np.array_equal(found.positions, [[1.0, 2.0, 3.0]])


def test_the_folder_holds_the_result_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.json").write_text(job().model_dump_json())
    tblite_compute.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"job.json", "result.json"}


def test_a_failure_is_written_too(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(job(ROUGH, max_steps=1).model_dump_json())
    tblite_compute.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"job.json", "failure.json"}
