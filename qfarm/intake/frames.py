"""Frames: cut an xyz or extxyz file into frames, one at a time, past broken ones.

ASE reads the frames (`qfarm.intake.structure`); this module only finds where each begins and
ends, so that one broken frame costs neither the later ones nor the line number of the fault, and
a file of any size is read in constant memory.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from qfarm.intake.problem import Flaw, Kind, Problem, Where

MOST_ATOMS: Final = 100_000
"""Atoms that a frame may announce; far above any molecule that can be computed."""

LONGEST_LINE: Final = 16_000_000
"""Bytes of the longest line; a longer one means that the file is not text."""

_COUNT: Final = re.compile(r"[ \t]*[0-9]{1,9}[ \t]*")


@dataclass(frozen=True)
class Frame:
    """Text of one frame.

    Attributes
    ----------
    where : Where
        File, frame number and line of the atom count.
    comment : str
        The second line.
    atoms : tuple of str
        One line an atom; as many as the first line announced.
    """

    where: Where
    comment: str
    atoms: tuple[str, ...]

    @property
    def text(self) -> str:
        """The frame as an xyz file of its own."""
        return "\n".join((str(len(self.atoms)), self.comment, *self.atoms)) + "\n"


class Lines:
    """Lines of a binary file with one line of lookahead.

    Attributes
    ----------
    number : int
        Lines taken so far.
    offset : int
        Bytes read so far.
    """

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._next: str | None = None
        self.number = 0
        self.offset = 0
        self._advance()

    def peek(self) -> str | None:
        """Return the next line without taking it; None at the end of the file."""
        return self._next

    def take(self) -> str | None:
        """Return the next line; None at the end of the file."""
        line = self._next
        if line is not None:
            self.number += 1
            self._advance()
        return line

    def _advance(self) -> None:
        raw = self._handle.readline(LONGEST_LINE)
        self.offset += len(raw)
        # Undecodable bytes become U+FFFD, which is no number and no element: reported, not raised.
        encoding = "utf-8" if self.number else "utf-8-sig"
        self._next = raw.decode(encoding, errors="replace").rstrip("\r\n") if raw else None


def frames(lines: Lines, file: str) -> Iterator[Frame | Problem]:
    """Yield every frame of a file, or the problem that stands in its place.

    Parameters
    ----------
    lines : Lines
        The file.
    file : str
        Its name, for messages.

    Yields
    ------
    Frame or Problem
        Frames count from 1, broken ones included. After a broken frame reading goes on at the
        next line that holds a single whole number. A frame that is followed by anything but
        another frame is broken, too: its atom count may be the line that is wrong.
    """
    number = 0
    while _skip_blank(lines) is not None:
        number += 1
        where = Where(file, number, lines.number + 1)
        flaw_or_frame = _frame(lines, where)
        if isinstance(flaw_or_frame, Flaw):
            _skip_to_count(lines)
            yield Problem(where, flaw_or_frame)
        else:
            yield flaw_or_frame


def _frame(lines: Lines, where: Where) -> Frame | Flaw:
    first = lines.take() or ""
    if not _COUNT.fullmatch(first):
        return _unreadable(
            f"a frame begins with its number of atoms, but line {lines.number} is {_quote(first)}",
            "Mend the line; if the file is not xyz, convert it with `ase convert`.",
        )
    count = int(first)
    if count > MOST_ATOMS:
        return _unreadable(f"it announces {count:,} atoms", "Mend the atom count.")
    comment = lines.take() or ""
    atoms = _atoms(lines, count)
    if len(atoms) < count:
        return _too_short(lines, count, len(atoms))
    extra = _skip_blank(lines)
    if extra is not None and not _COUNT.fullmatch(extra):
        return _unreadable(
            f"it announces {count} atoms, but line {lines.number + 1}, after the last of them, "
            f"is {_quote(extra)}",
            "Mend the atom count, or take the line out.",
        )
    return Frame(where, comment, tuple(atoms))


def _atoms(lines: Lines, count: int) -> list[str]:
    atoms: list[str] = []
    while len(atoms) < count and _is_atom(lines.peek()):
        atoms.append(lines.take() or "")
    return atoms


def _is_atom(line: str | None) -> bool:
    return line is not None and bool(line.strip()) and not _COUNT.fullmatch(line)


def _too_short(lines: Lines, count: int, found: int) -> Flaw:
    line = lines.peek()
    here = "the file ends" if line is None else f"line {lines.number + 1} is {_quote(line)}"
    return _unreadable(
        f"it announces {count} atoms, but after {found} of them {here}",
        "Mend the atom count or the missing lines; was the file cut off?",
    )


def _skip_blank(lines: Lines) -> str | None:
    while (line := lines.peek()) is not None and not line.strip():
        lines.take()
    return line


def _skip_to_count(lines: Lines) -> None:
    while (line := lines.peek()) is not None and not _COUNT.fullmatch(line):
        lines.take()


def _unreadable(what: str, remedy: str) -> Flaw:
    return Flaw(Kind.UNREADABLE, what, remedy)


def _quote(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
