"""Real PySCF calculations: numbers against plain PySCF and finite differences, and refusals."""

import multiprocessing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qfarm.engines import inprocess
from qfarm.engines.base import Exit, Job
from qfarm.engines.pyscf import ENGINE
from qfarm.ladder import GiveUp, decide
from qfarm.ladder import settings as rung_settings
from qfarm.verdict import Subject, judge, outcome
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.config import Stage
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result
from qfarm_schemas.units import BOHR, HARTREE, HARTREE_PER_BOHR
from support import build, run_engine
from support.needs import need

need(find_spec("pyscf"), "pyscf")

from qfarm.engines.pyscf import compute, quadrature, scf, stability  # noqa: E402

LOOSE: dict[str, Any] = {
    "conv_tol": 1e-4,
    "conv_tol_grad": 1e-2,
    "conv_tol_eigenvalues": 1.0,
    "conv_tol_density": 1e-2,
}
NO_DISPERSION = {"dispersion": "none", "mbd_beta": None}
METHANOL = Fragment(
    numbers=[6, 8, 1, 1, 1, 1],
    positions=[
        [-0.047, 0.664, 0.0],
        [-0.047, -0.758, 0.0],
        [-1.093, 0.969, 0.0],
        [0.878, -1.046, 0.0],
        [0.438, 1.071, 0.889],
        [0.438, 1.071, -0.889],
    ],
)
HYDROXYL = Fragment(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], multiplicity=2)
APART = Fragment(numbers=[11, 17], positions=[[0, 0, 0], [0, 0, 12.0]])


def job(fragment: Fragment = build.WATER, rung: str = "diis", **scf_settings: Any) -> Job:
    level = LevelOfTheory(
        engine="pyscf", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="intermediate"
    )
    aids = {**rung_settings(ENGINE.ladder.scf, rung), **scf_settings}
    return Job(fragment=fragment, stage=build.stage(level=level), scf=aids)


def result(asked: Job) -> Result:
    found = compute.compute(asked)
    assert isinstance(found, Result), found
    return found


def failure(asked: Job) -> Any:
    found = compute.compute(asked)
    assert isinstance(found, Failure), found
    return found


@pytest.fixture(scope="module")
def water() -> Result:
    return result(job())


@pytest.fixture(scope="module")
def plain() -> Any:
    """Water by nothing but PySCF's documented interface."""
    from pyscf import dft, gto

    mol = gto.M(
        atom=[
            (int(n), tuple(at))
            for n, at in zip(build.WATER.numbers, build.WATER.positions / BOHR, strict=True)
        ],
        unit="Bohr",
        basis="def2-svp",
        verbose=0,
    )
    mean_field = dft.RKS(mol, xc="PBE0").density_fit(auxbasis="def2-universal-jkfit")
    mean_field._chkfile.close()
    mean_field.chkfile = None
    mean_field.grids.level = 3
    mean_field.conv_tol, mean_field.conv_tol_grad = 1e-11, 1e-7
    mean_field.kernel()
    return mean_field


def test_energy_is_plain_pyscf_plus_mbd(water: Result, plain: Any) -> None:
    assert water.energy_parts["PBE0"] == pytest.approx(plain.e_tot * HARTREE, abs=1e-6)
    assert water.energy == pytest.approx(sum(water.energy_parts.values()), abs=1e-9)
    assert -0.05 < water.energy_parts["MBD"] < -0.001


def test_properties_are_plain_pyscf(water: Result, plain: Any) -> None:
    occupied = plain.mo_energy[plain.mo_occ > 0].max()
    assert water.homo == pytest.approx(occupied * HARTREE, abs=1e-4)
    assert water.dipole == pytest.approx(
        plain.dip_moment(unit="AU", verbose=0) * BOHR, abs=1e-6
    )  # neutral: the origin does not matter
    assert water.charges["mulliken"] == pytest.approx(plain.mulliken_pop(verbose=0)[1], abs=1e-5)


