"""Scratch: the folder of one attempt, fresh for every key and token."""

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from qfarm.store.protocol import Claim
from qfarm_schemas.attempt import Worker

OWNER: Final = ".owner.json"
"""Names the worker while it uses the folder; a kept folder has none."""

LARGEST: Final = 64 * 2**20
"""Bytes: of a larger file only the end is read."""

LARGEST_KEPT: Final = 4 * 2**20
"""Bytes: a kept folder of a failed attempt loses larger files, which are an engine's temporaries;
thousands of failures must not fill the disk."""

_HEAD: Final = 8192
"""Bytes at the beginning that tell text from binary."""

SMALLEST_ROOM: Final = 50.0
"""MB that must be free before an attempt: its input, output and some temporaries."""


@dataclass(frozen=True)
class Scratch:
    """Where scratch folders are made, and which are kept.

    Attributes
    ----------
    root : Path
        Parent of all of them.
    keep : str
        Keep those of no attempt, of failed attempts, or of all.
    """

    root: Path
    keep: Literal["never", "failed", "always"] = "failed"

    def open(self, claim: Claim) -> Path:
        """Make the folder of a claim; one of the same name can only be a leftover."""
        folder = self.root / folder_name(claim)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / OWNER).write_text(claim.worker.model_dump_json())
        return folder

    def keeps(self, failed: bool) -> bool:
        """Whether the folder of such an attempt stays."""
        return self.keep == "always" or (failed and self.keep == "failed")

    def close(self, folder: Path, failed: bool) -> None:
        """Keep or remove a folder, as the policy says."""
        if not self.keeps(failed):
            shutil.rmtree(folder, ignore_errors=True)
            return
        (folder / OWNER).unlink(missing_ok=True)
        if self.keep == "failed":
            _drop_large(folder)

    def free_mb(self) -> float:
        """Free space where the folders are made, MB."""
        self.root.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.root).free / 2**20

    def sweep(self, gone: Callable[[Worker], bool]) -> int:
        """Close the folders of workers that died in the middle of an attempt; how many."""
        dead = [mark.parent for mark in self.root.glob(f"*/{OWNER}") if _dead(mark, gone)]
        for folder in dead:
            self.close(folder, failed=False)
        return len(dead)


def folder_name(claim: Claim) -> str:
    """Name that a user can read and no other claim shares."""
    return f"{claim.submitted.id[:12]}.{claim.stage.name}.{claim.number}.{claim.token}"


def fill(folder: Path, files: Mapping[str, str]) -> None:
    """Write input files."""
    for name, text in files.items():
        (folder / name).write_text(text)


def texts(folder: Path) -> dict[str, str]:
    """Name -> text of every text file directly in the folder."""
    plain = (path for path in sorted(folder.iterdir()) if _is_plain(path))
    read = ((path.name, text(path)) for path in plain)
    return {name: found for name, found in read if found is not None}


def text(path: Path) -> str | None:
    """Text of a file, of a very large one its end; None for one that is no text."""
    with path.open("rb") as file:
        if b"\0" in file.read(_HEAD):  # a density of gigabytes is not read for this
            return None
        size = path.stat().st_size
        file.seek(max(0, size - LARGEST))
        data = file.read(min(size, LARGEST))
    return None if b"\0" in data[:_HEAD] else data.decode(errors="replace")


def link(folder: Path, name: str, target: Path) -> None:
    """Let a folder that the place of execution keeps appear in a scratch folder."""
    (folder / name).symlink_to(target.resolve(), target_is_directory=True)


def others(folder: Path, known: Collection[str]) -> tuple[str, ...]:
    """Names in a scratch folder that are not among the known ones."""
    found = {path.name for path in folder.iterdir()}
    return tuple(sorted(found - {OWNER, *known}))


def _drop_large(folder: Path) -> None:
    for path in folder.rglob("*"):  # it enters no linked folder
        if path.is_file() and not path.is_symlink() and path.stat().st_size > LARGEST_KEPT:
            path.unlink(missing_ok=True)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.name != OWNER


def _dead(mark: Path, gone: Callable[[Worker], bool]) -> bool:
    try:
        return gone(Worker.model_validate_json(mark.read_text()))
    except (OSError, ValidationError):
        return False  # it is being written or removed right now
