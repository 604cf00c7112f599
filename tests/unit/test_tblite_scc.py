"""Real GFN-xTB single points: honest thresholds, the ladder, forces, dipole, frontier orbitals."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from qfarm import ladder, verdict
from qfarm.engines.base import Job
from qfarm.engines.tblite.settings import LADDER, SccSettings
from qfarm_schemas.attempt import Attempt, Success
from qfarm_schemas.config import Stage
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Convergence, Result, ScfIteration
from qfarm_schemas.units import BOHR, HARTREE, KELVIN
from support import build
from support.needs import need

need(find_spec("tblite"), "tblite")

from tblite import interface  # noqa: E402
from tblite.exceptions import TBLiteRuntimeError  # noqa: E402

from qfarm.engines.tblite import compute as tblite_compute  # noqa: E402
from qfarm.engines.tblite import scc as tblite_scc  # noqa: E402

QUANTITIES = ("energy", "eigenvalues", "density", "forces")
FORMATE = Fragment(
    numbers=[6, 8, 8, 1],
    positions=[[0.02, 0, 0.31], [0, 1.13, -0.21], [0, -1.13, -0.25], [0, 0, 1.44]],
    charge=-1,
)


def pair(symbols: tuple[int, int], distance: float) -> Fragment:
    return Fragment(numbers=list(symbols), positions=[[0, 0, 0], [0, 0, distance]])


NACL, LIF, O2 = (11, 17), (3, 9), (8, 8)


def stage(method: str = "GFN2-xTB", **options: Any) -> Stage:
    level = LevelOfTheory(engine="tblite", method=method, dispersion="intrinsic", options=options)
    return build.stage(level=level)


def job(fragment: Fragment = build.WATER, asked: Stage | None = None, **scf: Any) -> Job:
    return Job(fragment=fragment, stage=asked or stage(), scf=scf)


def compute(asked: Job) -> Result:
    found = tblite_compute.compute(asked)
    assert isinstance(found, Result), found
    return found


def rung(name: str) -> dict[str, Any]:
    return dict(ladder.settings(LADDER.scf, name))


def missed(asked: Job, found: Result) -> set[str]:
    checks = verdict.judge(verdict.Subject(found, asked.stage, asked.fragment))
    return {check.name for check in checks if not check.passed}


# the four quantities


def test_loose_accuracy_shows_in_all_four_numbers_and_is_refused() -> None:
    runs = [compute(job(accuracy=accuracy)).convergence for accuracy in (1000, 10, 0.1)]
    for quantity in QUANTITIES:
        found = [getattr(run, quantity) for run in runs]
        assert found[0] > 10 * found[1] > 100 * found[2] > 0, quantity
    loose = job(accuracy=1000)
    assert len(missed(loose, compute(loose))) == 4
    assert not missed(job(), compute(job()))


@pytest.mark.parametrize("fragment", [build.WATER, FORMATE, pair(NACL, 3.0)])
def test_the_numbers_bound_what_is_left(fragment: Fragment) -> None:
    rough, best = compute(job(fragment, accuracy=10.0)), compute(job(fragment))
    bounds = rough.convergence.model_dump()
    assert abs(rough.energy - best.energy) <= bounds["energy"]
    left = np.abs(rough.charges["mulliken"] - best.charges["mulliken"]).max()
    assert left <= bounds["density"]
    assert np.abs(rough.forces - best.forces).max() <= bounds["forces"]


def state(raw: dict[str, Any]) -> Any:
    return tblite_scc.State(raw, ())


def test_the_formulas() -> None:
    raw = {
        "energy": -1.0,
        "gradient": np.array([[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]]),
        "charges": np.array([0.1, -0.1]),
        "density-matrix": np.eye(2),
        "orbital-energies": np.array([-0.5, 0.1]),
        "orbital-occupations": np.array([2.0, 0.0]),
    }
    other = raw | {
        "energy": -1.5,
        "gradient": np.array([[0.1, 0.2, 0.0], [-0.1, 0.0, 0.0]]),
        "charges": np.array([0.1, -0.2]),
        "density-matrix": np.array([[1.0, 0.3], [0.3, 1.0]]),
        "orbital-occupations": np.array([1.0, 1.0]),
    }
    found = tblite_scc.changes(state(raw), state(other))
    assert isinstance(found, Convergence)
    expected = (0.5 * HARTREE, 0.6 * HARTREE, 0.3, 0.2 * HARTREE / BOHR)
    assert [getattr(found, quantity) for quantity in QUANTITIES] == pytest.approx(expected)


def test_the_atom_whose_charge_cannot_change_is_judged_by_its_density() -> None:
    raw = {
        "energy": 0.0,
        "gradient": np.zeros((1, 3)),
        "charges": np.array([1.0]),
        "density-matrix": np.eye(1),
        "orbital-energies": np.zeros(1),
        "orbital-occupations": np.zeros(1),
    }
    other = raw | {"density-matrix": 2 * np.eye(1)}
    assert tblite_scc.changes(state(raw), state(other)).density == 1.0


# the ladder


def test_an_scc_that_fails_leaves_its_trace() -> None:
    failure = tblite_compute.compute(job(max_iterations=4))
    assert failure.kind is FailureKind.SCF_NOT_CONVERGED
    assert failure.evidence["iterations"] == 4
    whole = compute(job()).scf_trace
    kept = [ScfIteration.model_validate(one) for one in failure.evidence["scf_trace"]]
    assert kept == list(whole[:4])


@pytest.mark.parametrize(
    ("fragment", "helps"),
    [
        (build.WATER, "plain"),
        (pair(NACL, 6.0), "damped|ramp"),
        (pair(NACL, 8.0), "damped|ramp"),
        (pair(LIF, 12.0), "ramp"),
    ],
)
def test_the_ladder_is_climbed_until_it_helps(fragment: Fragment, helps: str) -> None:
    history: list[Attempt] = []
    while isinstance(step := ladder.decide(history, stage(), LADDER, 2), ladder.Retry):
        found = tblite_compute.compute(job(fragment, **rung(step.rung.scf)))
        result = Success() if isinstance(found, Result) else found
        history.append(build.attempt(result, len(history) + 1, rung=step.rung))
    assert isinstance(step, ladder.Done)
    assert re.search(helps, history[-1].rung.scf)


def test_a_ramp_ends_at_the_temperature_of_the_level() -> None:
    apart = pair(NACL, 4.5)
    ramped = compute(job(apart, **rung("temperature-ramp")))
    assert ramped.energy == pytest.approx(compute(job(apart)).energy, abs=1e-5)
    hot = compute(job(apart, stage(electronic_temperature=5000), **rung("temperature-ramp")))
    assert abs(hot.energy - ramped.energy) > 0.1


class Scripted:
    """Stands in for tblite's calculator where its answer cannot be provoked at will."""

    def __init__(self, answer: Callable[[Any, float], Any]) -> None:
        self.answer = answer
        self.temperatures: list[float] = []

    def update(self, positions: Any) -> None: ...

    def set(self, name: str, value: Any) -> None:
        if name == "temperature":
            self.temperatures.append(round(value * HARTREE / KELVIN, 6))

    def singlepoint(self, start: Any, copy: bool) -> Any:
        return self.answer(start, self.temperatures[-1])


