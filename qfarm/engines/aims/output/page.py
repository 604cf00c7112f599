"""Page: the lines of an output with an index of what they begin with. Pure.

FHI-aims prints ``key : value`` or one sentence a line. The index holds, for each key (the words
before the first colon, or the whole line), the lines that begin with it. A line that another MPI
rank has written into has another key, so that what cannot be read counts as not there.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

OPENINGS: Final = (
    "Highest occupied state (VBM) at",
    "Lowest unoccupied state (CBM) at",
    "Begin self-consistency iteration",
    "The structure contains",
    "Version",
)
"""Beginnings of lines whose value follows without a colon."""

_OPENING: Final = re.compile("|".join(map(re.escape, OPENINGS)))


@dataclass(frozen=True)
class Page:
    """Lines of an output, and where each key stands (line numbers from 0, ascending)."""

    lines: Sequence[str]
    at: Mapping[str, Sequence[int]]

    def where(self, key: str) -> Sequence[int]:
        """Numbers of all lines with `key`."""
        return self.at.get(key, ())

    def count(self, key: str) -> int:
        """How many lines have `key`."""
        return len(self.where(key))

    def last(self, key: str) -> int | None:
        """Number of the last line with `key`."""
        found = self.where(key)
        return found[-1] if found else None

    def values(self, key: str) -> list[str]:
        """What follows `key`, of every line that has it."""
        return [rest(self.lines[number], key) for number in self.where(key)]

    def value(self, key: str) -> str:
        """What follows the last `key`; empty where there is none."""
        number = self.last(key)
        return "" if number is None else rest(self.lines[number], key)


def index(text: str) -> Page:
    """Index `text`."""
    lines = text.splitlines()
    at: defaultdict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        at[key_of(line)].append(number)
    return Page(lines, dict(at))


def key_of(line: str) -> str:
    """The words by which `line` is found."""
    key = line.partition(":")[0].strip()
    opening = _OPENING.match(key)
    return opening.group() if opening else key


def rest(line: str, key: str) -> str:
    """What follows `key` in `line`, without the colon."""
    return line.strip()[len(key) :].strip().removeprefix(":").strip()


_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([Ee][-+]?\d+)?", re.ASCII)
_HUGE: Final = 1e30  # no quantity is as large, and sums of such stay finite


def number(word: str) -> float | None:
    """A number, or None: ``NaN``, ``*****`` and half a number are no numbers.

    >>> number("-0.32971462667630291E-003"), number("****"), number("NaN")
    (-0.0003297146266763029, None, None)
    """
    value = float(word) if _NUMBER.fullmatch(word) else None
    return value if value is not None and abs(value) < _HUGE else None


def numbers(text: str, count: int) -> tuple[float, ...] | None:
    """The first `count` words of `text` as numbers; None when one of them is none.

    >>> numbers("0.1E+00  0.2E+00 eV", 2)
    (0.1, 0.2)
    """
    read = [number(word) for word in text.split()[:count]]
    given = [value for value in read if value is not None]
    return tuple(given) if len(given) == count else None
