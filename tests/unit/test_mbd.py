"""MBD@rsSCS against pymbd, FHI-aims, finite differences and its own symmetries."""

import re
from typing import Any, Final

import numpy as np
import pytest
from ase.build import molecule
from ase.data import chemical_symbols
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qfarm.engines.mbd import MbdCollapse, mbd_energy_and_gradient
from qfarm.engines.mbd.free_atoms import HEAVIEST, free_atoms
from qfarm.engines.mbd.rsscs import energy_and_gradient, frequency_grid, scaled
from qfarm_schemas.units import BOHR, HARTREE, HARTREE_PER_BOHR
from support.needs import need, shared_fixture

BETA: Final = 0.85
FloatArray = NDArray[np.float64]
System = tuple[NDArray[np.int64], FloatArray, FloatArray]


def pymbd() -> Any:
    try:
        import pymbd as module
    except ImportError:
        need(None, "pymbd, the reference implementation (see CONTRIBUTING.md)")
    return module


def oracle(numbers: NDArray[np.int64], positions: FloatArray, ratios: FloatArray) -> float:
    symbols = [chemical_symbols[number] for number in numbers]
    return float(pymbd().mbd_energy_species(positions / BOHR, symbols, ratios, BETA))


def energy(numbers: NDArray[np.int64], positions: FloatArray, ratios: FloatArray) -> float:
    return mbd_energy_and_gradient(numbers, positions, ratios, BETA).energy


def system(name: str, ratio: float = 0.8) -> System:
    atoms = molecule(name)  # type: ignore[no-untyped-call]
    spread = np.linspace(-0.15, 0.15, len(atoms))
    return atoms.numbers.astype(np.int64), atoms.positions, ratio + spread


def sodium_in_water() -> System:
    """Na+ between two water molecules, ratios as the partition gives them."""
    water = molecule("H2O").positions  # type: ignore[no-untyped-call]
    up = np.array([0, 0, 2.4])
    positions = np.vstack([np.zeros(3), water + up, water * [1, -1, -1] - up])
    return np.array([11, 8, 1, 1, 8, 1, 1]), positions, np.array([0.38] + 2 * [0.93, 0.5, 0.5])


SYSTEMS: Final = {
    "benzene": system("C6H6"),
    "thiophene": system("C4H4S"),
    "SiCl4": system("SiCl4", 1.1),
    "Na+(H2O)2": sodium_in_water(),
    "phosphine": system("PH3", 0.9),
}


@st.composite
def random_systems(draw: st.DrawFn) -> System:
    """Up to 8 atoms, none nearer than 1.5 A; each new atom sits near an old one."""
    count = draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positions = [np.zeros(3)]
    while len(positions) < count:
        step = rng.normal(size=3)
        there = positions[rng.integers(len(positions))] + step / np.linalg.norm(step) * (
            rng.uniform(1.5, 4.0)
        )
        if min(np.linalg.norm(there - other) for other in positions) >= 1.5:
            positions.append(there)
    numbers = rng.choice([1, 6, 7, 8, 9, 15, 16, 17, 12], count)
    return numbers, np.array(positions), rng.uniform(0.35, 1.1, count)


def test_free_atoms_are_the_reference_values() -> None:
    table = pymbd().pymbd.vdw_params
    numbers = np.arange(1, HEAVIEST + 1)
    mine = free_atoms(numbers)
    rows = [table[chemical_symbols[number]] for number in numbers]
    assert mine.polarizability.tolist() == [row["alpha_0(TS)"] for row in rows]
    assert mine.c6.tolist() == [row["C6(TS)"] for row in rows]
    assert mine.radius.tolist() == [row["R_vdw(TS)"] for row in rows]
    assert HEAVIEST == 86


def test_frequency_grid_integrates_casimir_polder() -> None:
    """The grid gives C6 of two equal oscillators: 3/pi int alpha^2 du = 3/4 omega alpha^2."""
    frequencies, weights = frequency_grid()
    integral = 3 / np.pi * np.sum(weights / (1 + (frequencies / 0.5) ** 2) ** 2)
    assert integral == pytest.approx(0.75 * 0.5, rel=1e-9)
    assert (frequencies[0], weights[0], len(weights)) == (0, 0, 16)


@pytest.mark.parametrize("name", SYSTEMS)
def test_energy_agrees_with_pymbd(name: str) -> None:
    numbers, positions, ratios = SYSTEMS[name]
    mine = energy(numbers, positions, ratios) / HARTREE
    assert mine == pytest.approx(oracle(numbers, positions, ratios), abs=1e-10, rel=0)
    assert mine < -1e-4


@given(random_systems())
@settings(max_examples=60, deadline=None)
def test_energy_of_random_geometries_agrees_with_pymbd(case: System) -> None:
    try:
        mine = energy(*case)
    except MbdCollapse:
        assume(False)
    assert mine / HARTREE == pytest.approx(oracle(*case), abs=1e-10, rel=0)


def test_energy_agrees_with_fhi_aims() -> None:
    folder = shared_fixture("aims/mbd_rsscs_h4_pbe_light")
    text = (folder / "aims.out").read_text()
    atoms = re.findall(
        r"^atom\s+(\S+)\s+(\S+)\s+(\S+)\s+H$", (folder / "geometry.in").read_text(), re.M
    )
    free, bound = (
        np.array(re.findall(rf"{word} volume\s*:\s*(\S+)", text), dtype=float)
        for word in ("Free atom", "Hirshfeld")
    )
    reference = float(re.search(r"Libmbd: Evaluated energy:\s*(\S+)", text)[1])  # type: ignore[index]
    result = mbd_energy_and_gradient(  # control.in: PBE with libMBD's default beta
        np.ones(4, int), np.array(atoms, dtype=float), bound / free, beta=0.83
    )
    assert result.energy / HARTREE == pytest.approx(reference, rel=2e-7)


