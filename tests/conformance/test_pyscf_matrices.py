"""Matrices of real PySCF calculations: they must say what energies and orbitals say."""

from importlib.util import find_spec

import numpy as np
import pytest
from scipy.linalg import eigh

from qfarm.engines import inprocess
from qfarm.engines.base import Exit, Job
from qfarm.verdict import Subject, judge, outcome
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.matrices import NAMES
from qfarm_schemas.result import Result
from qfarm_schemas.units import HARTREE
from support import build
from support.needs import need

need(find_spec("pyscf"), "pyscf")

from qfarm.engines.pyscf import compute, matrices, scf  # noqa: E402
from qfarm.engines.pyscf.library import gto  # noqa: E402

HYDROXYL = Fragment(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], multiplicity=2)


def job(fragment: Fragment, asked: bool | str = ", ".join(NAMES)) -> Job:
    options = {} if asked is False else {"matrices": asked}
    level = LevelOfTheory(engine="pyscf", method="PBE0", basis="intermediate", options=options)
    return Job(fragment=fragment, stage=build.stage(level=level))


@pytest.fixture(scope="module", params=[build.WATER, HYDROXYL], ids=["closed", "open"])
def done(request: pytest.FixtureRequest) -> tuple[Job, Result]:
    asked = job(request.param)
    found = compute.compute(asked)
    assert isinstance(found, Result), found
    assert outcome(judge(Subject(found, asked.stage, request.param))) == Success()
    return asked, found


def test_the_fock_matrix_has_the_orbital_energies(done: tuple[Job, Result]) -> None:
    asked, found = done
    given = found.matrices.given()  # type: ignore[union-attr]
    spin = asked.fragment.multiplicity - 1
    electrons = int(asked.fragment.numbers.sum())
    occupied = ((electrons + spin) // 2, (electrons - spin) // 2)
    spins = given["fock"] if spin else [given["fock"]]
    levels = [eigh(fock, given["overlap"], eigvals_only=True) for fock in spins]
    pairs = list(zip(levels, occupied, strict=False))
    assert max(e[n - 1] for e, n in pairs) == pytest.approx(found.homo, abs=1e-4)
    assert min(e[n] for e, n in pairs) == pytest.approx(found.lumo, abs=1e-4)


def test_the_matrices_are_those_of_plain_pyscf(done: tuple[Job, Result]) -> None:
    asked, found = done
    given = found.matrices.given()  # type: ignore[union-attr]
    mol = scf.molecule(asked)
    assert np.allclose(given["overlap"], mol.intor("int1e_ovlp"), atol=1e-14)
    core = mol.intor("int1e_kin") + mol.intor("int1e_nuc")
    assert np.allclose(given["core"], core * HARTREE, atol=1e-10)
    density = given["density"] if given["density"].ndim == 3 else given["density"][None]
    assert (density * given["overlap"]).sum() == pytest.approx(mol.nelectron, abs=1e-9)
    assert all(np.array_equal(one, one.swapaxes(-1, -2)) for one in given.values())


def test_the_matrices_pass_through_the_files(done: tuple[Job, Result]) -> None:
    _, found = done
    text = {inprocess.RESULT: found.model_dump_json()}
    back = inprocess.parse(text, Exit(0))
    assert isinstance(back, Result)
    assert back.model_dump_json() == found.model_dump_json()


def test_functions_are_in_the_order_that_pyscf_prints() -> None:
    """Each with atom, shell and the Cartesian name of its real harmonic."""
    mol = gto.M(atom="Ar 0 0 0; C 0 0 2", basis="def2-tzvp", verbose=0)
    rows = matrices.functions(mol).tolist()
    assert len(rows) == mol.nao
    for (atom, n, l_, m), label in zip(rows, mol.ao_labels(fmt=None), strict=True):
        assert (atom, f"{n}{'spdf'[l_]}") == (label[0], label[2])
        if l_ < 3:
            assert _CARTESIAN[l_][m] == label[3]


_CARTESIAN = {
    0: {0: ""},
    1: {1: "x", -1: "y", 0: "z"},
    2: {-2: "xy", -1: "yz", 0: "z^2", 1: "xz", 2: "x2-y2"},
}


def test_only_what_is_asked_for_is_made() -> None:
    found = compute.compute(job(build.WATER, "overlap"))
    assert isinstance(found, Result)
    assert list(found.matrices.given()) == ["overlap"]  # type: ignore[union-attr]
    assert compute.compute(job(build.WATER, asked=False)).matrices is None  # type: ignore[union-attr]


def test_what_no_worker_could_read_is_refused_before_the_scf(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matrices, "LARGEST", 4 * 24**2 * 5)  # of 24 functions, four matrices
    monkeypatch.setattr(scf, "mean_field", lambda _: pytest.fail("an SCF was begun"))
    found = compute.compute(job(build.WATER))
    assert isinstance(found, Failure)
    assert "matrices of 24 basis functions" in found.cause
    assert "fewer" in found.remedy
