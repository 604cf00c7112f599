"""Pair tensors of MBD: distances, the damped and the short-range dipole interaction.

Every pair tensor has the form T = isotropic * 1 + anisotropic * R R^T, R = r_i - r_j. Formulas:
`qfarm.engines.mbd.rsscs`, "the paper" there. Everything is in atomic units.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

FloatArray = NDArray[np.float64]

STEEPNESS: Final = 6.0
"""Parameter a of the damping function (the paper and libMBD)."""


@dataclass(frozen=True)
class Pairs:
    """Each pair of atoms once: indices (m,), vector r_i - r_j (m, 3) and distance (m,), bohr."""

    count: int
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    vector: FloatArray
    distance: FloatArray

    def total(self, per_atom: FloatArray) -> FloatArray:
        """Sum of an atomic quantity over the two atoms of each pair."""
        return per_atom[self.first] + per_atom[self.second]


@dataclass(frozen=True)
class PairTensor:
    """Pair tensors ``iso * 1 + aniso * R R^T`` (m,) with radial derivatives."""

    iso: FloatArray
    aniso: FloatArray
    d_iso: FloatArray
    d_aniso: FloatArray


def pairs_of(positions: FloatArray) -> Pairs:
    """Pairs of atoms at `positions`, (n, 3) bohr."""
    first, second = np.triu_indices(len(positions), k=1)
    vector = positions[first] - positions[second]
    return Pairs(len(positions), first, second, vector, np.linalg.norm(vector, axis=1))


def damping(r: FloatArray, scale: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fermi function f and df/dr; df/dS is ``-r/S`` times the latter."""
    f = 1 / (1 + np.exp(-STEEPNESS * (r / scale - 1)))
    return f, f * (1 - f) * STEEPNESS / scale


def bare(r: FloatArray, f: FloatArray, df: FloatArray) -> PairTensor:
    """f(r) times the dipole-dipole tensor 1/r^3 - 3 R R^T/r^5."""
    return PairTensor(
        iso=f / r**3,
        aniso=-3 * f / r**5,
        d_iso=df / r**3 - 3 * f / r**4,
        d_aniso=-3 * df / r**5 + 15 * f / r**6,
    )


def short_range(r: FloatArray, sigma: FloatArray, scale: FloatArray) -> PairTensor:
    """(1 - f) times the interaction of Gaussian dipoles (the paper).

    With z = r/sigma, q = 4 z^3 exp(-z^2)/sqrt(pi) and
    e = erf(z) - 2 z exp(-z^2)/sqrt(pi): T_GG = e/r^3 + (q - 3 e) R R^T/r^5;
    r de/dr = q, r dq/dr = (3 - 2 z^2) q.
    """
    z = r / sigma
    gauss = 2 * z * np.exp(-(z**2)) / np.sqrt(np.pi)
    e, q = erf(z) - gauss, 2 * z**2 * gauss
    f, df = damping(r, scale)
    return PairTensor(
        iso=(1 - f) * e / r**3,
        aniso=(1 - f) * (q - 3 * e) / r**5,
        d_iso=(1 - f) * (q - 3 * e) / r**4 - df * e / r**3,
        d_aniso=(1 - f) * (15 * e - (5 + 2 * z**2) * q) / r**6 - df * (q - 3 * e) / r**5,
    )


def matrix(pairs: Pairs, tensor: PairTensor) -> FloatArray:
    """Dense symmetric (3 n, 3 n) matrix of pair tensors, zero on the diagonal."""
    vector = pairs.vector
    blocks = tensor.aniso[:, None, None] * vector[:, :, None] * vector[:, None, :]
    blocks[:, range(3), range(3)] += tensor.iso[:, None]
    dense = np.zeros((pairs.count, 3, pairs.count, 3))
    dense[pairs.first, :, pairs.second, :] = blocks
    dense[pairs.second, :, pairs.first, :] = blocks
    return dense.reshape(3 * pairs.count, 3 * pairs.count)


def contract(pairs: Pairs, tensor: PairTensor, weight: FloatArray) -> FloatArray:
    """Derivative of sum_pairs <weight, T> by the pair vectors; weight is (m, 3, 3)."""
    vector, r = pairs.vector, pairs.distance
    image = np.einsum("pab,pb->pa", weight + weight.transpose(0, 2, 1), vector)
    trace = np.einsum("paa->p", weight)
    radial = tensor.d_iso * trace + tensor.d_aniso * np.einsum("pa,pa->p", vector, image) / 2
    gradient: FloatArray = (radial / r)[:, None] * vector + tensor.aniso[:, None] * image
    return gradient


def scatter(pairs: Pairs, by_vector: FloatArray) -> FloatArray:
    """Gradient by atomic positions, (n, 3), from that by pair vectors, (m, 3)."""
    gradient = np.empty((pairs.count, 3))
    for axis, values in enumerate(by_vector.T):
        plus = np.bincount(pairs.first, values, pairs.count)
        gradient[:, axis] = plus - np.bincount(pairs.second, values, pairs.count)
    return gradient


def inner(pairs: Pairs, tensor: PairTensor, weight: FloatArray) -> FloatArray:
    """<weight, T> for each pair, (m,)."""
    quadratic = np.einsum("pa,pab,pb->p", pairs.vector, weight, pairs.vector)
    product: FloatArray = tensor.iso * np.einsum("paa->p", weight) + tensor.aniso * quadratic
    return product
