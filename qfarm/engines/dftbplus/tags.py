"""``results.tag``: DFTB+'s machine-readable results, in atomic units. Pure; never raises.

A tag is a line ``name:type:rank:shape`` and its values, the first index running fastest. Each
number has a fixed form, so that one cut short is told from a whole one.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NAME: Final = "results.tag"

_HEAD: Final = re.compile(r"(\w+) *:real:\d:((?:\d{1,9}(?:,\d{1,9})*)?)$")
_OTHER: Final = re.compile(r"\w+ *:\w+:\d:")
_NUMBER: Final = re.compile(r"[+-]?\d\.\d+E[+-]\d{3}$")


@dataclass(frozen=True)
class Tag:
    """Shape as printed, and the values in the order of the file."""

    shape: tuple[int, ...]
    values: NDArray[np.float64]


Tags = Mapping[str, Tag]


def read(text: str) -> dict[str, Tag]:
    """Read the real-valued tags that are whole."""
    found: dict[str, Tag] = {}
    for name, shape, words in _blocks(text):
        numbers = [float(word) for word in words if _NUMBER.match(word)]
        if len(numbers) == len(words) == math.prod(shape):
            found[name] = Tag(shape, np.array(numbers))
    return found


def scalar(tags: Tags, name: str) -> float | None:
    """A single number, Ha or e; None when it is missing."""
    tag = tags.get(name)
    return float(tag.values[0]) if tag and tag.values.size == 1 else None


def vectors(tags: Tags, name: str, count: int) -> NDArray[np.float64] | None:
    """Vectors, shape (count, 3); None when they are missing or not so many."""
    tag = tags.get(name)
    return tag.values.reshape(count, 3) if tag and tag.shape == (3, count) else None


def scalars(tags: Tags, name: str, count: int) -> NDArray[np.float64] | None:
    """Numbers, shape (count,), whatever indices of length 1 follow; None when missing."""
    tag = tags.get(name)
    if tag is None or count < 1 or tag.shape[:1] != (count,) or tag.values.size != count:
        return None
    return tag.values


def _blocks(text: str) -> list[tuple[str, tuple[int, ...], list[str]]]:
    """Name, shape and words of each tag."""
    blocks: list[tuple[str, tuple[int, ...], list[str]]] = []
    reading = False
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            shape = tuple(int(length) for length in head[2].split(",") if length)
            blocks.append((head[1], shape, []))
            reading = True
        elif _OTHER.match(line):
            reading = False
        elif reading:
            blocks[-1][2].extend(line.split())
    return blocks
