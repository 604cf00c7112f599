"""Restart files: what a stopped attempt leaves, kept between attempts on the shared file system.

They lie in ``<root>/<stage key>/<level id>/<attempt number>``. The level is the one computed, so
that a basis fallback never reads the density of another basis. Each attempt saves under its own
number, and reads the newest below its own. Numbers of a stage only grow, and no two workers ever
hold the same: a worker that has lost its lease without knowing can therefore never overwrite, nor
come before, what a newer attempt has saved. It can but leave an older folder behind.

A folder gets its name when it is complete, so that a kill at any moment leaves the old one or the
new one. Losing all of them costs time only.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Final

from qfarm.engines.base import Restart
from qfarm.ladder import RESUMABLE, Decision, Done, Retry
from qfarm_schemas.attempt import Attempt, Failure, Outcome
from qfarm_schemas.failure import FailureKind
from qfarm_workers import scratch

SIZES: Final = ".sizes.json"
"""Names and sizes of the files of a folder, in bytes; what differs was damaged."""

MOST_CRASHES: Final = 2
"""So many crashes in a row, and the restart files are suspected instead of the node."""

_SUSPICIOUS: Final = frozenset({FailureKind.CRASHED, FailureKind.BAD_OUTPUT})
_TOO_LONG: Final = frozenset({FailureKind.TIME_LIMIT, FailureKind.WALLTIME})


@dataclass(frozen=True)
class Spot:
    """Whose restart files: of an attempt at a stage, at the level that it computes."""

    key: str
    level_id: str
    number: int


@dataclass(frozen=True)
class Kept:
    """Restart files that were found.

    Attributes
    ----------
    folder : Path or None
        Where they lie.
    texts : dict
        Name -> text, for `Engine.write`.
    files : tuple of str
        Names of those to put into the scratch folder.
    """

    folder: Path | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    @property
    def given(self) -> dict[str, str]:
        """What `Job.restart` says of them."""
        return dict(self.texts) | dict.fromkeys(self.files, "")

    @property
    def number(self) -> int | None:
        """Number of the attempt that left them."""
        return None if self.folder is None else int(self.folder.name)


NOTHING: Final = Kept()


@dataclass(frozen=True)
class Restarts:
    """The restart files of a farm, below `root`."""

    root: Path

    def save(self, spot: Spot, folder: Path, what: Restart) -> None:
        """Keep what an attempt left in its scratch folder; without any file, what was before.

        Raises
        ------
        OSError
            There is no space, for instance; what was kept before is still there.
        """
        names = tuple(dict.fromkeys(_left(folder, what)))
        if not names:
            return
        target = self._level(spot) / str(spot.number)
        part = target.with_name(f"{spot.number}.part")
        try:
            _copy(names, folder, part)
            shutil.rmtree(target, ignore_errors=True)  # only of an erased farm
            part.rename(target)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self._drop_older(spot)

    def find(self, spot: Spot, what: Restart) -> Kept:
        """What the newest attempt before this one left whole; nothing where it cannot be read."""
        with suppress(OSError):
            whole = next(filter(_whole, self._before(spot)), None)
            return NOTHING if whole is None else _read(whole, what)
        return NOTHING

    def forget(self, key: str) -> None:
        """Remove all of a stage."""
        shutil.rmtree(self.root / key, ignore_errors=True)

    def _level(self, spot: Spot) -> Path:
        return self.root / spot.key / spot.level_id

    def _before(self, spot: Spot) -> list[Path]:
        """Folders of earlier attempts, newest first."""
        found = (path for path in self._level(spot).glob("*") if path.name.isdecimal())
        older = [path for path in found if int(path.name) < spot.number]
        return sorted(older, key=lambda path: int(path.name), reverse=True)

    def _drop_older(self, spot: Spot) -> None:
        """Remove what nobody reads any more, and what killed workers left half copied."""
        for path in self._level(spot).glob("*"):
            number = path.name.removesuffix(".part")
            if number.isdecimal() and int(number) < spot.number:
                shutil.rmtree(path, ignore_errors=True)


def place(kept: Kept, folder: Path) -> None:
    """Put the files into a scratch folder.

    Raises
    ------
    OSError
        One cannot be copied.
    """
    if kept.folder is not None:
        for name in kept.files:
            _copy_file(kept.folder / name, folder / name)


def clear(kept: Kept, folder: Path) -> None:
    """Remove from a scratch folder what `place` has put there."""
    for name in kept.files:
        (folder / name).unlink(missing_ok=True)


def trusted(history: Sequence[Attempt]) -> bool:
    """Whether the next attempt shall use restart files: not after crash upon crash."""
    outcomes = (attempt.outcome for attempt in reversed(history))
    crashes = takewhile(lambda outcome: _kind(outcome) in _SUSPICIOUS, outcomes)
    return sum(1 for _ in crashes) < MOST_CRASHES


def worth_keeping(outcome: Outcome) -> bool:
    """Whether an attempt that ended so leaves something to go on from."""
    return _kind(outcome) in RESUMABLE


def of_use(decision: Decision, outcome: Outcome) -> bool:
    """Whether restart files are of use after a decision.

    A stage that was given up because it takes too long goes on from them after `qfarm retry`.
    """
    if isinstance(decision, Retry):
        return True
    return not isinstance(decision, Done) and _kind(outcome) in _TOO_LONG


def _kind(outcome: Outcome) -> FailureKind | None:
    return outcome.kind if isinstance(outcome, Failure) else None


def _left(folder: Path, what: Restart) -> Iterator[str]:
    """Names of the restart files in a scratch folder; an empty file is none."""
    patterns = (*what.texts, *what.files)
    for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            yield str(path.relative_to(folder))


def _copy(names: Sequence[str], folder: Path, part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in names:
        _copy_file(folder / name, part / name)
    (part / SIZES).write_text(json.dumps(_sizes(part)))


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if source.stat().st_size != target.stat().st_size:
        raise OSError(f"{target} is not as large as {source}")


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != SIZES)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / SIZES).read_text()) == _sizes(folder))
    except (OSError, ValueError):
        return False


def _read(folder: Path, what: Restart) -> Kept:
    names = sorted(_sizes(folder))
    read = {name: scratch.text(folder / name) for name in names if name in what.texts}
    texts = {name: text for name, text in read.items() if text is not None}
    return Kept(folder, texts, tuple(name for name in names if name not in what.texts))