def test_forces_are_plain_pyscf_without_dispersion(plain: Any) -> None:
    stage = build.stage(level=job().level.model_copy(update=NO_DISPERSION))
    bare = result(Job(fragment=build.WATER, stage=stage))
    expected = -plain.nuc_grad_method().kernel() * HARTREE_PER_BOHR
    assert set(bare.energy_parts) == {"PBE0"}
    assert bare.forces == pytest.approx(expected, abs=1e-4)


def test_water_looks_like_water(water: Result) -> None:
    assert water.hirshfeld_ratios == pytest.approx([0.93, 0.56, 0.56], abs=0.05)
    assert water.charges["hirshfeld"].sum() == pytest.approx(0.0, abs=1e-3)
    assert np.linalg.norm(water.dipole) == pytest.approx(0.386, abs=0.06)  # 1.85 D measured
    assert water.spin_squared is None
    assert any("PBE0+MBD/def2-SVP" in note for note in water.notes)


def test_water_is_accepted_with_room_to_spare(water: Result) -> None:
    assert isinstance(outcome(judge(Subject(water, job().stage, build.WATER))), Success)
    reached = water.convergence
    last = water.scf_trace[-1]
    assert abs(last.energy_change or 1.0) == pytest.approx(reached.energy)
    assert abs(last.eigenvalue_change or 1.0) == pytest.approx(reached.eigenvalues)
    assert last.density_change == pytest.approx(reached.density)


def test_forces_are_the_derivative_of_the_energy() -> None:
    """Central differences of PBE0 + MBD.

    2 meV/A covers the two approximations: the answer of the Hirshfeld volumes (0.2-0.8 meV/A) and
    of the quadrature grid.
    """
    forces, step = result(job(METHANOL)).forces, 0.005
    for atom, axis in ((0, 1), (3, 0)):
        up, down = (energy(METHANOL, atom, axis, sign * step) for sign in (1, -1))
        assert forces[atom, axis] == pytest.approx((down - up) / (2 * step), abs=2e-3)


def energy(fragment: Fragment, atom: int, axis: int, step: float) -> float:
    positions = np.array(fragment.positions)
    positions[atom, axis] += step
    return result(job(fragment.model_copy(update={"positions": positions}))).energy


def test_loose_convergence_is_refused() -> None:
    loose = job(**LOOSE)
    refused = outcome(judge(Subject(result(loose), loose.stage, build.WATER)))
    assert isinstance(refused, Failure)
    assert refused.kind is FailureKind.THRESHOLD_MISSED
    assert {"SCF density change", "SCF forces change"} <= set(refused.evidence)


@pytest.mark.parametrize("factor", [1.0, 1e-3], ids=["loose", "tight"])
@pytest.mark.parametrize("fragment", [build.WATER, HYDROXYL], ids=["water", "OH"])
def test_the_force_change_is_measured_not_flattered(fragment: Fragment, factor: float) -> None:
    """Against the difference of two full gradients, at the last two densities of one SCF."""
    scaled: dict[str, Any] = {name: value * factor for name, value in LOOSE.items()}
    asked = job(fragment, **scaled)
    solution = scf.solve(asked, compute.settings(asked))
    trace = solution.trace
    _, gradient = compute.properties.gradient(solution.mean_field)
    measured = compute.convergence(trace.before, trace.after, gradient, trace.overlap).forces
    before, after = (
        gradient.method.grad_elec(state.mo_energy, state.mo_coeff, state.mo_occ)
        for state in (trace.before, trace.after)
    )
    true = np.linalg.norm(after - before, axis=1).max() * HARTREE_PER_BOHR
    assert 1.0 < measured / true < 5.0


def test_an_open_shell_is_unrestricted_and_tested() -> None:
    hydroxyl = result(job(HYDROXYL))
    assert hydroxyl.spin_squared == pytest.approx(0.75, abs=0.01)
    assert hydroxyl.stable is True


def test_every_aided_rung_ends_at_the_same_energy(water: Result) -> None:
    for rung in ("damped", "level-shift", "newton"):
        found = result(job(rung=rung))
        assert found.energy == pytest.approx(water.energy, abs=1e-6), rung
        assert found.stable is True
        assert isinstance(outcome(judge(Subject(found, job().stage, build.WATER))), Success)