def scripted(answer: Callable[[Any, float], Any], **settings: Any) -> tuple[Any, Scripted]:
    calculator = Scripted(answer)
    scc = tblite_scc.Scc(calculator, [], SccSettings.model_validate(settings), 300.0)
    return scc, calculator


GOOD = {"energy": -1.0, "gradient": np.zeros((1, 3))}
POINT = np.zeros((1, 3))


def test_a_ramp_hands_each_state_to_the_next_temperature() -> None:
    starts = []

    def answer(start: Any, kelvin: float) -> Any:
        starts.append(start["kelvin"] if start else None)
        return GOOD | {"kelvin": kelvin}

    scc, calculator = scripted(answer, start_temperature=4800.0, temperatures=5)
    found = scc.solve(POINT)
    assert calculator.temperatures == [4800.0, 2400.0, 1200.0, 600.0, 300.0]
    assert starts == [None, 4800.0, 2400.0, 1200.0, 600.0]
    assert found.raw["kelvin"] == 300.0


def test_an_scc_that_cannot_start_from_the_last_geometry_starts_anew() -> None:
    def answer(start: Any, kelvin: float) -> Any:
        if start and start["kelvin"] == 0:
            raise TBLiteRuntimeError("SCF not converged in 250 cycles")
        return GOOD | {"kelvin": kelvin}

    scc, calculator = scripted(answer, start_temperature=600.0, temperatures=2)
    found = scc.step(POINT, state({**GOOD, "kelvin": 0.0}))
    assert isinstance(found, tblite_scc.State)
    assert calculator.temperatures == [300.0, 600.0, 300.0]


