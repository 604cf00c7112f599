"""Batch: read many files, count what is new, known, double or wrong, and keep what is right.

Accepted fragments wait in a temporary file, so memory holds one chunk of them and a key each.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from os import SEEK_END
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, TypeVar

from qfarm.errors import InputError
from qfarm.intake.examine import Examiner, Rejected
from qfarm.intake.frames import Frame, Lines, frames
from qfarm.intake.problem import Flaw, Kind, Problem, Where
from qfarm.plan import Plan, plan
from qfarm_schemas.config import Protocol
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory

CHUNK: Final = 500
"""Fragments that are looked up, or written, at once."""

SUFFIXES: Final = (".xyz", ".extxyz")

Known = Callable[[Sequence[str]], frozenset[str]]
"""Which workflow keys the database has."""

Item = TypeVar("Item")

Progress = Callable[[int], None]
"""Told how many more bytes were read."""


class Fate(StrEnum):
    """What becomes of a frame."""

    NEW = "new"
    KNOWN = "known"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Group:
    """Fragments that are counted together: one class at the same levels of theory."""

    fragment_class: str
    levels: tuple[LevelOfTheory, ...]  # one a stage; empty for rejected frames


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


class Spool:
    """Accepted fragments in a temporary file, one JSON line each; floats keep every bit."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle

    def put(self, fragment: Fragment) -> None:
        """Append a fragment."""
        self._handle.write(fragment.model_dump_json().encode() + b"\n")

    def plans(self, protocol: Protocol) -> Iterator[tuple[Plan, ...]]:
        """Plans of the fragments put in so far, in order, in chunks."""
        self._handle.seek(0)
        planned = (plan(Fragment.model_validate_json(line), protocol) for line in self._handle)
        yield from chunks(found for found in planned if isinstance(found, Plan))


def chunks(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    """Cut into tuples of `CHUNK` items; the last may be shorter."""
    iterator = iter(items)
    while chunk := tuple(islice(iterator, CHUNK)):
        yield chunk


def open_spool() -> IO[bytes]:
    """Return the file behind a `Spool`; it vanishes when closed, or with the process."""
    return TemporaryFile()


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
        Asks the database; called with at most `CHUNK` keys.
    progress : callable
        Told how many more bytes were read.

    Returns
    -------
    Batch
    """
    batch = Batch()
    seen: set[str] = set()
    examined = (examiner.examine(frame) for path in paths for frame in _frames(path, progress))
    for chunk in chunks(examined):
        plans = [found for found in chunk if isinstance(found, Plan)]
        in_store = known([found.key for found in plans])
        for found in chunk:
            if isinstance(found, Rejected):
                _reject(batch, found)
            else:
                fate = _fate(found.key, seen, in_store)
                _accept(batch, found, fate, spool)
    return batch


def _accept(batch: Batch, found: Plan, fate: Fate, spool: Spool) -> None:
    levels = tuple(stage.level for stage in found.stages)
    batch.add(Group(found.fragment.fragment_class, levels), fate, found.fragment.n_atoms)
    if fate in (Fate.NEW, Fate.KNOWN):
        spool.put(found.fragment)


def _reject(batch: Batch, found: Rejected) -> None:
    batch.add(Group(found.fragment_class, ()), Fate.REJECTED, found.n_atoms)
    batch.problems.extend(found.problems)


def _fate(key: str, seen: set[str], in_store: frozenset[str]) -> Fate:
    if key in seen:
        return Fate.DUPLICATE
    seen.add(key)
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
