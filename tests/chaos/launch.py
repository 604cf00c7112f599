"""What the storm's launchers and workers run: `qfarm run` and its pull loop, forked, not imported.

All is the product's own but the pool: in the place of a Dask cluster stands a forker whose forks
run the pull loop. As in a local Dask cluster, the workers die when their launcher dies.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any, Self

import psutil

from chaos.engine import look_up
from chaos.forker import TOLD, Forker
from qfarm.cli import run as product
from qfarm.errors import UserError
from qfarm_launchers.local import Place
from qfarm_schemas.config import Partition
from qfarm_workers import loop

OUTLIVED = os.EX_TEMPFAIL
PRINTED = "printed"
"""Folder of the farm for what launchers and workers print."""

WORKER_SAID = "a worker said:"


class ForkPool:
    """A pool of forked workers; what a launcher asks of its pool."""

    def __init__(self, forker: Forker, place: Place, partition: Partition) -> None:
        self._forker = forker
        self._place = place
        self._partition = partition
        self._owed = partition.slots
        self._number = 0
        self._live: dict[int, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def tend(self) -> int:
        """Start what is owed; the number of loops that run. Errors of a loop are raised."""
        for pid, code in self._forker.ended().items():
            printed = self._live.pop(pid)
            if code < 0 or code == OUTLIVED:
                self._owed += 1
            elif code:
                _raise(code, printed)
        while self._owed:
            self._owed -= 1
            self._start()
        return len(self._live)

    def kill(self) -> None:
        """Kill the workers; their supervisors take the engines along."""
        for pid in self._live:
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        for pid in self._live:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).wait(5)

    def _start(self) -> None:
        self._number += 1
        name = f"{self._place.launcher}.{self._number}"
        arguments = {
            "start": str(self._place.start),
            "partition": self._partition.name,
            "launcher": self._place.launcher,
            "name": name,
        }
        printed = self._place.start / PRINTED / f"{name}.txt"
        self._live[self._forker.fork("chaos.launch:work", arguments, printed)] = printed


def _raise(code: int, printed: Path) -> None:
    text = printed.read_text().strip()
    if code == TOLD:
        raise UserError(f"{WORKER_SAID} {text}", "")
    raise RuntimeError(f"a worker ended with exit code {code}: {text}")


def run(folder: str, slots: int) -> int:
    """`qfarm run` in a farm folder, with forked workers."""
    os.chdir(folder)
    forker = Forker.fork_here()  # before there are threads and clients

    def pool(place: Place, partition: Partition, _: Any) -> ForkPool:
        return ForkPool(forker, place, partition)

    vars(product)["LocalPool"] = pool
    try:
        return product.run(product.Options(slots=slots, plain=True, engines=look_up))
    finally:
        forker.close()


def work(start: str, partition: str, launcher: str, name: str) -> int:
    """A pull loop, as a worker process runs it."""
    worked = loop.work(start, partition, launcher, name, look_up)
    return OUTLIVED if worked.outlived else 0


if __name__ == "__main__":  # a true `qfarm run`, with Dask
    sys.exit(product.run(product.Options(int(sys.argv[1]), plain=True, engines=look_up)))