def test_a_state_that_does_not_hold_at_a_tighter_accuracy_is_a_failure() -> None:
    def answer(start: Any, kelvin: float) -> Any:
        if start:
            raise TBLiteRuntimeError("SCF not converged in 250 cycles")
        return GOOD

    scc, _ = scripted(answer)
    failure = scc.confirm(POINT, scc.solve(POINT))
    assert failure.kind is FailureKind.SCF_NOT_CONVERGED


def test_a_good_start_needs_no_ramp() -> None:
    scc, calculator = scripted(lambda start, kelvin: GOOD, start_temperature=600.0)
    assert isinstance(scc.step(POINT, state(GOOD)), tblite_scc.State)
    assert calculator.temperatures == [300.0]


# refusals by what came out


def test_atoms_on_top_of_each_other_are_a_bad_geometry() -> None:
    failure = tblite_compute.compute(job(pair((1, 1), 0.0)))
    assert failure.kind is FailureKind.BAD_GEOMETRY


def test_collapsed_atoms_get_an_energy_and_a_refusal() -> None:
    asked = job(pair((1, 1), 0.001))
    assert missed(asked, compute(asked)) == {"closest atoms"}


def test_electrons_that_find_no_orbital_are_missed() -> None:
    crowded = build.WATER.model_copy(update={"multiplicity": 11})
    failure = tblite_compute.compute(job(crowded))
    assert failure.kind is FailureKind.METHOD_FAILED
    assert failure.evidence["sum of charges, e"] == pytest.approx(2.0)


def test_a_charge_beyond_the_valence_shell_is_a_failure() -> None:
    bare = Fragment(numbers=[6], positions=[[0, 0, 0]], charge=5, multiplicity=2)
    assert tblite_compute.compute(job(bare)).kind is FailureKind.METHOD_FAILED


def test_nan_without_an_error_is_a_failure() -> None:
    wrong = {"energy": -1.0, "gradient": np.array([[0.0, np.nan, 0.0]])}
    scc, _ = scripted(lambda start, kelvin: wrong)
    assert scc.solve(POINT).kind is FailureKind.METHOD_FAILED


# the numbers


def slope(fragment: Fragment, asked: Stage, atom: int, axis: int) -> float:
    energies = []
    for shift in (1e-3, -1e-3):
        positions = np.array(fragment.positions)
        positions[atom, axis] += shift
        moved = fragment.model_copy(update={"positions": positions})
        energies.append(compute(job(moved, asked, **rung("temperature-ramp"))).energy)
    return (energies[0] - energies[1]) / 2e-3


