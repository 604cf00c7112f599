"""Synthetic one-electron matrices; equal arguments give equal matrices."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfarm_schemas.matrices import Matrices
from qfarm_schemas.record import Record


def symmetric(n_basis: int, seed: int = 0, *leading: int) -> NDArray[np.float64]:
    """A symmetric matrix of noise, the worst case for any compression."""
    noise = np.random.default_rng(seed).normal(size=(*leading, n_basis, n_basis))
    made: NDArray[np.float64] = (noise + noise.swapaxes(-1, -2)) / 2
    return made


def matrices(n_basis: int = 200, seed: int = 0, **fields: Any) -> Matrices:
    """Fock and overlap matrix; 200 functions are just too many to stay inside a document."""
    rows = [(number % 3, 1 + number // 3, 0, 0) for number in range(n_basis)]
    good: dict[str, Any] = {
        "functions": np.array(rows),
        "fock": 10 * symmetric(n_basis, seed),
        "overlap": np.eye(n_basis) + 1e-3 * symmetric(n_basis, seed + 1),
    }
    return Matrices(**(good | fields))


def with_matrices(record: Record, n_basis: int = 200, seed: int = 0, **fields: Any) -> Record:
    """The record with matrices in its result."""
    found = record.result.model_copy(update={"matrices": matrices(n_basis, seed, **fields)})
    return record.model_copy(update={"result": found})