def test_ions_pulled_apart_climb_the_ladder_and_are_refused() -> None:
    """NaCl at 12 A: a closed shell cannot describe the neutral atoms it falls into."""
    stage = job(APART).stage
    history: list[Any] = []
    for number, aid in enumerate(ENGINE.ladder.scf, start=1):
        found = failure(job(APART, aid.name))
        history.append(build.attempt(found, number))
        _can_be_acted_on(found)
    assert history[0].outcome.kind is FailureKind.SCF_NOT_CONVERGED
    assert history[-1].outcome.kind is FailureKind.UNSTABLE_SOLUTION
    assert history[-1].outcome.evidence["lowest orbital Hessian eigenvalue, Ha"] < -1e-3
    end = decide(history, stage, ENGINE.ladder, APART.n_atoms)
    assert isinstance(end, GiveUp)
    assert "newton" in end.reason


def _can_be_acted_on(found: Any) -> None:
    assert "multiplicity" in found.remedy
    assert "HOMO-LUMO gap, eV" in found.evidence
    trace = found.evidence["scf_trace"]
    assert len(trace) == found.evidence["cycles"] > 5
    assert {"energy", "energy_change", "orbital_gradient"} <= set(trace[-1])
    assert Failure.model_validate_json(found.model_dump_json()) == found


def test_a_stretched_bond_in_an_unstable_singlet_is_refused() -> None:
    stretched = Fragment(numbers=[7, 7], positions=[[0, 0, 0], [0, 0, 2.5]])
    found = failure(job(stretched))
    assert found.kind is FailureKind.UNSTABLE_SOLUTION
    assert "stretched bond" in found.remedy


def test_a_closed_shell_that_breaks_spin_symmetry_is_noted() -> None:
    """Singlet O2 is internally stable, and a triplet; PySCF's own test agrees with the note."""
    oxygen = Fragment(numbers=[8, 8], positions=[[0, 0, 0], [0, 0, 1.21]])
    found = result(job(oxygen))
    assert found.stable is True
    (note,) = (note for note in found.notes if "broken-symmetry" in note)
    assert "multiplicity 3" in note
    triplet = result(job(oxygen.model_copy(update={"multiplicity": 3})))
    assert triplet.energy < found.energy
    assert not [note for note in triplet.notes if "broken-symmetry" in note]
    solver = scf.solve(job(oxygen), compute.settings(job(oxygen))).mean_field
    assert solver.stability(external=True, return_status=True, verbose=0)[2:] == (True, False)


def test_the_triplet_eigenvalue_is_the_lowest_curvature_of_the_energy() -> None:
    """Na2: against the energy of determinants whose spins turn HOMO and LUMO opposite ways."""
    sodium = job(Fragment(numbers=[11, 11], positions=[[0, 0, 0], [0, 0, 3.08]]))
    solver = scf.solve(sodium, compute.settings(sodium)).mean_field
    eigenvalue = stability.lowest_triplet_mode(solver, solver.grids)
    unrestricted, step = solver.to_uks(), 0.02

    def energy_at(angle: float) -> float:
        turned = [_homo_lumo_turned(solver, sign * angle) for sign in (1, -1)]
        occupations = [(solver.mo_occ > 0).astype(float)] * 2
        return float(unrestricted.energy_tot(dm=unrestricted.make_rdm1(turned, occupations)))

    curvature = (energy_at(step) + energy_at(-step) - 2 * energy_at(0)) / step**2
    assert 0.02 < eigenvalue < curvature < 1.3 * eigenvalue


def _homo_lumo_turned(solver: Any, angle: float) -> Any:
    lumo = int((solver.mo_occ > 0).sum())
    pair, turned = solver.mo_coeff[:, lumo - 1 : lumo + 1], solver.mo_coeff.copy()
    turned[:, lumo - 1] = np.cos(angle) * pair[:, 0] + np.sin(angle) * pair[:, 1]
    return turned


def test_numbers_do_not_depend_on_the_memory_there_is() -> None:
    """Blocks of the quadrature have one size, and fitted integrals may lie on disk."""
    small, large = (
        result(job().model_copy(update={"memory_mb": memory})) for memory in (10, 100_000)
    )
    assert small.energy == pytest.approx(large.energy, abs=1e-9)
    assert small.forces == pytest.approx(large.forces, abs=1e-8)


