"""What a record holds of a converged PySCF calculation, in qfarm's units."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from qfarm.engines import label
from qfarm.engines.hirshfeld import Hirshfeld, hirshfeld
from qfarm.engines.pyscf.basis import TABLE
from qfarm.engines.pyscf.convergence import FloatArray, Gradient, total
from qfarm.engines.pyscf.library import dft, pyscf
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.units import BOHR, HARTREE_PER_BOHR

IONS: Final = frozenset({3, 4, 11, 12, 19, 20})
"""Li, Be, Na, Mg, K, Ca: elements that occur as cations in the classes of QCell."""


def gradient(mean_field: Any) -> tuple[FloatArray, Gradient]:
    """PBE0 forces (n_atoms, 3), eV/A, with the matrix they were made from.

    The gradient is PySCF's default: with the answer of the fitting set, without that of the
    quadrature grid, so a net force of the grid's error remains.
    """
    method = mean_field.nuc_grad_method()
    potential: list[FloatArray] = []
    compute = method.get_veff

    def kept(*args: Any, **kwargs: Any) -> Any:
        matrix = compute(*args, **kwargs)
        potential.append(np.asarray(matrix))
        return matrix

    method.get_veff = kept
    forces = -np.asarray(method.kernel()) * HARTREE_PER_BOHR
    return forces, Gradient(method, potential[0])


def dipole(mean_field: Any) -> FloatArray:
    """Dipole moment about the centre of nuclear charge, (3,), e*A."""
    mol = mean_field.mol
    charges, positions = mol.atom_charges(), mol.atom_coords()
    centre = charges @ positions / charges.sum()
    with mol.with_common_orig(centre):
        integrals = mol.intor("int1e_r")
    electrons = np.einsum("xij,ji->x", integrals, total(np.asarray(mean_field.make_rdm1())))
    moment: FloatArray = charges @ (positions - centre) - electrons
    return moment * BOHR


def mulliken(mean_field: Any, overlap: FloatArray) -> FloatArray:
    """Mulliken charges, (n_atoms,), e."""
    density = total(np.asarray(mean_field.make_rdm1()))
    populations = np.einsum("ij,ji->i", density, overlap)
    slices = mean_field.mol.aoslice_by_atom()[:, 2:]
    electrons = np.array([populations[start:stop].sum() for start, stop in slices])
    charges: FloatArray = mean_field.mol.atom_charges() - electrons
    return charges


def partition(mean_field: Any, level: LevelOfTheory) -> Hirshfeld:
    """Hirshfeld ratios and charges on the grid of the calculation.

    Raises
    ------
    qfarm.engines.hirshfeld.FreeAtomError
        If a free atom does not converge.
    """
    mol, grids = mean_field.mol, mean_field.grids
    if grids.coords is None:  # the SCF ran elsewhere
        grids.build(with_non0tab=True)
    density = mean_field._numint.get_rho(mol, total(np.asarray(mean_field.make_rdm1())), grids)
    return hirshfeld(mol, grids, density, basis=TABLE[level.basis].name, xc=level.method)


def spin_squared(mean_field: Any) -> float | None:
    """<S^2> of an open shell."""
    return None if mean_field.mol.spin == 0 else float(mean_field.spin_square()[0])


def notes(
    fragment: Fragment, level: LevelOfTheory, forces: FloatArray, ratios: FloatArray
) -> tuple[str, ...]:
    """What a reader of the record must know.

    Parameters
    ----------
    forces : (n_atoms, 3) float
        PBE0 forces as computed, eV/A.
    ratios : (n_atoms,) float
        Hirshfeld volume ratios.
    """
    net = float(np.linalg.norm(forces.sum(axis=0)))
    return (
        f"{label(level)}, no counterpoise correction: never mix with another basis",
        f"net force {net:.1e} eV/A from the quadrature grid, not removed",
        *_ion_notes(fragment, ratios),
    )


def _ion_notes(fragment: Fragment, ratios: FloatArray) -> Iterable[str]:
    ions = [at for at, number in enumerate(fragment.numbers) if int(number) in IONS]
    if ions:
        found = ", ".join(f"atom {at + 1}: {ratios[at]:.2f}" for at in ions)
        yield (
            f"volume ratio of alkali or alkaline-earth atoms ({found}) scales a neutral atom: the "
            "polarizability is far above the free ion's, a known limit of MBD@rsSCS"
        )
    if fragment.charge:
        yield (
            f"charge {fragment.charge:+d}: Hirshfeld partition with neutral free atoms, a known "
            "limit of MBD@rsSCS for ions"
        )


def version() -> str:
    """PySCF and the functional library behind it."""
    return f"PySCF {pyscf.__version__}, libxc {dft.libxc.__version__}"
