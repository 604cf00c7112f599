"""What a backup and a restore of a large farm cost.

Run ``OMP_NUM_THREADS=1 PYTHONPATH=$PWD/tests python tests/bench/backup.py [FRAGMENTS]``; fills a
server of its own with so many two-stage fragments (100,000 unless told), a fiftieth of them done,
and prints seconds, megabytes and the peak memory of the process that works.
"""

import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from qfarm.store import backup, open_store, server
from support.work import LEASE, finish, plans, worker

BLOCK = 1000


class Cost(NamedTuple):
    """Seconds of wall and processor time, and peak megabytes."""

    wall: float
    cpu: float
    memory: float


def fill(uri: str, fragments: int) -> float:
    """Add fragments and finish some stages; seconds that it took."""
    began = time.perf_counter()
    with open_store(uri, "farm") as store:
        for first in range(0, fragments, BLOCK):
            store.add(plans(BLOCK, first=first))
        for _ in range(fragments // 50):
            finish(store, store.claim(worker(), LEASE))
    return time.perf_counter() - began


def save(uri: str, path: Path) -> None:
    """Write a backup."""
    with path.open("wb") as file:
        backup.save(uri, "farm", file, own_server=True)


def check(_: str, path: Path) -> None:
    """Verify it."""
    backup.check(path)


def restore(uri: str, path: Path) -> None:
    """Restore it beside the farm."""
    backup.restore(uri, "again", path)


def measured(work: Any, uri: str, path: Path) -> Cost:
    """Cost of a piece of work in this process, which does nothing else."""
    began = time.perf_counter()
    work(uri, path)
    used = resource.getrusage(resource.RUSAGE_SELF)
    wall = time.perf_counter() - began
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def main(fragments: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "farm.backup"
        try:
            uri = server.up(Path(folder) / "mongo").uri
            print(f"{fragments} fragments: filled in {fill(uri, fragments):.0f} s", flush=True)
            for work in (save, check, restore):
                with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                    cost = alone.submit(measured, work, uri, path).result()
                print(
                    f"{work.__name__}: {cost.wall:.1f} s, processor {cost.cpu:.1f} s, peak memory "
                    f"{cost.memory:.0f} MB",
                    flush=True,
                )
            manifest = backup.check(path)
            size = sum(collection.size for collection in manifest.collections)
            mega = f"{size / 1e6:.0f} MB as BSON, {path.stat().st_size / 1e6:.0f} MB on disk"
            print(f"{manifest.documents} documents, {mega}")
        finally:
            server.down(Path(folder) / "mongo", force=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
