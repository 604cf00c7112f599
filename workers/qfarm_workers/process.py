"""The engine process: the one place that starts processes and ends them.

`EngineProcess` keeps a supervisor (see `qfarm_workers.supervisor`), runs one program at a time in
it, watches time and memory, and gives back how the program ended.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Final, Self

import psutil

from qfarm.engines.base import Command, PythonCall
from qfarm_workers.family import descendants
from qfarm_workers.inherited import environment
from qfarm_workers.supervisor import TO_LEAVE, Channel

LOOK_SECONDS: Final = 0.25
"""Seconds between two looks at memory, time and the wish to stop."""

GRACE_SECONDS: Final = 10.0
"""Seconds the supervisor has to report a kill; an import may keep it busy for a few."""

TOLD_SECONDS: Final = 1.0
"""Seconds in which all processes of a job are told to end."""

_TOLD: Final = tuple(code for number in TO_LEAVE for code in (-number, 128 + number))


class Stopped(StrEnum):
    """Why the worker ended a program."""

    TIME = "time"
    MEMORY = "memory"
    ASKED = "asked"
    JOB = "job"  # the batch system ends the job that holds the worker


_PATIENCE: Final = 5.0
"""Seconds that an executable told to end has, to take along what it started elsewhere."""

_LESS_PATIENCE: Final = {Stopped.JOB: 2.0, Stopped.MEMORY: 1.0}
"""The same where more would be lost: batch systems kill soon, and memory may run out meanwhile."""


class Flag:
    """What a signal handler may set: it has no lock, for which a second signal would wait."""

    def __init__(self) -> None:
        self._up = False

    def set(self) -> None:
        """Put it up, for good."""
        self._up = True

    def is_set(self) -> bool:
        """Whether it is up."""
        return self._up


@dataclass(frozen=True)
class SoftStop:
    """A file that makes a program stop in order.

    Attributes
    ----------
    file : str
        Its name in the scratch folder.
    after : float
        When it is made: seconds after the start.
    """

    file: str
    after: float


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes
    ----------
    seconds : float
        Wall time, s.
    memory_mb : float
        Resident memory of the program and its descendants, MB; what processes share is counted
        once for each of them.
    soft_stop : SoftStop or None
        How the program is asked to stop before the time is over.
    walltime : bool
        Whether the time ends with the worker's own, and not with the stage's limit.
    final : bool
        Whether another worker would come no further: this one's life is fresh, and the engine
        cannot go on from what it leaves.
    """

    seconds: float
    memory_mb: float
    soft_stop: SoftStop | None = None
    walltime: bool = False
    final: bool = False


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it used.

    Attributes
    ----------
    code : int or None
        Exit code, negative for a signal; None when the supervisor died before it could tell.
    wall_seconds, cpu_seconds, peak_memory_mb : float
        Of the program and the descendants it waited for.
    stopped : Stopped or None
        Why the worker ended it; None when it ended by itself.
    missing : str
        Why it could not be started; empty when it was.
    asked : bool
        Whether it was asked to stop in order.
    """

    code: int | None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    stopped: Stopped | None = None
    missing: str = ""
    asked: bool = False

    @property
    def exit_code(self) -> int:
        """`code` of a program whose end was seen.

        Raises
        ------
        ValueError
            The program was never started, or its supervisor died.
        """
        if self.code is None:
            raise ValueError("nobody saw how the program ended")
        return self.code


class EngineProcess:
    """A supervisor, started when it is first needed and again whenever it has died.

    Parameters
    ----------
    folder : Path
        Working folder of the supervisor; its log goes there.
    threads : int
        Number of threads pinned for every program.
    leave : Flag or None
        Set when the batch system ends the job that holds this process.
    """

    def __init__(self, folder: Path, threads: int, leave: Flag | None = None) -> None:
        self._folder = folder
        self._threads = threads
        self._leave = leave or Flag()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._channel = Channel(-1, -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the supervisor; None before the first start."""
        return self._supervisor.pid if self._supervisor else None

    @property
    def leaving(self) -> bool:
        """Whether the batch system ends the job that holds this process."""
        return self._leave.is_set()

    def start(self) -> None:
        """Start the supervisor unless it lives."""
        if self._supervisor is not None and self._supervisor.poll() is None:
            return
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "supervisor.log").open("ab") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-P", "-m", "qfarm_workers.supervisor"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env=environment(os.environ, self._threads),
                start_new_session=True,
            )
        if supervisor.stdin is None or supervisor.stdout is None:
            raise RuntimeError("the supervisor was started without pipes")
        self._supervisor = supervisor
        self._channel = Channel(supervisor.stdout.fileno(), supervisor.stdin.fileno())

    def run(
        self, program: PythonCall | Command, folder: Path, limits: Limits, stop: Event
    ) -> Ended:
        """Run a program in `folder` until it ends, passes a limit, or is to stop."""
        watch = _Watch(limits, stop, folder, self._leave)
        self.start()
        self._channel.send(request(program, folder))
        while True:
            if not self._channel.ready(LOOK_SECONDS):
                stopped = watch.look()
                if stopped is not None:
                    return self._stop(watch, stopped, _patience(program, limits, stopped))
                continue
            ended = self._listen(watch)
            if ended is not None:
                return self._with_job(ended)

    def _with_job(self, ended: Ended) -> Ended:
        """Tell a program that crashed from one that the batch system ended with the job.

        It signals every process of the job, and this one may hear of it a moment later.
        """
        if ended.code == 0 or ended.missing or not self._told(ended):
            return ended
        return _stopped(ended, Stopped.JOB)

    def _told(self, ended: Ended) -> bool:
        until = time.monotonic() + (TOLD_SECONDS if ended.code in _TOLD else 0.0)
        while not self.leaving and time.monotonic() < until:
            time.sleep(0.02)
        return self.leaving

    def hang_up(self) -> None:
        """Close the line to the supervisor, as the death of this process would."""
        if self._supervisor is not None and self._supervisor.stdin is not None:
            self._supervisor.stdin.close()

    def close(self) -> None:
        """End the supervisor, and with it what it runs."""
        self.hang_up()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        if supervisor.stdout is not None:
            supervisor.stdout.close()
        try:
            supervisor.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()

    def _listen(self, watch: "_Watch") -> Ended | None:
        """Take one answer; None while the program runs."""
        answer = self._channel.read()
        if answer is None:
            return self._lost(watch)
        if "started" in answer:
            watch.started(answer["started"])
            return None
        return watch.ended(answer)

    def _stop(self, watch: "_Watch", stopped: Stopped, patience: float) -> Ended:
        """End the program; one that ended well in the same moment keeps its result."""
        self._channel.send({"kill": patience})
        deadline = time.monotonic() + patience + GRACE_SECONDS
        while self._channel.ready(max(0.0, deadline - time.monotonic())):
            ended = self._listen(watch)
            if ended is not None:
                return ended if ended.code == 0 else _stopped(ended, stopped)
        return _stopped(self._lost(watch), stopped)

    def _lost(self, watch: "_Watch") -> Ended:
        """End a supervisor that died or does not answer, and what it left behind."""
        if self._supervisor is not None:
            self._supervisor.kill()
        watch.kill()
        self.close()
        return watch.unseen()


