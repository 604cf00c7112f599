"""The Hirshfeld partition: free atoms, sum rules, and reference ratios of molecules."""

from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from qfarm.engines.hirshfeld import (
    LOG_RADII,
    FreeAtom,
    Hirshfeld,
    compute_free_atom,
    free_atom,
    hirshfeld,
    partition,
)
from support.needs import need

FloatArray = NDArray[np.float64]

WATER: Final = "O 0 0 0.1173; H 0 0.7572 -0.4692; H 0 -0.7572 -0.4692"
METHANE: Final = (
    "C 0 0 0; H .6276 .6276 .6276; H -.6276 -.6276 .6276; H .6276 -.6276 -.6276; "
    "H -.6276 .6276 -.6276"
)
SVP: Final = "def2-svp"
TZVP: Final = "def2-tzvp"


def built(atoms: str, basis: str, charge: int = 0, level: int = 3) -> tuple[Any, Any]:
    """Molecule and grid."""
    try:
        from pyscf import dft, gto
    except ImportError:
        need(None, "pyscf")
    mol = gto.M(atom=atoms, basis=basis, charge=charge, verbose=0)
    grids = dft.Grids(mol)
    grids.level = level
    return mol, grids.build()


def partitioned(atoms: str, basis: str = SVP, charge: int = 0) -> Hirshfeld:
    """PBE0 calculation and its partition."""
    mol, grids = built(atoms, basis, charge)
    mean_field = mol.RKS(xc="pbe0").density_fit()
    mean_field.grids = grids
    mean_field.kernel()
    assert mean_field.converged
    density = mean_field._numint.get_rho(mol, mean_field.make_rdm1(), grids)
    return hirshfeld(mol, grids, density, basis=basis, xc="PBE0")


def test_hydrogen_like_atom_has_the_textbook_volume() -> None:
    """<r^3> of a 1s orbital is 7.5 bohr^3; the table's interpolation keeps its density."""
    radii = np.exp(LOG_RADII)
    atom = FreeAtom("H", np.exp(-2 * radii) / np.pi)
    assert atom.electrons == pytest.approx(1, abs=1e-9)
    assert atom.volume == pytest.approx(7.5, rel=1e-9)
    between = np.array([0.0, 0.137, 1.05, 6.4])
    np.testing.assert_allclose(atom.at(between), np.exp(-2 * between) / np.pi, rtol=3e-4)


@pytest.mark.parametrize("symbol", ["H", "O", "K"])
@pytest.mark.parametrize("basis", [SVP, TZVP])
def test_table_is_what_is_computed(symbol: str, basis: str) -> None:
    built("He", SVP, level=0)
    tabulated, computed = free_atom(symbol, basis, "PBE0"), compute_free_atom(symbol, basis, "pbe0")
    assert tabulated.volume == pytest.approx(computed.volume, rel=1e-5)
    chemistry = computed.density > 1e-8
    np.testing.assert_allclose(tabulated.density[chemistry], computed.density[chemistry], rtol=1e-4)


def test_table_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An atom of the table costs no SCF; one outside it is computed once."""
    computed: list[str] = []

    def recorded(symbol: str, basis: str, xc: str) -> FreeAtom:
        computed.append(f"{symbol} {basis} {xc}")
        return compute_free_atom(symbol, basis, xc)

    monkeypatch.setattr("qfarm.engines.hirshfeld.compute_free_atom", recorded)
    free_atom("N", "def2-TZVP", "PBE0")
    first, second = free_atom("He", "STO-3G", "LDA"), free_atom("He", "sto-3g", "lda")
    assert computed == ["He sto-3g lda"]
    assert first is second


@pytest.mark.parametrize(("symbol", "electrons"), [("C", 6), ("Cl", 17), ("Ca", 20), ("Br", 35)])
def test_free_atoms_hold_their_electrons(symbol: str, electrons: int) -> None:
    assert free_atom(symbol, TZVP, "pbe0").electrons == pytest.approx(electrons, abs=1e-5)


@pytest.mark.parametrize("atoms", [WATER, METHANE])
def test_promolecule_is_made_of_free_atoms(atoms: str) -> None:
    """Sharing the sum of the free densities gives every atom its own back."""
    mol, grids = built(atoms, SVP)
    free = [free_atom(mol.atom_pure_symbol(index), SVP, "pbe0") for index in range(mol.natm)]
    distances = np.linalg.norm(grids.coords - mol.atom_coords()[:, None], axis=2)
    density = np.sum([atom.at(r) for atom, r in zip(free, distances, strict=True)], axis=0)
    shared = partition(
        free, mol.atom_coords(), mol.atom_charges(), grids.coords, grids.weights * density
    )
    np.testing.assert_allclose(shared.ratios, 1, atol=1e-3)
    np.testing.assert_allclose(shared.charges, 0, atol=1e-3)


@pytest.mark.parametrize("symbol", ["He", "Ne", "Ar"])
def test_noble_gas_atom_is_its_own_free_atom(symbol: str) -> None:
    """A molecular calculation of one atom knows nothing of the spherical one."""
    alone = partitioned(symbol)
    assert alone.ratios == pytest.approx([1], abs=1e-3)
    assert alone.charges == pytest.approx([0], abs=1e-3)


def test_water_is_near_fhi_aims() -> None:
    """FHI-aims gives O 0.925 and H 0.580; ours with PBE0/def2-TZVP within 0.03.

    The tighter numbers are our own, kept against drift: O 0.925, H 0.555.
    """
    water = partitioned(WATER, TZVP)
    assert water.ratios == pytest.approx([0.925, 0.580, 0.580], abs=0.03)
    assert water.ratios == pytest.approx([0.9250, 0.5554, 0.5554], abs=1e-3)
    assert water.charges == pytest.approx([-0.327, 0.164, 0.164], abs=2e-3)


def test_methane_carbon_is_compressed() -> None:
    """Reference carbon ratios of methane lie at 0.73 to 0.77; ours (SVP) within 0.01 of that."""
    methane = partitioned(METHANE)
    assert 0.72 < methane.ratios[0] < 0.78
    assert np.ptp(methane.ratios[1:]) < 1e-4
    assert methane.charges[0] < 0 < methane.charges[1]


@pytest.mark.parametrize(("atoms", "charge"), [("O 0 0 0; H 0 0 0.97", -1), ("Na 0 0 0", 1)])
def test_charges_sum_to_the_total_charge(atoms: str, charge: int) -> None:
    ion = partitioned(atoms, charge=charge)
    assert ion.charges.sum() == pytest.approx(charge, abs=0.01)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    free = [free_atom(symbol, SVP, "pbe0") for symbol in "OH"]
    positions, points = rng.normal(size=(2, 3)), rng.normal(size=(500, 3))
    electrons = rng.uniform(size=500)

    def run() -> Hirshfeld:
        return partition(free, positions, np.array([8.0, 1.0]), points, electrons)

    whole = run()
    monkeypatch.setattr("qfarm.engines.hirshfeld._BLOCK", 7)
    np.testing.assert_allclose(run().ratios, whole.ratios, rtol=1e-12)
    np.testing.assert_allclose(run().charges, whole.charges, rtol=1e-12)
    assert whole.charges.sum() == pytest.approx(9 - electrons.sum(), rel=1e-12)