def test_the_quadrature_keeps_to_its_memory() -> None:
    solver = scf.mean_field(job(METHANOL))
    solver.grids.build()
    limit = quadrature.BLOCK_MB * 1e6
    blocks = solver._numint.block_loop(solver.mol, solver.grids, deriv=2, max_memory=4000)
    assert max(orbitals.nbytes for orbitals, *_ in blocks) <= limit
    assert len(solver.grids.weights) * 10 * solver.mol.nao * 8 > limit


POISON = "dft_rks_RKS_small_rho_cutoff = 1e-2\ndft_numint_occdrop = 0.5\nUNIT = 'au'\n"


@pytest.mark.parametrize("where", ["home", "here", "variable"])
def test_the_users_configuration_of_pyscf_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, water: Result, where: str
) -> None:
    """In a process of its own, which has not imported PySCF yet."""
    folder, home = tmp_path / "run", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    kept = (folder if where == "here" else home) / ".pyscf_conf.py"
    kept.write_text(POISON)
    monkeypatch.setenv("HOME", str(home))
    if where == "variable":
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("PYSCF_CONFIG_FILE", str(kept))
    found = run_engine.run(ENGINE, job(), folder).outcome
    assert isinstance(found, Result), found
    assert found.energy == pytest.approx(water.energy, abs=1e-9)


def test_atoms_on_one_another_are_refused_at_once() -> None:
    collapsed = Fragment(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 0]])
    assert failure(job(collapsed)).kind is FailureKind.BAD_GEOMETRY


def test_nan_in_the_scf_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def nan_energy(*_: Any, **__: Any) -> float:
        return float("nan")

    from pyscf.dft.rks import RKS

    monkeypatch.setattr(RKS, "energy_tot", nan_energy)
    found = failure(job())
    assert found.kind is FailureKind.SCF_NOT_CONVERGED
    assert "nan" in found.cause


def test_mbd_collapse_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = compute.properties.partition

    def swollen(*args: Any) -> Any:
        shares = partition(*args)
        return type(shares)(shares.ratios * 50, shares.charges)

    monkeypatch.setattr(compute.properties, "partition", swollen)
    found = failure(job())
    assert found.kind is FailureKind.METHOD_FAILED
    assert found.remedy


def test_ions_and_the_basis_are_noted() -> None:
    sodium = Fragment(numbers=[11], positions=[[0, 0, 0]], charge=1)
    notes = result(job(sodium)).notes
    assert any("atom 1: 0." in note and "known limit" in note for note in notes)
    assert any("charge +1" in note for note in notes)


def test_dipole_of_an_ion_is_about_the_centre_of_nuclear_charge() -> None:
    hydroxide = Fragment(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], charge=-1)
    moved = hydroxide.model_copy(update={"positions": hydroxide.positions + 3.0})
    here, there = result(job(hydroxide)), result(job(moved))
    assert there.dipole == pytest.approx(here.dipole, abs=1e-3)
    assert here.dipole[2] > 0.05


def test_equal_jobs_give_equal_bytes_and_leave_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        _run_in_fork(folder)
    first, second = ((folder / inprocess.RESULT).read_bytes() for folder in folders)
    assert first == second
    assert sorted(path.name for path in folders[0].iterdir()) == [inprocess.JOB, inprocess.RESULT]
    assert capfd.readouterr() == ("", "")
    files = {path.name: path.read_text() for path in folders[0].iterdir()}
    assert isinstance(ENGINE.parse(job(), files, Exit(0)), Result)


def _run_in_fork(folder: Path) -> None:
    folder.mkdir()
    for name, text in ENGINE.write(job()).items():
        (folder / name).write_text(text)
    child = multiprocessing.get_context("fork").Process(target=compute.main, args=(folder,))
    child.start()
    child.join()
    assert child.exitcode == 0


def test_stage_of_the_tests_is_a_single_point() -> None:
    assert isinstance(job().stage, Stage)
    assert ENGINE.refuse(build.WATER, job().level, job().stage.task) is None
