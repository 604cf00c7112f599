"""Matrices: one-electron matrices of a converged SCF in its atomic basis, and which are asked for.

The order of the basis functions is that of `Matrices.functions`, one row each: atom (from 0, in the
order of the record), n and l of the shell, and m of the real harmonic. As in PySCF, functions are
sorted by atom, then l, then n, then m; m runs from -l to l, but for p, whose order is x, y, z
(m = 1, -1, 0). For d: xy, yz, z2, xz, x2-y2. The harmonics have PySCF's signs, and shells are
spherical, not Cartesian.
"""

from collections.abc import Mapping
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from qfarm_schemas.arrays import Functions, Matrix
from qfarm_schemas.base import Model

OPTION: Final = "matrices"
"""Option of a level of theory: true (`USUAL`), or names, for instance ``"fock, overlap, core"``."""

NAMES: Final = ("fock", "overlap", "density", "core")
USUAL: Final = ("fock", "overlap")
"""What learning a Hamiltonian needs; orbitals and density follow from the two."""


class Matrices(Model):
    """One-electron matrices; those that were not asked for are None.

    Attributes
    ----------
    functions : (n_basis, 4) int
        Atom, n, l and m of each basis function; see the module.
    fock : (n_basis, n_basis) or (2, n_basis, n_basis) float or None
        Fock (Kohn-Sham) matrix of the final density, eV; two spins (alpha, beta) for an open
        shell. Without dispersion, which does not depend on the density.
    overlap : (n_basis, n_basis) float or None
        Overlap of the basis functions.
    density : as `fock`, or None
        Density matrix, e; its trace with `overlap` is the number of electrons.
    core : (n_basis, n_basis) float or None
        One-electron Hamiltonian: kinetic energy and attraction by the nuclei, eV.
    """

    functions: Functions
    fock: Matrix | None = None
    overlap: Matrix | None = None
    density: Matrix | None = None
    core: Matrix | None = None

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        sizes = {name: matrix.shape[-1] for name, matrix in self.given().items()}
        wrong = [f"{name} {size}" for name, size in sizes.items() if size != len(self.functions)]
        if wrong:
            raise ValueError(f"{len(self.functions)} basis functions, but {', '.join(wrong)}")
        return self

    def given(self) -> dict[str, NDArray[np.float64]]:
        """The matrices that there are, by name."""
        found = {name: getattr(self, name) for name in NAMES}
        return {name: matrix for name, matrix in found.items() if matrix is not None}


def asked(options: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the matrices that a level of theory asks for.

    Raises
    ------
    ValueError
        The option is neither true, false nor names.

    Examples
    --------
    >>> asked({"matrices": True})
    ('fock', 'overlap')
    >>> asked({"matrices": "overlap core"})
    ('overlap', 'core')
    >>> asked({"grid_level": 3})
    ()
    """
    option = options.get(OPTION, False)
    if isinstance(option, bool):
        return USUAL if option else ()
    if not isinstance(option, str):
        raise ValueError(f"{OPTION} is true, false or names ({', '.join(NAMES)}), not {option!r}")
    named = option.replace(",", " ").split()
    unknown = [name for name in named if name not in NAMES]
    if unknown or not named:
        raise ValueError(f"{OPTION} = {option!r} names no matrix: there are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in named)
