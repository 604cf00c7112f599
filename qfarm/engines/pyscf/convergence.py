r"""How far the last SCF iteration moved: the four quantities of the verdict.

With D_n the one-electron density matrix that iteration n made (alpha and beta for open shells),
eps the eigenvalues of the Fock matrix it was made from, S the overlap and E the total energy:

========== =================================================================== =====
energy     \|E_n - E_(n-1)\|                                                   eV
eigenvalue \|sum_i occ_i eps_i (n) - sum_i occ_i eps_i (n-1)\|                 eV
density    sum over spins of \|\|S^1/2 dD S^1/2\|\|_F = sqrt(Tr[dD S dD S])    e
forces     largest norm over atoms of dF_A, below                              eV/A
========== =================================================================== =====

where dD = D_n - D_(n-1). A closed shell counts as one matrix with occupations 2. The force change
between the two densities is taken to first order::

    dF_A = -( Tr[dD h^A] + Tr[dD v^A[D_n]] + Tr[D_n J^A[dD]] - Tr[dW S^A] )

with h^A, S^A the derivatives of the one-electron integrals, v^A[D] the derivative two-electron and
exchange-correlation matrix that the gradient has computed anyway, J^A[dD] the density-fitted
Coulomb derivative and W the energy-weighted density. Left out are D_n's exchange and
exchange-correlation with dD and the answer of the fitting set. They screen, so what is left
overestimates: against the difference of two full gradients the ratio was 1.1 to 4, never below
1 (docs/adr/0002-pyscf-basis-and-thresholds.md). It costs 1 to 3 % of the calculation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qfarm_schemas.result import Convergence
from qfarm_schemas.units import HARTREE, HARTREE_PER_BOHR

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class State:
    """What one iteration made, in atomic units.

    Attributes
    ----------
    energy : float
        Total energy, Ha.
    density : (n_ao, n_ao) or (2, n_ao, n_ao) array
        Density matrix.
    mo_energy, mo_occ : (n_mo,) or (2, n_mo) array
        Orbital energies (Ha) and occupations.
    mo_coeff : (n_ao, n_mo) or (2, n_ao, n_mo) array
        Orbitals.
    """

    energy: float
    density: FloatArray
    mo_energy: FloatArray
    mo_occ: FloatArray
    mo_coeff: FloatArray

    @property
    def eigenvalue_sum(self) -> float:
        """Sum of the occupied eigenvalues, Ha."""
        return float((self.mo_energy * self.mo_occ).sum())


class ForceChange(Protocol):
    """What tells how forces change between two iterations."""

    def change(self, before: State, after: State) -> FloatArray:
        """Forces of `after` minus those of `before`, (n_atoms, 3), eV/A."""


@dataclass(frozen=True, eq=False)
class Gradient:
    """A PySCF gradient object after its run, and the matrix v^A it has used."""

    method: Any
    potential: FloatArray  # (3, n_ao, n_ao) or (2, 3, n_ao, n_ao)

    def change(self, before: State, after: State) -> FloatArray:
        """To first order, for the potential is that of `after`."""
        return force_change(before, after, self)


def convergence(
    before: State, after: State, gradient: ForceChange, overlap: FloatArray
) -> Convergence:
    """Measure the last iteration, from `before` to `after`."""
    forces = gradient.change(before, after)
    return Convergence(
        energy=abs(after.energy - before.energy) * HARTREE,
        eigenvalues=abs(after.eigenvalue_sum - before.eigenvalue_sum) * HARTREE,
        density=density_change(before.density, after.density, overlap),
        forces=float(np.linalg.norm(forces, axis=1).max()),
    )


def density_change(before: FloatArray, after: FloatArray, overlap: FloatArray) -> float:
    """Sum over spins of the norm of the density-matrix change in the metric S, e."""
    change = np.asarray(after) - np.asarray(before)
    return sum(_norm(spin @ overlap) for spin in by_spin(change))


def _norm(change: FloatArray) -> float:
    return float(np.sqrt(max(np.einsum("ij,ji->", change, change), 0.0)))


def by_spin(matrix: FloatArray) -> Iterable[FloatArray]:
    """The matrices of each spin; the closed-shell matrix alone."""
    return matrix.reshape(-1, *matrix.shape[-2:])


def total(matrix: FloatArray) -> FloatArray:
    """Sum over spins."""
    summed: FloatArray = sum(by_spin(matrix), np.zeros(matrix.shape[-2:]))
    return summed


def force_change(before: State, after: State, gradient: Gradient) -> FloatArray:
    """First-order change of the forces between two densities, (n_atoms, 3), eV/A."""
    method = gradient.method
    change = after.density - before.density
    moved, density = total(change), total(after.density)
    weighted = total(_energy_weighted(method, after) - _energy_weighted(method, before))
    coulomb = _coulomb_derivative(method, moved)
    overlap, core = method.get_ovlp(method.mol), method.hcore_generator(method.mol)
    forces = np.zeros((method.mol.natm, 3))
    for atom, (start, stop) in enumerate(method.mol.aoslice_by_atom()[:, 2:]):
        rows = slice(start, stop)
        forces[atom] -= np.einsum("xij,ij->x", core(atom), moved)
        forces[atom] -= 2 * _trace(gradient.potential, change, rows)
        forces[atom] -= 2 * _trace(coulomb, density, rows)
        forces[atom] += 2 * _trace(overlap, weighted, rows)
    return forces * HARTREE_PER_BOHR


def _trace(derivative: FloatArray, matrix: FloatArray, rows: slice) -> FloatArray:
    """Contract the derivative of the bra on `rows`, summed over spins, (3,)."""
    contracted: FloatArray = np.einsum(
        "...xij,...ij->...x", derivative[..., rows, :], matrix[..., rows, :]
    )
    summed: FloatArray = contracted.reshape(-1, 3).sum(axis=0)
    return summed


def _energy_weighted(method: Any, state: State) -> FloatArray:
    return np.asarray(method.make_rdm1e(state.mo_energy, state.mo_coeff, state.mo_occ))


def _coulomb_derivative(method: Any, density: FloatArray) -> FloatArray:
    response, method.auxbasis_response = method.auxbasis_response, False
    derivative = np.asarray(method.get_j(method.mol, density))
    method.auxbasis_response = response
    return derivative
