"""Batch: read many files, count what is new, known, double or wrong, and keep what is right.

Accepted fragments wait in a temporary file, so memory holds one chunk of them and a key each.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from os import SEEK_END
from pathlib import Path
from typing import Final

from qfarm.errors import InputError
from qfarm.intake.examine import Examiner, Rejected
from qfarm.intake.frames import Frame, Lines, frames
from qfarm.intake.pool import Accepted, Group, examined
from qfarm.intake.problem import Flaw, Kind, Problem, Where
from qfarm.intake.spool import Spool

SUFFIXES: Final = (".xyz", ".extxyz")

Known = Callable[[Sequence[str]], frozenset[str]]
"""Which workflow keys the database has."""

Progress = Callable[[int], None]
"""Told how many more bytes were read."""


class Fate(StrEnum):
    """What becomes of a frame."""

    NEW = "new"
    KNOWN = "known"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass
class Tally:
    """Counts and sizes of one group."""

    counts: Counter[Fate] = field(default_factory=Counter)
    smallest: int = 0
    largest: int = 0

    def add(self, fate: Fate, n_atoms: int) -> None:
        """Count one frame."""
        self.smallest = n_atoms if not self.counts else min(self.smallest, n_atoms)
        self.largest = max(self.largest, n_atoms)
        self.counts[fate] += 1


@dataclass
class Batch:
    """All that was read.

    Attributes
    ----------
    groups : dict
        Tally of each class and its levels, in order of appearance.
    problems : list of Problem
        Every problem of every rejected frame.
    """

    groups: dict[tuple[str, tuple[str, ...]], tuple[Group, Tally]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def count(self, fate: Fate) -> int:
        """Frames with this fate."""
        return sum(tally.counts[fate] for _, tally in self.groups.values())

    @property
    def total(self) -> int:
        """Frames read."""
        return sum(self.count(fate) for fate in Fate)

    def add(self, group: Group, fate: Fate, n_atoms: int) -> None:
        """Count one frame."""
        key = (group.fragment_class, tuple(level.id for level in group.levels))
        self.groups.setdefault(key, (group, Tally()))[1].add(fate, n_atoms)


def size_of(paths: Iterable[Path]) -> int:
    """Check that every file can be read, and sum their sizes.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    InputError
        A file is missing, is a folder, may not be read or has another format.
    """
    return sum(_size(path) for path in paths)


def read(
    paths: Iterable[Path],
    examiner: Examiner,
    spool: Spool,
    known: Known,
    progress: Progress = lambda _: None,
    processes: int = 1,
) -> Batch:
    """Read files, put what is new into `spool` and count everything.

    Parameters
    ----------
    paths : iterable of Path
        xyz or extxyz files.
    examiner : Examiner
        Protocol, class and tags.
    spool : Spool
        Takes the fragments that are not in the batch already; known ones too, because their
        stages may get new limits.
    known : callable
        Asks the database; called once a chunk.
    progress : callable
        Told how many more bytes were read.
    processes : int
        How many examine frames; 1: this one.

    Returns
    -------
    Batch
    """
    batch = Batch()
    seen: set[bytes] = set()
    frames_ = (frame for path in paths for frame in _frames(path, progress))
    for chunk in examined(frames_, examiner, processes):
        accepted = [found for found in chunk if isinstance(found, Accepted)]
        in_store = known([found.key for found in accepted])
        for found in chunk:
            if isinstance(found, Rejected):
                _reject(batch, found)
            else:
                _accept(batch, found, _fate(found.key, seen, in_store), spool)
    return batch


def _accept(batch: Batch, found: Accepted, fate: Fate, spool: Spool) -> None:
    batch.add(found.group, fate, found.n_atoms)
    if fate in (Fate.NEW, Fate.KNOWN):
        spool.put(found.line)


def _reject(batch: Batch, found: Rejected) -> None:
    batch.add(Group(found.fragment_class, ()), Fate.REJECTED, found.n_atoms)
    batch.problems.extend(found.problems)


def _fate(key: str, seen: set[bytes], in_store: frozenset[str]) -> Fate:
    short = bytes.fromhex(key[1:])  # half the memory of the text
    if short in seen:
        return Fate.DUPLICATE
    seen.add(short)
    return Fate.KNOWN if key in in_store else Fate.NEW


def _frames(path: Path, progress: Progress) -> Iterator[Frame | Problem]:
    with path.open("rb") as handle:
        lines = Lines(handle)
        told, found = 0, False
        for frame in frames(lines, str(path)):
            yield frame
            progress(lines.offset - told)
            told, found = lines.offset, True
        progress(lines.offset - told)
    if not found:
        flaw = Flaw(Kind.EMPTY, "the file holds no frames", "Was it written to the end?")
        yield Problem(Where(str(path), 1, 1), flaw)


def _size(path: Path) -> int:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} is no {' or '.join(SUFFIXES)} file",
            "Convert it, for instance with `ase convert`, or rename it if it is xyz.",
        )
    try:
        with path.open("rb") as handle:
            return handle.seek(0, SEEK_END)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "Check the path.") from error
