"""DFTB+'s GenFormat: a geometry as DFTB+ reads and writes it (DFTB+ manual, appendix)."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.dftbplus.parameters import symbols
from qfarm_schemas.elements import NUMBERS, SYMBOLS
from qfarm_schemas.fragment import Fragment

CLUSTER: Final = "C"
"""A molecule: no lattice vectors."""


@dataclass(frozen=True)
class Geometry:
    """Atomic numbers, shape (n_atoms,), and positions, shape (n_atoms, 3), A."""

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]


def rows(geometry: Geometry) -> list[list[int | float | str]]:
    """Lines of a geometry, each a list of words; positions in full precision."""
    species = symbols(geometry.numbers)
    head: list[list[int | float | str]] = [[len(geometry.numbers), CLUSTER], [*species]]
    atoms = zip(geometry.numbers.tolist(), geometry.positions.tolist(), strict=True)
    return head + [
        [number, species.index(SYMBOLS[z]) + 1, *position]
        for number, (z, position) in enumerate(atoms, start=1)
    ]


def read(text: str) -> Geometry | None:
    """Read a molecule; None when the text is not one, whole, with bare symbols as species."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    n_atoms = _count(lines)
    if n_atoms is None or len(lines) != n_atoms + 2:
        return None
    atoms = [_atom(words, number, lines[1]) for number, words in enumerate(lines[2:], start=1)]
    known = [atom for atom in atoms if atom is not None]
    if len(known) != n_atoms:
        return None
    return Geometry(np.array([z for z, _ in known]), np.array([position for _, position in known]))


def same_atoms(geometry: Geometry, fragment: Fragment) -> bool:
    """Whether the geometry has the fragment's atoms, in its order."""
    return np.array_equal(geometry.numbers, fragment.numbers)


def _count(lines: list[list[str]]) -> int | None:
    """Number of atoms by the first line."""
    head = lines[0] if len(lines) > 2 else []
    if len(head) != 2 or head[1].upper() != CLUSTER or not _is_count(head[0]):
        return None
    return int(head[0])


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10


def _atom(words: list[str], number: int, species: list[str]) -> tuple[int, list[float]] | None:
    """Atomic number and position of a line ``number species x y z``."""
    if len(words) != 5 or words[0] != str(number) or not _is_count(words[1]):
        return None
    index = int(words[1])
    if not 1 <= index <= len(species) or species[index - 1] not in NUMBERS:
        return None
    try:
        position = [float(word) for word in words[2:]]
    except ValueError:
        return None
    if not all(math.isfinite(coordinate) for coordinate in position):
        return None
    return NUMBERS[species[index - 1]], position
