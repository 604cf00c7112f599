"""Fault points: a process kills or stops itself at one of its own MongoDB commands.

`install` adds a listener to every MongoDB client of the process. It does nothing unless there is a
file named after the process in the folder of ``CHAOS_DOOMS``, which holds a `Doom`. Counting
begins with the next command. ``before`` means: nothing of it was sent. ``after`` means: mongod has
done it and answered, but the process knows nothing of the answer.
"""

import json
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pymongo import monitoring

HOUSEKEEPING: Final = frozenset(
    {"hello", "ismaster", "isMaster", "saslStart", "saslContinue", "ping", "endSessions"}
)
FIRED: Final = "fired.log"
BEFORE: Final = "before"
AFTER: Final = "after"


@dataclass(frozen=True)
class Doom:
    """What a process does to itself.

    Attributes
    ----------
    at : int
        At which of its commands, from 1.
    way : str
        ``before`` it is sent or ``after`` mongod has done it.
    stop : bool
        Stop (SIGSTOP) instead of killing.
    only : str
        Only commands of this name count; empty: all.
    """

    at: int
    way: str
    stop: bool = False
    only: str = ""

    def order(self, folder: Path, pid: int) -> None:
        """Let it await a process."""
        part = folder / f"{pid}.part"
        part.write_text(json.dumps(asdict(self)))
        part.rename(folder / str(pid))


class FaultPoints(monitoring.CommandListener):
    """Counts the commands of this process and fulfils its doom."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._pid = 0
        self._doom: Doom | None = None
        self._count = 0
        self._waits_for: int | None = None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in HOUSEKEEPING:
            return
        with self._lock:
            doom = self._armed()
            if doom is None or (doom.only and doom.only != event.command_name):
                return
            self._count += 1
            if self._count != doom.at:
                return
            if doom.way == AFTER:
                self._waits_for = event.request_id
                return
            self._fulfil(doom, event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._answered(event.request_id, event.command_name)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._answered(event.request_id, event.command_name)

    def _answered(self, request: int, name: str) -> None:
        with self._lock:
            if self._doom is not None and self._waits_for == request:
                self._fulfil(self._doom, name)

    def _armed(self) -> Doom | None:
        """The doom of this process; a fork of one that has its own has none."""
        if self._pid != os.getpid():
            self._pid, self._doom, self._count, self._waits_for = os.getpid(), None, 0, None
        if self._doom is None:
            try:
                text = (self._folder / str(self._pid)).read_text()
            except OSError:
                return None
            self._doom, self._count = Doom(**json.loads(text)), 0
        return self._doom

    def _fulfil(self, doom: Doom, name: str) -> None:
        (self._folder / str(self._pid)).unlink(missing_ok=True)
        self._doom, self._waits_for = None, None
        number = signal.SIGSTOP if doom.stop else signal.SIGKILL
        line = (
            f"{self._pid}\t{number.name}\t{doom.way}\t{self._count}\t{name}\t{time.monotonic()}\n"
        )
        file = os.open(self._folder / FIRED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, line.encode())
        os.close(file)
        os.kill(self._pid, number)
        time.sleep(0.1)  # another thread may have taken the signal


def install() -> None:
    """Listen in this process and those forked from it, if ``CHAOS_DOOMS`` names a folder."""
    folder = os.environ.get("CHAOS_DOOMS")
    if folder:
        monitoring.register(FaultPoints(Path(folder)))
