"""The fleet: launchers of a storm, what they have started, and which of it may be hit."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from chaos.farm import StormFarm
from chaos.forker import TOLD, Forker
from chaos.launch import PRINTED, WORKER_SAID

FORKED: Final = "fork"
DASK: Final = "dask"
FULL: Final = "is full"
"""What a run says that ended because there was no space."""

AWAY: Final = ("does not answer", "hangs up at once")
"""What a run says that was started while MongoDB was away."""

TIRED: Final = ("die as soon as they are started", "no worker process has come up")
"""What a run with Dask says when the storm has killed its workers faster than they come up. No
other end by itself is expected."""

_SUPERVISOR: Final = "qfarm_workers.supervisor"
_BACK_AFTER: Final = 0.5  # s


@dataclass
class Launcher:
    """A place for a launcher; it is started again when it has ended.

    Attributes
    ----------
    kind : str
        ``fork``: `chaos.launch.run`; ``dask``: a true `qfarm run`.
    slots : int
        Workers.
    number : int
        Which one it is.
    """

    kind: str
    slots: int
    number: int
    pid: int | None = None
    back_at: float = 0.0
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None

    def printed(self, farm: StormFarm) -> Path:
        return farm.root / PRINTED / f"launcher-{self.number}-{self.starts}.txt"


@dataclass
class Fleet:
    """Launchers that are kept running."""

    farm: StormFarm
    forker: Forker
    launchers: list[Launcher]
    fell: list[str] = field(default_factory=list)
    full: int = 0
    away: int = 0
    tired: int = 0
    _codes: dict[int, int] = field(default_factory=dict)

    def tend(self) -> None:
        """Start what is not running."""
        self._codes |= self.forker.ended()
        for launcher in self.launchers:
            code = self.code(launcher)
            if code is not None:
                self._ended(launcher, code)
            if launcher.pid is None and time.monotonic() >= launcher.back_at:
                self.start(launcher)

    def start(self, launcher: Launcher) -> None:
        launcher.starts += 1
        if launcher.kind == FORKED:
            arguments: dict[str, Any] = {"folder": str(self.farm.root), "slots": launcher.slots}
            out = launcher.printed(self.farm)
            launcher.pid = self.forker.fork("chaos.launch:run", arguments, out)
            return
        with launcher.printed(self.farm).open("wb") as out_file:
            launcher.process = subprocess.Popen(
                [sys.executable, "-m", "chaos.launch", str(launcher.slots)],
                cwd=self.farm.root,
                env=self.farm.environment(),
                stdout=out_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        launcher.pid = launcher.process.pid

    def code(self, launcher: Launcher) -> int | None:
        """How a launcher ended; None while it runs."""
        if launcher.process is not None:
            return launcher.process.poll()
        self._codes |= self.forker.ended()
        return self._codes.pop(launcher.pid, None) if launcher.pid is not None else None

    def _ended(self, launcher: Launcher, code: int) -> None:
        launcher.pid, launcher.process = None, None
        launcher.back_at = time.monotonic() + _BACK_AFTER
        if code in (0, 3) or code < 0:
            return
        text = launcher.printed(self.farm).read_text().strip()
        if FULL in text[-2000:]:
            self.full += 1
        elif any(word in text[-2000:] for word in AWAY) and WORKER_SAID not in text:
            self.away += 1
        elif any(word in text[-2000:] for word in TIRED):
            self.tired += 1
        else:
            kind = "told" if code == TOLD else f"exit code {code}"
            self.fell.append(f"{launcher.kind} launcher {launcher.number}, {kind}: {text[-1500:]}")

    def stop(self) -> None:
        """Kill all of it."""
        for launcher in self.launchers:
            for process in [*self.family(launcher), *_processes([launcher.pid])]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if launcher.process is not None:
                launcher.process.wait(10)
            launcher.pid, launcher.process = None, None

    def family(self, launcher: Launcher) -> list[psutil.Process]:
        """All descendants of a launcher."""
        for process in _processes([launcher.pid]):
            with suppress(psutil.NoSuchProcess):
                return list(process.children(recursive=True))
        return []

    def targets(self, what: str) -> list[psutil.Process]:
        """Processes that may be hit, oldest first: launchers, workers, supervisors or engines."""
        if what == "launcher":
            return _processes([launcher.pid for launcher in self.launchers])
        found = [one for launcher in self.launchers for one in self._below(launcher, what)]
        return sorted(found, key=lambda one: one.pid)

    def _below(self, launcher: Launcher, what: str) -> Iterator[psutil.Process]:
        family = self.family(launcher)
        for supervisor in (one for one in family if _is_supervisor(one)):
            with suppress(psutil.NoSuchProcess):
                if what == "supervisor":
                    yield supervisor
                elif what == "worker":
                    yield supervisor.parent()
                else:
                    yield from supervisor.children()


def _is_supervisor(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        parent = process.parent()
        words = process.cmdline()
        # The engine is a fork of the supervisor, so it has the same command line.
        return _SUPERVISOR in words and parent is not None and _SUPERVISOR not in parent.cmdline()
    return False


def _processes(pids: list[int | None]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        if pid is not None:
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
    return found
