"""Plain: frames as most files hold them, read as ASE reads them but without its `Atoms`. Pure.

A batch has 100,000 of them, and few different words in their comment lines. Whatever is not
plain, or wrong in any way, is left to ASE, which reads it or says what is wrong with it.
"""

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from ase.calculators.calculator import all_properties
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict
from numpy.typing import NDArray

from qfarm.intake.frames import Frame

COLUMNS: Final = "species:S:1:pos:R:3"
"""Columns of a frame without `Properties`; ASE's default."""

_WORD: Final = r"[^\s=\\'\"{}\[\]]+(?:=(?:[^\s=\\'\"{}\[\]]+|\"[^\\\"]+\"))?"
_WORDS: Final = re.compile(_WORD)
_COMMENT: Final = re.compile(rf"\s*(?:{_WORD}(?:\s+{_WORD})*)?\s*")
"""Words and pairs of which each means to ASE the same as it would alone."""

_LONGEST: Final = 2_000
"""Characters of the longest comment line that is taken apart here."""

_ELSEWHERE: Final = frozenset({"Lattice", *all_properties})
"""Keys that ASE does not keep where it keeps the others."""

_OPEN: Final[tuple[Any, ...]] = (False, [False] * 3)


class Plain(NamedTuple):
    """Numbers, positions in A and keys of a plain frame, which is never periodic."""

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    info: dict[str, Any]


def plain(frame: Frame) -> Plain | None:
    """Read a frame; None when it is not plain."""
    try:
        return _read(frame)
    except Exception:  # noqa: BLE001  whatever is wrong with it, ASE finds the words
        return None


def _read(frame: Frame) -> Plain | None:
    comment = frame.comment
    if len(comment) > _LONGEST or not _COMMENT.fullmatch(comment):
        return None
    info = dict(map(_pair, _WORDS.findall(comment)))
    columns, periodic = info.pop("Properties", COLUMNS), info.pop("pbc", False)
    if columns != COLUMNS or periodic not in _OPEN or not _ELSEWHERE.isdisjoint(info):
        return None
    rows = [line.split(maxsplit=4) for line in frame.atoms]
    numbers = [atomic_numbers[row[0].capitalize()] for row in rows]
    positions = [(float(row[1]), float(row[2]), float(row[3])) for row in rows]
    return Plain(np.array(numbers), np.array(positions), info)


@lru_cache(maxsize=4096)
def _pair(word: str) -> tuple[str, Any]:
    read: dict[str, Any] = key_val_str_to_dict(word)  # type: ignore[no-untyped-call]
    (pair,) = read.items()
    return pair
