"""Jobs of this machine: each a session of its own, found again by what its leader was told."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from qfarm_launchers.commands import detach
from qfarm_launchers.schedulers.base import Ending, EndingKind, Queued, QueueState, by_exit

GRACE_SECONDS: Final = 15.0
"""Seconds between SIGTERM and SIGKILL of a job that is cancelled: its engines stop softly."""

_MARK: Final = "QFARM_LOCAL_JOB"
"""Environment variable with a job's name; its whole session has it."""


_EXEC_SECONDS: Final = 1.0
"""Seconds after which a process without any environment is taken for none of ours."""


class Processes:
    """The machine itself as a scheduler. An id is ``pid.start``: a pid alone is given again.

    Another process than the one that started a job finds it, too; only how it ended is known to
    the one that started it.
    """

    def __init__(self) -> None:
        self._asked: dict[str, float] = {}
        self._ours: dict[str, str] = {}
        self._endings: dict[str, Ending] = {}

    def start(self, name: str, script: Path, log: Path) -> str:
        """Start a job; its id."""
        pid = detach(script, log, {_MARK: name})
        job = f"{pid}.{_start(pid)}"
        self._ours[job] = name
        return job

    def queue(self) -> dict[str, Queued]:
        """Jobs that run; those that were asked to end long ago are killed."""
        self._reap()
        jobs = dict(_jobs()) | {job: name for job, name in self._ours.items() if _lives(job)}
        known = jobs.keys() | self._ours.keys()  # one may have ended just now: it is to be noted
        self._asked = {job: when for job, when in self._asked.items() if job in known}
        for job, when in self._asked.items():
            if time.monotonic() - when > GRACE_SECONDS:
                _send(job, signal.SIGKILL)
        host = os.uname().nodename
        return {
            job: Queued(
                id=job,
                name=name,
                state=QueueState.ENDING if job in self._asked else QueueState.RUNNING,
                host=host,
            )
            for job, name in jobs.items()
        }

    def cancel(self, jobs: Iterable[str]) -> None:
        """Ask jobs to end; `queue` kills those that do not."""
        for job in jobs:
            if job not in self._asked and _lives(job):
                self._asked[job] = time.monotonic()
                _send(job, signal.SIGTERM)
        self.queue()

    def ending(self, job: str) -> Ending | None:
        """How a job ended that this object started; None while it has not."""
        self._reap()
        return self._endings.get(job)

    def _reap(self) -> None:
        """Take note of own jobs that have ended."""
        for job in tuple(self._ours):
            pid = _pid(job)
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = pid, None
            if ended:
                del self._ours[job]
                self._endings[job] = _ending(status, job in self._asked)


def _ending(status: int | None, asked: bool) -> Ending:
    code = None if status is None else os.waitstatus_to_exitcode(status)
    kind = EndingKind.CANCELLED if asked else by_exit(code)
    said = "" if code is None else f"exit code {code}" if code >= 0 else f"signal {-code}"
    return Ending("ended", kind, code, os.uname().nodename, said)


def _jobs() -> Iterator[tuple[str, str]]:
    """Id and name of every live job of this user."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(entry.name)
                if os.getsid(pid) == pid and (name := _name(pid)) and not _zombie(pid):
                    yield f"{pid}.{_start(pid)}", name


def _name(pid: int) -> str:
    mark = f"{_MARK}=".encode()
    entries = _environment(pid).split(b"\0")
    found = (entry.removeprefix(mark) for entry in entries if entry.startswith(mark))
    return next(found, b"").decode(errors="replace")


def _environment(pid: int) -> bytes:
    """Environment of a process: for an instant within exec it reads as empty."""
    deadline = time.monotonic() + _EXEC_SECONDS
    while not (found := Path(f"/proc/{pid}/environ").read_bytes()):
        if _zombie(pid) or time.monotonic() > deadline:
            break
        time.sleep(0.001)
    return found


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` from the third on: the second may hold anything in brackets."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _start(pid: int) -> str:
    """Start time in clock ticks since boot, field 22; it never changes."""
    return _stat(pid)[19]


def _zombie(pid: int) -> bool:
    return _stat(pid)[0] in ("Z", "X")


def _pid(job: str) -> int:
    return int(job.partition(".")[0])


def _lives(job: str) -> bool:
    try:
        pid = _pid(job)
        return job == f"{pid}.{_start(pid)}" and not _zombie(pid)
    except (OSError, ValueError, IndexError):
        return False


def _send(job: str, number: signal.Signals) -> None:
    """A signal to the whole group of a job; another process with its pid gets none."""
    if _lives(job):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(_pid(job), number)
