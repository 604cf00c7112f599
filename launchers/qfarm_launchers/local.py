"""The local pool: one pull loop in each worker process of a Dask cluster on this machine."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import resource_tracker
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Final, Self

import dask
from distributed import Client, KilledWorker, LocalCluster

from qfarm.errors import UserError
from qfarm_schemas.config import Partition
from qfarm_workers import loop
from qfarm_workers.bench import Engines

LOOPBACK: Final = "127.0.0.1"

MOST_DEATHS: Final = 5
"""Worker processes in a row that may die before they have begun to work."""

START_SECONDS: Final = 60.0
"""s: how long a pool without any worker process waits for one."""

_SETTINGS: Final = {
    "distributed.scheduler.allowed-failures": 0,  # the pool resubmits, at once and pinned
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.profile.enabled": False,
    "distributed.diagnostics.nvml": False,
    "distributed.scheduler.http.routes": [],  # its web servers cannot be switched off: no pages
    "distributed.worker.http.routes": [],
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


@dataclass(frozen=True)
class _Slot:
    """A pull loop under way.

    Attributes
    ----------
    loop : Future
        Of Dask.
    begun : Event
        Set once its process has imported all that it needs.
    """

    loop: Any
    begun: Event


class LocalPool:
    """A Dask cluster of `partition.slots` worker processes with one thread each.

    `tend` must be called now and then: it resubmits the loops of worker processes that died, and
    those that ended with the partition's walltime, as a chain of batch jobs would.
    Whoever may connect to a Dask scheduler may run code as its user, so the processes talk over TLS
    with certificates that exist in their memory alone.
    """

    def __init__(self, place: Place, partition: Partition, engines: Engines) -> None:
        self._place = place
        self._partition = partition
        self._engines = engines
        self._slots: dict[str, _Slot] = {}  # by address of the worker process
        self._owed = partition.slots
        self._deaths = 0
        self._tried: set[int] = set()  # processes seen since one was missing
        self._whole_at = time.monotonic()
        self._numbers = count(1)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(dask.config.set(_SETTINGS))
            with interrupts_held():
                self._cluster = _cluster(self._partition.slots, self._place.folder / "dask")
                stack.callback(self._cluster.close)
                self._client = stack.enter_context(_client(self._cluster))
            self._whole_at = time.monotonic()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._slots:
            self.kill()
        self._stack.close()

    def tend(self) -> int:
        """Look after the loops; the number of those that run or are about to.

        Raises
        ------
        UserError
            Worker processes cannot be started.
        Exception
            What ended a loop, unless its process died.
        """
        workers = set(self._client.scheduler_info(n_workers=-1)["workers"])
        for address, slot in list(self._slots.items()):
            if address not in workers or slot.loop.done():
                del self._slots[address]
                self._settle(slot)
        for address in sorted(workers - self._slots.keys()):
            if self._owed:
                self._submit(address)
        self._check()
        return len(self._slots) + self._owed

    def kill(self) -> None:
        """Kill the worker processes; their supervisors take the engines along."""
        closing = threading.Thread(target=self._cluster.close, name="closing")
        closing.start()
        while closing.is_alive():
            closing.join(0.1)
            for pid in self._pids():
                _kill(pid)
        self._slots.clear()

    def _pids(self) -> set[int]:
        """Worker processes, connected or not."""
        return {nanny.pid for nanny in list(self._cluster.workers.values()) if nanny.pid}

    def _settle(self, slot: _Slot) -> None:
        """Owe a loop again if its process died or its lifetime ended."""
        if _ended_early(slot.loop):
            self._owed += 1
            self._deaths = 0 if slot.begun.is_set() else self._deaths + 1

    def _submit(self, address: str) -> None:
        name = f"{self._place.launcher}.{next(self._numbers)}"
        self._owed -= 1
        begun = Event()
        first = self._send(address, f"{name}.begin", _begin, self._engines)
        first.add_done_callback(partial(_note, begun))
        start, launcher = str(self._place.start), self._place.launcher
        arguments = (start, self._partition.name, launcher, name, self._engines)
        self._slots[address] = _Slot(self._send(address, name, _work, first, arguments), begun)

    def _send(self, address: str, key: str, call: Callable[..., object], *arguments: object) -> Any:
        return self._client.submit(
            call,
            *arguments,
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
            key=key,
        )

    def _check(self) -> None:
        """Give up when worker processes cannot be started; live with fewer where some can."""
        if self._deaths >= MOST_DEATHS:
            raise UserError(
                f"{self._deaths} worker processes in a row died before they could begin", _REMEDY
            )
        if not self._owed:
            self._whole_at = time.monotonic()
            self._tried.clear()
            return
        self._tried |= self._pids()
        if len(self._tried) >= self._partition.slots + MOST_DEATHS:
            raise UserError("worker processes die as soon as they are started", _REMEDY)
        if time.monotonic() - self._whole_at > START_SECONDS:
            if not self._slots:
                raise UserError(f"no worker process has come up for {START_SECONDS:.0f} s", _REMEDY)
            self._owed = 0


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
        dashboard_address=f"{LOOPBACK}:0",
        scheduler_kwargs={"dashboard": False},
        security=True,
        memory_limit=0,
        local_directory=str(folder),
        silence_logs=logging.CRITICAL,
    )


def _client(cluster: Any) -> Any:
    return Client(cluster, set_as_default=False)  # type: ignore[no-untyped-call]


def _note(begun: Event, future: Any) -> None:
    if future.status == "finished":
        begun.set()


def _begin(engines: Engines) -> None:
    """End well: the process has imported what loops need, `engines` with the rest."""


class Outlived(Exception):  # noqa: N818 - no error
    """The lifetime of a loop ended, and there may be work left.

    A loop tells so by an exception because Dask sends those along with the news of the end; a
    result stays in the worker process, which may be dead when it is asked for.
    """


def _work(begun: None, arguments: tuple[str, str, str, str, Engines]) -> int:
    """Run the loop after `_begin` has ended."""
    worked = loop.work(*arguments)
    if worked.outlived:
        raise Outlived
    return worked.attempts


def _ended_early(future: Any) -> bool:
    """Whether a loop is owed again; errors of its own are raised."""
    if future.status == "finished":
        return False
    if future.status != "error":
        return True
    error: BaseException = future.exception()
    if isinstance(error, KilledWorker | Outlived):
        return True
    raise error


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


_REMEDY: Final = (
    "Try `python -c 'import qfarm_workers.loop'` in this environment, and read the system log for "
    "the kernel's out-of-memory killer."
)
