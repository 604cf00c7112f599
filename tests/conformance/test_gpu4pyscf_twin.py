"""The GPU's code path on the CPU: the same numbers as PySCF, to the last digit."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from qfarm.engines.base import Job
from qfarm.engines.pyscf import ENGINE
from qfarm.ladder import settings
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result
from support import build
from support.needs import need

need(find_spec("pyscf"), "pyscf")

from qfarm.engines.gpu4pyscf.twin import Twins  # noqa: E402
from qfarm.engines.pyscf import compute  # noqa: E402
from support.gpu_on_cpu import Cpu  # noqa: E402

HYDROXYL = Fragment(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], multiplicity=2)
APART = Fragment(numbers=[11, 17], positions=[[0, 0, 0], [0, 0, 12.0]])
RUNGS = [aid.name for aid in ENGINE.ladder.scf]
EQUAL = set(Result.model_fields) - {"convergence", "engine_version"}


def job(fragment: Fragment, rung: str = "diis", **fields: Any) -> Job:
    options = fields.pop("options", {})
    level = LevelOfTheory(
        engine="pyscf",
        method="PBE0",
        dispersion="mbd",
        mbd_beta=0.85,
        basis="intermediate",
        options=options,
    )
    aids = {**settings(ENGINE.ladder.scf, rung), **fields}
    return Job(fragment=fragment, stage=build.stage(level=level), scf=aids)


def both(asked: Job) -> tuple[Result | Failure, Result | Failure]:
    return compute.compute(asked), compute.compute(asked, Twins(Cpu()))


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("fragment", [build.WATER, HYDROXYL], ids=["closed", "open"])
def test_every_rung_gives_the_numbers_of_pyscf(fragment: Fragment, rung: str) -> None:
    host, twin = both(job(fragment, rung))
    assert isinstance(host, Result)
    assert isinstance(twin, Result)
    assert twin.model_dump_json(include=EQUAL) == host.model_dump_json(include=EQUAL)
    assert twin.engine_version.startswith("no GPU, ")
    same = {"energy", "eigenvalues", "density"}
    assert twin.convergence.model_dump(include=same) == host.convergence.model_dump(include=same)


def test_the_change_of_forces_is_what_the_estimate_bounds() -> None:
    loose = {"conv_tol": 1e-5, "conv_tol_grad": 1e-3, "conv_tol_density": 1e-3}
    host, twin = both(job(build.WATER, **loose, conv_tol_eigenvalues=0.1))
    assert isinstance(host, Result)
    assert isinstance(twin, Result)
    assert host.convergence.forces is not None
    assert twin.convergence.forces is not None
    assert 1.0 < host.convergence.forces / twin.convergence.forces < 5.0


def test_an_scf_that_does_not_converge_is_the_same_failure() -> None:
    host, twin = both(job(build.WATER, max_cycle=3))
    assert isinstance(twin, Failure)
    assert twin.kind is FailureKind.SCF_NOT_CONVERGED
    assert twin.model_dump_json() == host.model_dump_json()


def test_an_unstable_solution_is_the_same_failure() -> None:
    host, twin = both(job(APART, "newton"))
    assert isinstance(twin, Failure)
    assert twin.kind is FailureKind.UNSTABLE_SOLUTION
    assert twin.model_dump_json() == host.model_dump_json()


def test_matrices_are_those_of_pyscf() -> None:
    host, twin = both(job(build.WATER, options={"matrices": True}))
    assert isinstance(host, Result)
    assert isinstance(twin, Result)
    assert host.matrices is not None
    assert twin.matrices is not None
    assert np.array_equal(host.matrices.fock, twin.matrices.fock)
