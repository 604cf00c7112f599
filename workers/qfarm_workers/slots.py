"""Slots: the processes of a job, forked from one process that has imported all they need.

Forked so they share that memory: 50 slots take little more than one. The process they come from
has no thread and no connection, which a fork would break.
"""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Final

from qfarm_workers import slot
from qfarm_workers.orders import Orders, Report
from qfarm_workers.slot import SlotOrder
from qfarm_workers.supervisor import TO_LEAVE

_CONTEXT: Final = multiprocessing.get_context("forkserver")

SHARED: Final = ("qfarm_workers.job", "qfarm.store.mongo")
"""Modules that are there before slots are forked: all that they need but engines. What a slot
imports itself, it has for itself: it took 35 MB and 0.3 s of a core to begin, now 20 MB and 0.02 s.
"""


_UNKNOWN: Final = 255
"""Exit code of a process whose end nobody can tell, because the one that forked it is gone."""

_LONGEST: Final = 60
"""Characters of a folder for a socket, whose whole address may have 107."""


@dataclass(frozen=True)
class _Process:
    process: ForkServerProcess
    line: Connection


@dataclass(frozen=True)
class Left:
    """A slot whose process has ended, and its exit code."""

    number: int
    code: int


@dataclass
class Slots:
    """Processes by number of the slot."""

    _unheard: list[Report] = field(default_factory=list)
    _processes: dict[int, _Process] = field(default_factory=dict)

    @staticmethod
    def prepare() -> None:
        """Start the process that forks; before this one has threads or connections.

        It lives on when the batch system signals all processes of the job, for through it is known
        how slots end; a process that is begun ignores what the one that begins it ignores.
        """
        _CONTEXT.set_forkserver_preload(list(SHARED))
        before = {number: signal.signal(number, signal.SIG_IGN) for number in TO_LEAVE}
        with _short_addresses():
            forkserver.ensure_running()
        for number, handler in before.items():
            signal.signal(number, handler)

    @property
    def present(self) -> int:
        """Slots whose process lives, as far as `left` has told."""
        return len(self._processes)

    def free(self, slots: int) -> list[int]:
        """Numbers of slots without a process."""
        return [number for number in range(slots) if number not in self._processes]

    def start(self, order: SlotOrder) -> None:
        """Start a slot."""
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=slot.run, args=(order, theirs), name=f"slot {order.number}"
        )
        process.start()
        theirs.close()
        self._processes[order.number] = _Process(process, ours)

    def tell(self, orders: Orders) -> None:
        """Give orders to all."""
        for slot_ in self._processes.values():
            try:
                slot_.line.send(orders)
            except OSError:
                continue  # it is about to be missed

    def hear(self) -> Iterator[Report]:
        """What slots have said since."""
        yield from self._unheard
        self._unheard.clear()
        for slot_ in self._processes.values():
            yield from _said(slot_.line)

    def left(self) -> list[Left]:
        """Slots that have ended since."""
        gone = [number for number, slot_ in self._processes.items() if self._has_ended(slot_)]
        return [self._close(number) for number in gone]

    def end(self) -> None:
        """Tell all of them that the job ends now."""
        for slot_ in self._processes.values():
            slot_.process.terminate()
            if slot_.process.exitcode == _UNKNOWN and slot_.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(slot_.process.pid, signal.SIGTERM)

    def _has_ended(self, slot_: _Process) -> bool:
        """Whether its process has; where its exit code is not known, its end of the line tells."""
        if slot_.process.is_alive():
            return False
        return slot_.process.exitcode != _UNKNOWN or self._hung_up(slot_.line)

    def _hung_up(self, line: Connection) -> bool:
        try:
            while line.poll():
                self._unheard.append(line.recv())
        except (EOFError, OSError):
            return True
        return False

    def _close(self, number: int) -> Left:
        slot_ = self._processes.pop(number)
        code = slot_.process.exitcode
        self._unheard.extend(_said(slot_.line))
        slot_.line.close()
        slot_.process.close()
        return Left(number, -1 if code is None else 0 if code == _UNKNOWN else code)


@contextmanager
def _short_addresses() -> Iterator[None]:
    """Temporary files of this process in /tmp where a site's TMPDIR is too long for a socket's."""
    long = len(tempfile.gettempdir()) > _LONGEST
    tempfile.tempdir = "/tmp" if long else tempfile.tempdir  # noqa: S108 (it makes a folder of its own)
    try:
        yield
    finally:
        tempfile.tempdir = None if long else tempfile.tempdir


def _said(line: Connection) -> Iterator[Report]:
    """What stands in a line; nothing more once the other end is gone."""
    with suppress(EOFError, OSError):
        while line.poll():
            yield line.recv()
