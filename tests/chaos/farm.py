"""The farm of a storm: its folder, its own mongod, small disks and clocks that can be set."""

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil
from pymongo import MongoClient

from chaos.launch import PRINTED
from qfarm.errors import StoreError
from qfarm.store import server

DATABASE: Final = "storm"
LEASE: Final = (3.0, 0.75)
"""s: length of a lease, and between two heartbeats."""

FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
SCRATCH_MB: Final = 120
SCRATCH_INODES: Final = 4000
MONGO_MB: Final = 2500
SETTINGS: Final = """\
scratch = "scratch"
keep_scratch = "never"

[lease]
seconds = {seconds}
heartbeat = {heartbeat}

[mongo]
database = "{database}"
"""


@dataclass(frozen=True)
class StormFarm:
    """A folder with a farm in it.

    Attributes
    ----------
    root : Path
        The folder.
    faketime : Path or None
        The library that fakes mongod's clock; None: that stays as it is.
    small_disks : bool
        Whether scratch and database lie on small file systems of their own.
    """

    root: Path
    faketime: Path | None
    small_disks: bool

    @property
    def mongo(self) -> Path:
        return self.root / ".qfarm" / "mongo"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def dooms(self) -> Path:
        return self.root / "dooms"

    @property
    def log(self) -> Path:
        """Where engine processes say that they begin and end."""
        return self.root / "engines.log"

    def make(self, lease: tuple[float, float] = LEASE) -> None:
        """Make folders, settings and disks; a lease is given by its length and heartbeat, s."""
        for folder in (self.mongo, self.scratch, self.dooms, self.root / PRINTED):
            folder.mkdir(parents=True)
        seconds, heartbeat = lease
        text = SETTINGS.format(seconds=seconds, heartbeat=heartbeat, database=DATABASE)
        (self.root / "qfarm.toml").write_text(text)
        for whose in ("workers", "mongod"):
            self.set_clock(whose, 0.0)
        if self.small_disks:
            inodes = f"nr_inodes={SCRATCH_INODES}"
            _mount(self.scratch, f"size={SCRATCH_MB}m,{inodes}")
            _mount(self.mongo, f"size={MONGO_MB}m")

    def remove(self) -> None:
        """Stop mongod, unmount, delete."""
        with suppress(StoreError):
            server.down(self.mongo, timeout=20, force=True)
        if self.small_disks:
            for folder in (self.scratch, self.mongo):
                subprocess.run(["umount", "-l", str(folder)], check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    def up(self) -> str:
        """Start mongod unless it runs; its address."""
        before = dict(os.environ)
        os.environ.update(self.clock())
        try:
            return server.up(self.mongo).uri
        finally:
            os.environ.clear()
            os.environ.update(before)

    @property
    def mongod(self) -> psutil.Process | None:
        return server.running(self.mongo)

    def client(self) -> MongoClient[dict[str, Any]]:
        """A client that does not wait long."""
        return MongoClient(self.up(), serverSelectionTimeoutMS=500, socketTimeoutMS=3000)

    def environment(self) -> dict[str, str]:
        """Environment of launchers and workers."""
        tests = str(Path(__file__).parents[1])
        ours = {
            "PYTHONPATH": os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH")))),
            "CHAOS_LOG": str(self.log),
            "CHAOS_DOOMS": str(self.dooms),
            "CHAOS_CLOCK": str(self.root / "clock.workers"),
            "OMP_NUM_THREADS": "1",
        }
        return dict(os.environ) | ours

    def clock(self) -> dict[str, str]:
        """Environment of a mongod whose clock `set_clock` sets."""
        if self.faketime is None:
            return {}
        return {
            "LD_PRELOAD": str(self.faketime),
            "FAKETIME_TIMESTAMP_FILE": str(self.root / "clock.mongod"),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "FAKETIME_DISABLE_SHM": "1",
        }

    def set_clock(self, whose: str, hours: float) -> None:
        """Let the clock of ``workers`` or ``mongod`` jump, within a second."""
        part = self.root / f"clock.{whose}.part"
        part.write_text(f"{round(3600 * hours):+d}\n")
        part.rename(self.root / f"clock.{whose}")

    def fill(self, folder: Path) -> None:
        """Use up the space of the disk that holds a folder."""
        block = bytes(2**20)
        with suppress(OSError), (folder / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(block)

    def use_up_inodes(self) -> None:
        """Fill the scratch disk with so many empty files that no other can be made."""
        folder = self.scratch / "filler.d"
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            for number in range(SCRATCH_INODES):
                (folder / str(number)).touch()

    def free(self) -> None:
        """Take all of that back."""
        for folder in (self.scratch, self.mongo):
            (folder / "filler").unlink(missing_ok=True)
        shutil.rmtree(self.scratch / "filler.d", ignore_errors=True)


def faketime() -> Path | None:
    """The library that fakes clocks (Debian: libfaketime), or what ``CHAOS_FAKETIME`` names."""
    path = Path(os.environ.get("CHAOS_FAKETIME", FAKETIME))
    return path if path.is_file() else None


def can_mount() -> bool:
    """Whether small file systems can be made: root can, outside most containers."""
    with TemporaryDirectory() as name:
        try:
            _mount(Path(name), "size=1m")
        except (OSError, subprocess.CalledProcessError):
            return False
        subprocess.run(["umount", name], check=True)
    return True


def _mount(folder: Path, options: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(words, check=True, capture_output=True)