@dataclass
class _Watch:
    """One program under way: since when, how large, which processes."""

    limits: Limits
    stop: Event
    folder: Path
    leave: Flag
    peak_memory_mb: float = 0.0
    _asked: bool = False
    _family: list[psutil.Process] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def started(self, pid: int) -> None:
        if not self.limits.walltime:  # that goes on while engines are imported
            self._began = time.monotonic()  # imports are over; they are not the program's time
        with suppress(psutil.NoSuchProcess):
            self._family = [psutil.Process(pid)]

    def look(self) -> Stopped | None:
        """Say which limit is passed, if any."""
        memory_mb = self._memory_mb()
        self.peak_memory_mb = max(self.peak_memory_mb, memory_mb)
        if self.stop.is_set():
            return Stopped.ASKED
        if self.leave.is_set():
            return Stopped.JOB
        if memory_mb > self.limits.memory_mb:
            return Stopped.MEMORY
        self._ask()
        return Stopped.TIME if self.seconds > self.limits.seconds else None

    def _ask(self) -> None:
        """Make the soft-stop file when its time has come."""
        wish = self.limits.soft_stop
        if wish is None or self._asked or self.seconds < wish.after:
            return
        with suppress(OSError):  # a full disk: the program will be killed
            (self.folder / wish.file).touch()
            self._asked = True

    def ended(self, answer: Mapping[str, Any]) -> Ended:
        if "missing" in answer:
            return Ended(None, wall_seconds=self.seconds, missing=answer["missing"])
        usage = dict(answer["ended"])
        usage["peak_memory_mb"] = max(usage["peak_memory_mb"], self.peak_memory_mb)
        return Ended(**usage, asked=self._asked)

    def unseen(self) -> Ended:
        """The end of a program that nobody saw."""
        return Ended(None, self.seconds, peak_memory_mb=self.peak_memory_mb, asked=self._asked)

    def kill(self) -> None:
        """Kill what was last seen of the program; psutil never kills a reused pid."""
        for process in self._family:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if process is self._family[0]:
                    os.killpg(process.pid, signal.SIGKILL)
                process.kill()

    def _memory_mb(self) -> float:
        if not self._family:
            return 0.0
        if self._family[0].is_running():
            self._family[1:] = descendants(self._family[0])
        return sum(_resident_mb(process) for process in self._family)


def request(program: PythonCall | Command, folder: Path) -> dict[str, Any]:
    """What the supervisor is asked for."""
    if isinstance(program, PythonCall):
        return {"folder": str(folder), "module": program.module, "function": program.function}
    given = dict(program.environment)
    return {"folder": str(folder), "argv": list(program.argv), "environment": given}


def _patience(program: PythonCall | Command, limits: Limits, why: Stopped) -> float:
    """Seconds that a program told to end has for that; a Python function starts nothing."""
    if isinstance(program, PythonCall):
        return 0.0
    why = Stopped.JOB if why is Stopped.TIME and limits.walltime else why
    return _LESS_PATIENCE.get(why, _PATIENCE)


def _resident_mb(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        return float(process.memory_info().rss) / 2**20
    return 0.0


def _stopped(ended: Ended, stopped: Stopped) -> Ended:
    return replace(ended, stopped=stopped)
