"""Stability: the lowest modes of the orbital Hessian.

R. Seeger, J. A. Pople, J. Chem. Phys. 66, 3045 (1977). A solution is internally stable when no
rotation of occupied into empty orbitals, within its own kind of determinant, lowers the energy. A
closed shell is externally unstable when rotations that differ for the two spins lower it.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from qfarm.engines.pyscf.convergence import FloatArray
from qfarm.engines.pyscf.library import lib

NEGATIVE: Final = -1e-3
"""Ha: a mode below this is an instability. Modes that symmetry makes zero (the orientation of a
half-filled degenerate shell, as in OH) come out at up to 1e-4 from the quadrature grid; PySCF's
own limit of -1e-5 calls them unstable."""

SIGN_ONLY: Final = 1e-5
"""Ha: convergence of an eigenvalue of which only the sign counts; half the steps of the default."""


@dataclass(frozen=True, eq=False)
class Mode:
    """The lowest mode: its eigenvalue (Ha) and the orbitals displaced along it by one radian."""

    eigenvalue: float
    orbitals: FloatArray

    @property
    def stable(self) -> bool:
        """Whether the solution is internally stable."""
        return self.eigenvalue > NEGATIVE


def lowest_mode(solver: Any, grid: Any) -> Mode:
    """Find the lowest mode of a converged Kohn-Sham object.

    Parameters
    ----------
    solver : pyscf.dft.RKS or UKS
        Converged.
    grid : pyscf.dft.Grids
        Grid for the response; a coarse one will do, as only the sign of the eigenvalue counts.
    """
    probe = solver.copy()
    probe.grids = grid
    second = probe.newton()
    _, product, diagonal = second.gen_g_hop(solver.mo_coeff, solver.mo_occ)
    eigenvalue, vector = lib.davidson(
        lambda x: 2 * product(x), _guesses(diagonal), _Preconditioner(2 * diagonal), verbose=0
    )
    rotation = second.update_rotate_matrix(vector, solver.mo_occ)
    return Mode(float(eigenvalue), np.asarray(second.rotate_mo(solver.mo_coeff, rotation)))


def lowest_triplet_mode(solver: Any, grid: Any) -> float:
    """Lowest eigenvalue (Ha) of the orbital Hessian of a closed shell for opposite rotations.

    Below `NEGATIVE` an unrestricted, broken-symmetry solution lies lower.

    Parameters
    ----------
    solver : pyscf.dft.RKS
        Converged.
    grid : pyscf.dft.Grids
        Grid for the response.
    """
    probe = solver.copy()
    probe.grids = grid
    occupied = solver.mo_occ > 0
    full, empty = solver.mo_coeff[:, occupied], solver.mo_coeff[:, ~occupied]
    gaps = solver.mo_energy[~occupied][:, None] - solver.mo_energy[occupied]
    response = probe.gen_response(solver.mo_coeff, solver.mo_occ, singlet=False, hermi=1)

    def product(rotation: FloatArray) -> FloatArray:
        step = rotation.reshape(gaps.shape)
        change = 2 * empty @ step @ full.T
        curved: FloatArray = gaps * step + empty.T @ response(change + change.T) @ full
        return 4 * curved.ravel()

    diagonal = 4 * gaps.ravel()
    eigenvalue, _ = lib.davidson(
        product, _guesses(diagonal / 2), _Preconditioner(diagonal), tol=SIGN_ONLY, verbose=0
    )
    return float(eigenvalue)


def _guesses(diagonal: FloatArray) -> list[FloatArray]:
    """A start with a share of every rotation, so that no symmetry is missed, and the softest."""
    every = 1 / np.maximum(np.abs(diagonal), 1e-3)
    softest = np.zeros_like(diagonal)
    softest[np.argmin(diagonal)] = 1.0
    return [every / np.linalg.norm(every), softest]


@dataclass(frozen=True, eq=False)
class _Preconditioner:
    diagonal: FloatArray

    def __call__(self, residual: FloatArray, eigenvalue: float, _start: FloatArray) -> FloatArray:
        distance = self.diagonal - eigenvalue
        distance[np.abs(distance) < 1e-8] = 1e-8
        preconditioned: FloatArray = residual / distance
        return preconditioned
