"""Fragment: one molecular geometry with its charge and multiplicity, and its identity."""

from functools import cached_property
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from qfarm_schemas.arrays import Numbers, Vectors
from qfarm_schemas.base import Model, digest

QUANTUM = 1e-10
"""A: positions are hashed as whole multiples of this, so files that print the same geometry
with different digits share an id, while a shift of 1e-9 A gives another."""


class Fragment(Model):
    """One molecular fragment as submitted.

    Attributes
    ----------
    numbers : (n_atoms,) int
        Atomic numbers.
    positions : (n_atoms, 3) float
        Cartesian positions, A.
    charge : int
        Total charge, e.
    multiplicity : int
        Spin multiplicity 2S+1.
    fragment_class : str
        Class of the data set, for instance ``carbohydrate`` or ``dimer``. Not part of the id.
    tags : tuple of str
        Free labels for filtering. Not part of the id.
    source : str
        Where it came from, ``file#frame``. Not part of the id.
    """

    numbers: Numbers
    positions: Vectors
    charge: int = 0
    multiplicity: int = Field(default=1, ge=1)
    fragment_class: str = "unclassified"
    tags: tuple[str, ...] = ()
    source: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.numbers) != len(self.positions):
            raise ValueError(f"{len(self.numbers)} numbers but {len(self.positions)} positions")
        if not np.isfinite(self.positions).all():
            raise ValueError("positions hold NaN or infinity")
        return self

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def n_electrons(self) -> int:
        """Number of electrons of the whole fragment."""
        return int(self.numbers.sum()) - self.charge

    @cached_property
    def id(self) -> str:
        """``f`` and the SHA-256 of `canonical_bytes`."""
        return digest("f", self.canonical_bytes())

    def canonical_bytes(self) -> bytes:
        """Atomic numbers, charge, multiplicity and positions in a fixed binary form.

        Layout: ``qfarm.fragment.1``, then little-endian int64: n_atoms, charge, multiplicity,
        the numbers, the positions in units of `QUANTUM` (row by row). Atom order and absolute
        orientation count: a permuted or rotated copy is another fragment.
        """
        head = np.array([self.n_atoms, self.charge, self.multiplicity], dtype="<i8")
        grid = np.rint(self.positions / QUANTUM).astype("<i8")
        body = head.tobytes() + self.numbers.astype("<i8").tobytes() + grid.tobytes()
        return b"qfarm.fragment.1" + body

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fragment):
            return NotImplemented
        mine = (self.id, self.fragment_class, self.tags, self.source)
        return mine == (other.id, other.fragment_class, other.tags, other.source)

    def __hash__(self) -> int:
        return hash(self.id)
