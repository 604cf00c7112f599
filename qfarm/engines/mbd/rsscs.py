"""MBD@rsSCS: range-separated self-consistent screening, then coupled dipole oscillators.

Written from A. Ambrosetti, A. M. Reilly, R. A. DiStasio Jr., A. Tkatchenko, J. Chem. Phys. 140,
18A508 (2014), "the paper" below, and A. Tkatchenko, M. Scheffler, Phys. Rev. Lett. 102, 073005
(2009). The steps, for atoms with polarizability alpha, dispersion coefficient C6 and radius R that
the Hirshfeld volume ratio v has scaled by v, v^2 and v^(1/3):

1. alpha(iu) = alpha / (1 + (u/omega)^2) with omega = 4/3 C6/alpha^2, on a frequency grid.
2. Short-range screening at each u: A = (diag(1/alpha(iu)) + T_SR)^-1, where
   T_SR = (1 - f) T_GG holds the Coulomb interaction of Gaussian dipoles of width
   sigma = (sqrt(2/pi) alpha(iu)/3)^(1/3); screened alpha_i = 1/3 sum_j tr A_ij.
3. Screened C6 by the Casimir-Polder integral, omega and R anew.
4. H_ij = delta_ij omega_i^2 + omega_i omega_j sqrt(alpha_i alpha_j) T_LR with T_LR = f T_dipole;
   E = 1/2 sum sqrt(eigenvalues) - 3/2 sum omega.

The damping is f(r) = 1/(1 + exp(-a (r/S - 1))), S = beta (R_i + R_j), a = 6; in step 2 R is
unscreened, in step 4 screened. The gradient is the exact derivative of this energy at fixed ratios
(reverse accumulation, one linear solve a frequency); how the ratios answer to a displacement is
neglected, which costs less than 1 meV/A.

All inner functions work in atomic units; `mbd_energy` and `mbd_energy_and_gradient` convert.
Memory: for the gradient the factors of 16 matrices of (3 n)^2 numbers are kept, about 1.2 kB n^2;
the energy alone keeps none.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lu_factor, lu_solve

from qfarm.engines.mbd import tensors
from qfarm.engines.mbd.free_atoms import FreeAtoms, free_atoms
from qfarm.engines.mbd.tensors import FloatArray
from qfarm_schemas.units import BOHR, HARTREE, HARTREE_PER_BOHR

FREQUENCIES: Final = 15
"""Gauss-Legendre points besides u = 0, as in libMBD."""

FREQUENCY_SCALE: Final = 0.6
"""Maps (-1, 1) to (0, inf) by u = L (1 + x)/(1 - x), Ha, as in libMBD."""


class MbdCollapse(ArithmeticError):  # noqa: N818 (a state of the model, not a mistake)
    """Polarisation catastrophe: the coupled dipoles have no bound state, so no energy exists.

    A scientific failure, not a broken programme: the caller turns it into
    `qfarm_schemas.attempt.Failure` (cause ``str(error)``, evidence ``stage`` and ``lowest``).
    It happens for overlapping atoms or for far too large volume ratios.

    Attributes
    ----------
    stage : str
        ``screening`` (a screened polarizability is not positive) or ``coupling`` (an eigenvalue
        of the coupled oscillators is not positive).
    lowest : float
        The offending number: bohr^3 in ``screening``, Ha^2 in ``coupling``.
    """

    def __init__(self, stage: str, lowest: float) -> None:
        super().__init__(f"MBD {stage} gives {lowest:.3g}, which must be positive")
        self.stage = stage
        self.lowest = lowest


@dataclass(frozen=True)
class MbdResult:
    """Dispersion energy (eV) and forces, shape (n, 3), eV/A."""

    energy: float
    forces: FloatArray


@dataclass(frozen=True)
class _Screening:
    """One frequency: LU factors of A^-1, pair tensors, and A summed over the second atom."""

    factors: tuple[FloatArray, NDArray[np.int32]]
    tensor: tensors.PairTensor
    summed: FloatArray  # (n, 3, 3)

    @property
    def polarizability(self) -> FloatArray:
        """Screened isotropic polarizability of each atom, (n,), bohr^3."""
        trace: FloatArray = np.einsum("iaa->i", self.summed)
        return trace / 3


@dataclass(frozen=True)
class _Oscillators:
    """Screened atoms: polarizability, omega and radius, (n,)."""

    polarizability: FloatArray
    omega: FloatArray
    radius: FloatArray

    @property
    def charge(self) -> FloatArray:
        """The factor omega sqrt(alpha) of each atom in the coupling, (n,)."""
        return self.omega * np.sqrt(self.polarizability)


@dataclass(frozen=True)
class _Coupled:
    """Energy of coupled oscillators and its derivatives by omega, radius, alpha and pairs."""

    energy: float
    by_omega: FloatArray
    by_polarizability: FloatArray
    by_radius: FloatArray
    by_vector: FloatArray  # (m, 3)


def mbd_energy_and_gradient(
    numbers: NDArray[np.integer], positions: FloatArray, ratios: FloatArray, beta: float
) -> MbdResult:
    """Compute the MBD@rsSCS energy and forces at fixed Hirshfeld volume ratios.

    Parameters
    ----------
    numbers : (n,) int array
        Atomic numbers, 1 to 86.
    positions : (n, 3) array
        A.
    ratios : (n,) array
        Hirshfeld volume ratios, positive, dimensionless.
    beta : float
        Range-separation parameter: 0.83 for PBE, 0.85 for PBE0 and HSE (the paper and libMBD).

    Raises
    ------
    MbdCollapse
        At a polarisation catastrophe; see there.
    ValueError
        On wrong shapes, ratios that are not positive, or elements without reference data.
    """
    atoms, bohr = _checked(numbers, positions, ratios)
    energy, gradient = energy_and_gradient(atoms, bohr, beta)
    return MbdResult(energy * HARTREE, -gradient * HARTREE_PER_BOHR)


def mbd_energy(
    numbers: NDArray[np.integer], positions: FloatArray, ratios: FloatArray, beta: float
) -> float:
    """Compute the energy of `mbd_energy_and_gradient` alone, eV: less time, far less memory."""
    atoms, bohr = _checked(numbers, positions, ratios)
    return energy_of(atoms, bohr, beta) * HARTREE


def _checked(
    numbers: NDArray[np.integer], positions: FloatArray, ratios: FloatArray
) -> tuple[FreeAtoms, FloatArray]:
    """Scaled atoms and their positions in bohr."""
    numbers, positions, ratios = np.asarray(numbers), np.asarray(positions), np.asarray(ratios)
    if not len(numbers) or positions.shape != (len(numbers), 3) or ratios.shape != numbers.shape:
        raise ValueError(f"shapes {numbers.shape}, {positions.shape}, {ratios.shape} do not match")
    if not (np.all(np.isfinite(ratios)) and np.all(ratios > 0)):
        raise ValueError("Hirshfeld volume ratios must be positive")
    return scaled(free_atoms(numbers), ratios), positions / BOHR


def scaled(atoms: FreeAtoms, ratios: FloatArray) -> FreeAtoms:
    """Atoms in the molecule by volume scaling (Tkatchenko and Scheffler 2009)."""
    return FreeAtoms(
        atoms.polarizability * ratios, atoms.c6 * ratios**2, atoms.radius * np.cbrt(ratios)
    )


def energy_and_gradient(
    atoms: FreeAtoms, positions: FloatArray, beta: float
) -> tuple[float, FloatArray]:
    """Energy (Ha) and gradient, (n, 3) Ha/bohr, of scaled `atoms` at `positions` (bohr)."""
    pairs = tensors.pairs_of(positions)
    frequencies, weights = frequency_grid()
    screenings = [_screen(atoms, pairs, u, beta) for u in frequencies]
    dynamic = np.array([screening.polarizability for screening in screenings])
    oscillators = _oscillators(atoms, dynamic, weights)
    coupled = _couple(oscillators, pairs, beta)
    by_vector = coupled.by_vector.copy()
    for screening, by_dynamic in zip(
        screenings, _by_dynamic(coupled, oscillators, dynamic, weights), strict=True
    ):
        by_vector += _screening_gradient(screening, pairs, by_dynamic)
    return coupled.energy, tensors.scatter(pairs, by_vector)


def energy_of(atoms: FreeAtoms, positions: FloatArray, beta: float) -> float:
    """Energy (Ha) of scaled `atoms` at `positions` (bohr)."""
    pairs = tensors.pairs_of(positions)
    frequencies, weights = frequency_grid()
    dynamic = np.array([_screen(atoms, pairs, u, beta).polarizability for u in frequencies])
    oscillators = _oscillators(atoms, dynamic, weights)
    scale = beta * pairs.total(oscillators.radius)
    tensor = tensors.bare(pairs.distance, *tensors.damping(pairs.distance, scale))
    dipoles = tensors.matrix(pairs, tensor)
    squares = np.linalg.eigvalsh(_hamiltonian(oscillators.omega, oscillators.charge, dipoles))
    return _zero_point(np.asarray(squares), oscillators.omega)


def frequency_grid() -> tuple[FloatArray, FloatArray]:
    """Imaginary frequencies (Ha) and weights, 16 each; the first is 0 with weight 0."""
    x, weight = np.polynomial.legendre.leggauss(FREQUENCIES)
    frequency = FREQUENCY_SCALE * (1 + x) / (1 - x)
    weight = 2 * FREQUENCY_SCALE / (1 - x) ** 2 * weight
    return np.append(0.0, frequency), np.append(0.0, weight)


def _screen(atoms: FreeAtoms, pairs: tensors.Pairs, u: float, beta: float) -> _Screening:
    """Solve the screening equation at frequency `u` (step 2)."""
    omega = 4 / 3 * atoms.c6 / atoms.polarizability**2
    alpha = atoms.polarizability / (1 + (u / omega) ** 2)
    squared_width = np.cbrt(np.sqrt(2 / np.pi) * alpha / 3) ** 2
    sigma = np.sqrt(pairs.total(squared_width))
    tensor = tensors.short_range(pairs.distance, sigma, beta * pairs.total(atoms.radius))
    matrix = tensors.matrix(pairs, tensor)
    matrix[np.diag_indices_from(matrix)] = np.repeat(1 / alpha, 3)
    # The matrix is symmetric: its transpose is itself in the order LAPACK overwrites in place.
    factors = lu_factor(matrix.T, overwrite_a=True, check_finite=False)
    return _Screening(factors, tensor, _solve(factors, np.ones(pairs.count)))


def _solve(factors: tuple[FloatArray, NDArray[np.int32]], per_atom: FloatArray) -> FloatArray:
    """A times the three Cartesian unit vectors weighted by `per_atom`, (n, 3, 3)."""
    right = np.kron(per_atom[:, None], np.eye(3))
    solved: FloatArray = lu_solve(factors, right, check_finite=False)
    return solved.reshape(-1, 3, 3)


def _oscillators(atoms: FreeAtoms, dynamic: FloatArray, weights: FloatArray) -> _Oscillators:
    """Screened parameters from the dynamic polarizabilities (16, n) (step 3)."""
    if not np.all(dynamic > 0):
        raise MbdCollapse("screening", float(dynamic.min()))
    static = dynamic[0]
    c6 = 3 / np.pi * weights @ dynamic**2
    radius = atoms.radius * np.cbrt(static / atoms.polarizability)
    return _Oscillators(static, 4 / 3 * c6 / static**2, radius)


def _couple(atoms: _Oscillators, pairs: tensors.Pairs, beta: float) -> _Coupled:
    """Diagonalise the coupled oscillators and differentiate their energy (step 4)."""
    scale = beta * pairs.total(atoms.radius)
    f, df = tensors.damping(pairs.distance, scale)
    tensor = tensors.bare(pairs.distance, f, df)
    charge, dipoles = atoms.charge, tensors.matrix(pairs, tensor)
    squares, modes = np.linalg.eigh(_hamiltonian(atoms.omega, charge, dipoles))
    energy = _zero_point(squares, atoms.omega)
    by_matrix = (modes / (4 * np.sqrt(squares))) @ modes.T

    blocks = by_matrix.reshape(pairs.count, 3, pairs.count, 3)
    by_charge = 2 * np.einsum("iajb,iajb,j->i", blocks, dipoles.reshape(blocks.shape), charge)
    by_omega = 2 * atoms.omega * np.einsum("iaia->i", blocks) - 1.5
    coupling = 2 * charge[pairs.first] * charge[pairs.second]
    weight = coupling[:, None, None] * blocks[pairs.first, :, pairs.second, :]
    return _Coupled(
        energy=energy,
        by_omega=by_omega + by_charge * np.sqrt(atoms.polarizability),
        by_polarizability=by_charge * atoms.omega / (2 * np.sqrt(atoms.polarizability)),
        by_radius=beta * _by_scale(pairs, weight, -pairs.distance / scale * df),
        by_vector=tensors.contract(pairs, tensor, weight),
    )


def _hamiltonian(omega: FloatArray, charge: FloatArray, dipoles: FloatArray) -> FloatArray:
    """Matrix H of the coupled oscillators."""
    prefactor = np.repeat(charge, 3)
    hamiltonian: FloatArray = prefactor[:, None] * dipoles * prefactor
    hamiltonian[np.diag_indices_from(hamiltonian)] += np.repeat(omega**2, 3)
    return hamiltonian


def _zero_point(squares: FloatArray, omega: FloatArray) -> float:
    """Energy of the coupled oscillators, from the eigenvalues of H, relative to free ones."""
    if squares[0] <= 0:
        raise MbdCollapse("coupling", float(squares[0]))
    return float(np.sqrt(squares).sum() / 2 - 1.5 * omega.sum())


def _by_scale(pairs: tensors.Pairs, weight: FloatArray, by_scale: FloatArray) -> FloatArray:
    """Derivative by the radius of each atom, per unit of beta; `by_scale` is df/dS."""
    per_pair = by_scale * tensors.inner(
        pairs, tensors.bare(pairs.distance, np.ones(1), np.zeros(1)), weight
    )
    by_radius: FloatArray = np.bincount(pairs.first, per_pair, pairs.count).astype(np.float64)
    by_radius += np.bincount(pairs.second, per_pair, pairs.count)
    return by_radius


def _by_dynamic(
    coupled: _Coupled, atoms: _Oscillators, dynamic: FloatArray, weights: FloatArray
) -> FloatArray:
    """Derivative of the energy by the screened dynamic polarizabilities, (16, n)."""
    static = atoms.polarizability
    by_c6 = coupled.by_omega * 4 / (3 * static**2)
    result: FloatArray = 6 / np.pi * weights[:, None] * dynamic * by_c6
    result[0] += coupled.by_polarizability
    result[0] += coupled.by_radius * atoms.radius / (3 * static)
    result[0] -= 2 * coupled.by_omega * atoms.omega / static
    return result


def _screening_gradient(
    screening: _Screening, pairs: tensors.Pairs, by_polarizability: FloatArray
) -> FloatArray:
    """Derivative by the pair vectors, (m, 3), through one frequency: dA = -A dT A."""
    left, right = _solve(screening.factors, by_polarizability), screening.summed
    i, j = pairs.first, pairs.second
    weight = left[i] @ right[j].transpose(0, 2, 1) + left[j] @ right[i].transpose(0, 2, 1)
    return tensors.contract(pairs, screening.tensor, weight / -3)