@pytest.mark.parametrize(
    ("fragment", "asked"),
    [
        (FORMATE, stage()),
        (FORMATE, stage("GFN1-xTB")),
        (pair(NACL, 4.5), stage(electronic_temperature=5000)),
    ],
    ids=["GFN2", "GFN1", "fractional occupation at 5000 K"],
)
def test_forces_are_minus_the_slope_of_the_free_energy(fragment: Fragment, asked: Stage) -> None:
    found = compute(job(fragment, asked, **rung("temperature-ramp")))
    expected = -slope(fragment, asked, 1, 2)
    assert found.forces[1, 2] == pytest.approx(expected, abs=2e-4)
    assert abs(expected) > 0.05


def test_the_two_methods_differ() -> None:
    assert compute(job()).energy != compute(job(asked=stage("GFN1-xTB"))).energy


def test_fractional_occupation_is_noted() -> None:
    hot = compute(job(pair(NACL, 4.5), stage(electronic_temperature=5000)))
    assert any("fractional occupation at 5000 K" in note for note in hot.notes)
    assert not compute(job()).notes


def energy_in_field(fragment: Fragment, field: list[float]) -> float:
    calculator = interface.Calculator(
        "GFN2-xTB",
        fragment.numbers,
        fragment.positions / BOHR,
        charge=float(fragment.charge),
        uhf=0,
        logger=lambda line: None,
    )
    calculator.set("accuracy", 1e-3)
    calculator.add("electric-field", field)
    return float(calculator.singlepoint()["energy"])


def centred(fragment: Fragment) -> Fragment:
    centre = fragment.numbers @ fragment.positions / fragment.numbers.sum()
    return fragment.model_copy(update={"positions": fragment.positions - centre})


@pytest.mark.parametrize("fragment", [build.WATER, FORMATE])
def test_the_dipole_is_minus_the_slope_of_the_energy_in_a_field(fragment: Fragment) -> None:
    about_centre = centred(fragment)
    expected = []
    for axis in range(3):
        fields = np.zeros((2, 3))
        fields[:, axis] = 1e-3, -1e-3
        plus, minus = (energy_in_field(about_centre, field) for field in fields.tolist())
        expected.append(-(plus - minus) / 2e-3 * BOHR)
    np.testing.assert_allclose(compute(job(fragment)).dipole, expected, atol=1e-4)


def test_the_dipole_of_an_ion_does_not_depend_on_where_it_is() -> None:
    shifted = FORMATE.model_copy(
        update={"positions": FORMATE.positions + np.array([3.0, -2.0, 5.0])}
    )
    np.testing.assert_allclose(
        compute(job(shifted)).dipole, compute(job(FORMATE)).dipole, atol=1e-6
    )
    sodium = Fragment(numbers=[11], positions=[[0, 0, 1.0]], charge=1)
    np.testing.assert_allclose(compute(job(sodium)).dipole, 0.0, atol=1e-12)


def test_charges_add_up_to_the_charge() -> None:
    assert compute(job(FORMATE)).charges["mulliken"].sum() == pytest.approx(-1.0, abs=1e-8)


def test_triplet_oxygen_has_a_gap_and_singlet_oxygen_is_refused() -> None:
    singlet = pair(O2, 1.21)
    triplet = singlet.model_copy(update={"multiplicity": 3})
    assert not missed(job(triplet), compute(job(triplet)))
    assert any("spin polarisation" in note for note in compute(job(triplet)).notes)
    assert missed(job(singlet), compute(job(singlet))) == {"HOMO-LUMO gap"}


def test_full_and_empty_shells_have_no_gap_to_show() -> None:
    fluoride = compute(job(Fragment(numbers=[9], positions=[[0, 0, 0]], charge=-1)))
    sodium = compute(job(Fragment(numbers=[11], positions=[[0, 0, 0]], charge=1)))
    assert fluoride.homo is not None
    assert fluoride.lumo is None
    assert sodium.homo is None
    assert sodium.lumo is not None