@pytest.mark.parametrize("name", SYSTEMS)
def test_gradient_agrees_with_central_differences(name: str) -> None:
    numbers, positions, ratios = SYSTEMS[name]
    assert_gradient(scaled(free_atoms(numbers), ratios), positions / BOHR)


@given(random_systems())
@settings(max_examples=10, deadline=None)
def test_gradient_of_random_geometries_agrees_with_central_differences(case: System) -> None:
    numbers, positions, ratios = case
    try:
        assert_gradient(scaled(free_atoms(numbers), ratios), positions / BOHR)
    except MbdCollapse:
        assume(False)


def assert_gradient(atoms: Any, positions: FloatArray, step: float = 2e-3) -> None:
    """Compare with fourth-order differences, Ha/bohr."""
    _, gradient = energy_and_gradient(atoms, positions, BETA)
    numeric = np.zeros_like(gradient)
    for index in np.ndindex(*positions.shape):
        for shift, factor in ((2, -1), (1, 8), (-1, -8), (-2, 1)):
            moved = positions.copy()
            moved[index] += shift * step
            numeric[index] += factor * energy_and_gradient(atoms, moved, BETA)[0] / (12 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-7, atol=1e-10)


def test_forces_are_minus_the_gradient_in_ev_per_angstrom() -> None:
    numbers, positions, ratios = SYSTEMS["benzene"]
    result = mbd_energy_and_gradient(numbers, positions, ratios, BETA)
    value, gradient = energy_and_gradient(
        scaled(free_atoms(numbers), ratios), positions / BOHR, BETA
    )
    assert result.energy == pytest.approx(value * HARTREE, rel=1e-14)
    np.testing.assert_allclose(result.forces, -gradient * HARTREE_PER_BOHR, rtol=1e-14)


@given(random_systems(), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_moves_with_the_molecule(case: System, seed: int) -> None:
    """Translation, rotation and renumbering change nothing but the frame of the forces."""
    numbers, positions, ratios = case
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(len(numbers))
    moved = (positions @ rotation.T + rng.uniform(-20, 20, 3))[order]
    try:
        here = mbd_energy_and_gradient(numbers, positions, ratios, BETA)
    except MbdCollapse:
        assume(False)
    there = mbd_energy_and_gradient(numbers[order], moved, ratios[order], BETA)
    assert there.energy == pytest.approx(here.energy, abs=1e-11)
    np.testing.assert_allclose(there.forces, (here.forces @ rotation.T)[order], atol=1e-10)
    assert np.abs(here.forces.sum(axis=0)).max() < 1e-12
    torque = np.cross(positions, here.forces).sum(axis=0)
    assert np.abs(torque).max() < 1e-10


def test_far_atoms_attract_by_the_free_c6() -> None:
    """Two argon atoms far apart: E = -C6/r^6."""
    r = 20.0
    value, _ = energy_and_gradient(free_atoms(np.array([18, 18])), np.diag([r, 0, 0])[:2], BETA)
    assert value == pytest.approx(-64.3 / r**6, rel=2e-3)


def test_separated_molecules_add_up() -> None:
    numbers, positions, ratios = SYSTEMS["benzene"]
    far = np.vstack([positions, positions + np.array([0, 0, 500.0])])
    both = mbd_energy_and_gradient(np.tile(numbers, 2), far, np.tile(ratios, 2), BETA)
    one = mbd_energy_and_gradient(numbers, positions, ratios, BETA)
    assert both.energy == pytest.approx(2 * one.energy, abs=1e-9)
    np.testing.assert_allclose(both.forces, np.vstack([one.forces] * 2), atol=1e-9)


def test_one_atom_has_no_dispersion() -> None:
    result = mbd_energy_and_gradient(np.array([8]), np.zeros((1, 3)), np.array([0.9]), BETA)
    assert result.energy == pytest.approx(0, abs=1e-12)
    assert result.forces.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("stage", "number", "spacing", "ratio", "beta"),
    [("screening", 11, 1.6, 1.0, 0.85), ("coupling", 12, 1.6, 2.0, 0.1)],
)
def test_polarisation_catastrophe_is_reported(
    stage: str, number: int, spacing: float, ratio: float, beta: float
) -> None:
    """Crowded metal atoms in a chain: the coupled dipoles have no bound state."""
    chain = np.arange(8)[:, None] * [spacing, 0, 0]
    with pytest.raises(MbdCollapse, match=stage) as caught:
        mbd_energy_and_gradient(np.full(8, number), chain, np.full(8, ratio), beta)
    assert caught.value.stage == stage
    assert caught.value.lowest <= 0


@pytest.mark.parametrize(
    ("numbers", "ratios"),
    [([1], [1.0, 1.0]), ([1, 1], [1.0, 0.0]), ([1, 1], [1.0, np.nan]), ([1, 87], [1.0, 1.0])],
)
def test_nonsense_is_refused(numbers: list[int], ratios: list[float]) -> None:
    with pytest.raises(ValueError, match=r"shapes|positive|reference data"):
        mbd_energy_and_gradient(np.array(numbers), np.eye(3)[:2], np.array(ratios), BETA)
