"""The one-electron matrices of a converged PySCF calculation, in qfarm's units."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.base import Job
from qfarm.engines.inprocess import LARGEST
from qfarm.engines.pyscf.convergence import FloatArray
from qfarm.engines.pyscf.library import gto
from qfarm.engines.pyscf.scf import molecule
from qfarm_schemas.matrices import Matrices, asked
from qfarm_schemas.units import HARTREE

_P_ORDER: Final = (1, -1, 0)  # x, y, z
_TEXT: Final = 16 / 3 * 1.01  # bytes of base64 for one number of a matrix, a triangle being kept


def matrices(solver: Any, overlap: FloatArray, names: tuple[str, ...]) -> Matrices | None:
    """Matrices of a converged mean field; None when none is asked for.

    The Fock matrix is made anew from the final density: the last of the SCF is extrapolated.

    Parameters
    ----------
    solver : pyscf.dft.RKS or UKS
        Converged without level shift.
    overlap : (n_basis, n_basis) float
        Its overlap matrix.
    names : tuple of str
        Of `qfarm_schemas.matrices.NAMES`.
    """
    if not names:
        return None
    density = np.asarray(solver.make_rdm1())
    core = np.asarray(solver.get_hcore())
    make: Mapping[str, Callable[[], FloatArray]] = {
        "fock": lambda: (core + np.asarray(solver.get_veff(dm=density))) * HARTREE,
        "overlap": lambda: overlap,
        "density": lambda: density,
        "core": lambda: core * HARTREE,
    }
    made = {name: _symmetric(make[name]()) for name in names}
    return Matrices(functions=functions(solver.mol), **made)


def functions(mol: gto.Mole) -> NDArray[np.int32]:
    """Atom, n, l, m of each basis function, (n_basis, 4), in PySCF's order."""
    names = mol.ao_labels(fmt=None)  # (0, "O", "2p", "x")
    rows = [
        (atom, int(shell[:-1]), l_, m)
        for (atom, _, shell, _), (l_, m) in zip(names, _moments(mol), strict=True)
    ]
    return np.array(rows, np.int32)


def _moments(mol: gto.Mole) -> Iterator[tuple[int, int]]:
    for shell in range(mol.nbas):
        l_ = int(mol.bas_angular(shell))
        order = _P_ORDER if l_ == 1 else tuple(range(-l_, l_ + 1))
        yield from ((l_, m) for m in order * int(mol.bas_nctr(shell)))


def _symmetric(matrix: FloatArray) -> FloatArray:
    """The matrix without what rounding left unsymmetric, so that half of it says all."""
    return (matrix + matrix.swapaxes(-1, -2)) / 2


def too_large(job: Job) -> int | None:
    """Number of basis functions, if the matrices asked for cannot be handed over; else None."""
    names = asked(job.level.options)
    if not names:
        return None
    mol = molecule(job)
    spins = 1 if mol.spin == 0 else 2
    count = sum(spins if name in ("fock", "density") else 1 for name in names)
    n_basis = int(mol.nao)
    return n_basis if count * n_basis**2 * _TEXT > LARGEST else None
