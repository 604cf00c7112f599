"""The local pool: one pull loop in each worker process of a Dask cluster on this machine."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import dask
from distributed import Client, KilledWorker, LocalCluster

from qfarm_schemas.config import Partition
from qfarm_workers import loop
from qfarm_workers.attempt import Engines

LOOPBACK: Final = "127.0.0.1"

_SETTINGS: Final = {
    "distributed.scheduler.allowed-failures": 0,  # the pool resubmits, at once and pinned
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.profile.enabled": False,
    "distributed.diagnostics.nvml": False,
    "distributed.logging": {"distributed": "critical", "tornado": "critical"},
}


@dataclass(frozen=True)
class Place:
    """What a pull loop is told; it reads the rest, passwords too, from the farm itself.

    Attributes
    ----------
    start : Path
        Folder from which the configuration is found.
    folder : Path
        Farm folder.
    launcher : str
        Id of the launcher.
    """

    start: Path
    folder: Path
    launcher: str


class LocalPool:
    """A Dask cluster of `partition.slots` worker processes with one thread each.

    `tend` must be called now and then: it resubmits the loops of worker processes that died.
    """

    def __init__(self, place: Place, partition: Partition, engines: Engines) -> None:
        self._place = place
        self._partition = partition
        self._engines = engines
        self._loops: dict[str, Any] = {}  # Dask future by address of its worker
        self._owed = partition.slots
        self._numbers = count(1)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(dask.config.set(_SETTINGS))
            with interrupts_held():
                self._cluster = _cluster(self._partition.slots, self._place.folder / "dask")
                stack.callback(self._cluster.close)
                self._client = stack.enter_context(_client(self._cluster))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loops:
            self.kill()
        self._stack.close()

    def tend(self) -> int:
        """Look after the loops; the number of those that run or are about to.

        Raises
        ------
        Exception
            What ended a loop, unless its process died.
        """
        workers = set(self._client.scheduler_info(n_workers=-1)["workers"])
        for address, future in list(self._loops.items()):
            if address not in workers or future.done():
                del self._loops[address]
                self._owed += _ended_early(future)
        for address in sorted(workers - self._loops.keys()):
            if self._owed:
                self._submit(address)
        return len(self._loops) + self._owed

    def kill(self) -> None:
        """Kill the worker processes; their supervisors take the engines along."""
        closing = threading.Thread(target=self._cluster.close, name="closing")
        closing.start()
        while closing.is_alive():
            closing.join(0.1)
            for nanny in list(self._cluster.workers.values()):
                _kill(nanny.pid)
        self._loops.clear()

    def _submit(self, address: str) -> None:
        name = f"{self._place.launcher}.{next(self._numbers)}"
        self._owed -= 1
        self._loops[address] = self._client.submit(
            loop.work,
            str(self._place.start),
            self._partition.name,
            self._place.launcher,
            name,
            self._engines,
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
            key=name,
        )


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep SIGINT from the processes that are started inside, and from those they start.

    A Ctrl-C reaches the whole foreground group, but the workers must live on to finish their
    attempts. Threads and processes inherit the mask of the thread that starts them, so workers
    that the cluster starts again later are spared as well.
    """
    resource_tracker.ensure_running()  # it would lift the mask when it is started inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cluster(slots: int, folder: Path) -> Any:
    return LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=slots,
        threads_per_worker=1,
        processes=True,
        host=LOOPBACK,
        dashboard_address=None,
        memory_limit=0,
        local_directory=str(folder),
        silence_logs=logging.CRITICAL,
    )


def _client(cluster: Any) -> Any:
    return Client(cluster, set_as_default=False)  # type: ignore[no-untyped-call]


def _ended_early(future: Any) -> bool:
    """Whether a loop is owed again because its process died; other errors are raised."""
    if future.status == "finished":
        return False
    if future.status != "error":
        return True
    error: BaseException = future.exception()
    if isinstance(error, KilledWorker):
        return True
    raise error


def _kill(pid: int | None) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
