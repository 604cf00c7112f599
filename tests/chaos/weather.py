"""Weather: carries out the faults of a storm on a fleet."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import psutil
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from chaos.farm import StormFarm
from chaos.faultpoints import Doom
from chaos.faults import Fault
from chaos.fleet import Fleet
from chaos.journal import Fired, Journal
from qfarm.errors import StoreError

COMMIT: Final = "commitTransaction"
DISK_PATIENCE: Final = 20.0
"""s: how long mongod is watched on a full disk."""

AIM: Final = 2.0
"""s: how long a process of the right kind is waited for."""


@dataclass
class Weather:
    """Does harm as it is told, and sees to what has an end."""

    farm: StormFarm
    fleet: Fleet
    journal: Journal
    client: MongoClient[dict[str, Any]]
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _doomed: dict[int, str] = field(default_factory=dict)
    _stopped: set[int] = field(default_factory=set)

    def strike(self, fault: Fault) -> None:
        """Carry out a fault; one that finds nobody to hit is noted and left out."""
        verb, _, what = fault.kind.partition(" ")
        if what.endswith(("at command", "at commit")):
            self._doom(fault, what.split()[0])
        elif what == "mongod":
            self._hit_mongod(fault, verb)
        elif verb in ("kill", "stop"):
            self._hit(fault, verb, what)
        elif verb == "jump":
            self._jump(fault, what.split()[-1])
        else:
            self._fill(fault)

    def look(self) -> None:
        """Note dooms that were met; wake, free and reset what is due."""
        for fired in self.journal.new():
            self._met(fired)
        now = time.monotonic()
        due = [call for when, call in self._later if when <= now]
        self._later = [(when, call) for when, call in self._later if when > now]
        for call in due:
            call()

    def clear(self) -> None:
        """End of the storm: all that has an end ends now, and nobody is doomed any more."""
        for _, call in self._later:
            call()
        self._later = []
        for pid in self._doomed:
            (self.farm.dooms / str(pid)).unlink(missing_ok=True)
        for pid in list(self._stopped):
            self._wake(pid)
        self.farm.free()
        self.farm.up()

    def _hit(self, fault: Fault, verb: str, what: str) -> None:
        found = self._await(what)
        if not found:
            self.journal.note(f"{fault.kind}: there is none now")
            return
        target = found[int(fault.whom * len(found))]
        with suppress(psutil.NoSuchProcess):
            if verb == "stop":
                self._stop(target.pid, fault.seconds)
            else:
                target.kill()
            self.journal.note(f"{fault.kind} {target.pid}", fault.kind, fault.is_kill)

    def _await(self, what: str) -> list[psutil.Process]:
        """Those that may be hit; most engines live for some milliseconds only."""
        end = time.monotonic() + AIM
        found = self.fleet.targets(what)
        while not found and time.monotonic() < end:
            time.sleep(0.01)
            found = self.fleet.targets(what)
        return found

    def _doom(self, fault: Fault, what: str) -> None:
        found = self.fleet.targets(what)
        if not found:
            self.journal.note(f"{fault.kind}: there is none now")
            return
        pid = found[int(fault.whom * len(found))].pid
        stop = fault.kind.startswith("stop")
        only = COMMIT if fault.kind.endswith("commit") else ""
        at = 1 if stop else fault.command
        Doom(at, fault.way, stop, only).order(self.farm.dooms, pid)
        self._doomed[pid] = fault.kind
        if stop:
            self._later.append((time.monotonic() + 30.0, partial(self._forgive, pid)))

    def _met(self, fired: Fired) -> None:
        kind = self._doomed.pop(fired.pid, "kill submitter")
        kill = fired.signal == "SIGKILL"
        at = f"{fired.way} command {fired.command}, {fired.name}"
        self.journal.note(f"{kind} {fired.pid} {at}", kind, kill)
        if not kill:
            self._later.append((time.monotonic() + 6.0, partial(self._wake, fired.pid)))
            self._stopped.add(fired.pid)

    def _forgive(self, pid: int) -> None:
        """Take back a doom that was not met."""
        if pid not in self._stopped and self._doomed.pop(pid, ""):
            (self.farm.dooms / str(pid)).unlink(missing_ok=True)

    def _stop(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._stopped.add(pid)
        self._later.append((time.monotonic() + seconds, partial(self._wake, pid)))

    def _wake(self, pid: int) -> None:
        self._stopped.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _hit_mongod(self, fault: Fault, verb: str) -> None:
        mongod = self.farm.mongod
        if mongod is None:
            self.journal.note(f"{fault.kind}: it does not run")
        elif verb == "stop":
            self._stop(mongod.pid, fault.seconds / 2)
            self.journal.note(f"stop mongod for {fault.seconds / 2:.1f} s", fault.kind)
        else:
            self._wake(mongod.pid)
            mongod.kill()
            mongod.wait(10)  # while it dies, `server.up` may take it for one that runs
            began = time.monotonic()
            self.farm.up()
            took = time.monotonic() - began
            self.journal.note(f"kill mongod {mongod.pid}: back in {took:.1f} s", fault.kind, True)

    def _jump(self, fault: Fault, whose: str) -> None:
        if whose == "mongod" and self.farm.faketime is None:
            self.journal.note(f"{fault.kind}: not possible without libfaketime")
            return
        self.farm.set_clock(whose, fault.hours)
        back = partial(self.farm.set_clock, whose, 0.0)
        self._later.append((time.monotonic() + fault.seconds, back))
        told = f"{fault.kind} by {fault.hours:+.0f} h for {fault.seconds:.1f} s"
        self.journal.note(told, fault.kind)

    def _fill(self, fault: Fault) -> None:
        if not self.farm.small_disks:
            self.journal.note(f"{fault.kind}: not possible without mounting a small disk")
        elif fault.kind == "fill disk of mongod":
            self._fill_mongod(fault)
        else:
            if fault.kind == "fill scratch":
                self.farm.fill(self.farm.scratch)
            else:
                self.farm.use_up_inodes()
            self._later.append((time.monotonic() + fault.seconds, self.farm.free))
            self.journal.note(f"{fault.kind} for {fault.seconds:.1f} s", fault.kind)

    def _fill_mongod(self, fault: Fault) -> None:
        self.farm.fill(self.farm.mongo)
        end = time.monotonic() + DISK_PATIENCE
        while self.farm.mongod is not None and time.monotonic() < end:
            time.sleep(0.5)
            self.farm.fill(self.farm.mongo)  # what mongod has freed meanwhile
            self._checkpoint()
        said = "lived on"
        if self.farm.mongod is None:
            said = f"died; its start said: {self._start_on_full_disk()}"
        self.farm.free()
        self.farm.up()
        self.journal.note(f"{fault.kind}: mongod {said}", fault.kind)

    def _checkpoint(self) -> None:
        """Let mongod do at once what it does every minute, and needs space for."""
        with suppress(PyMongoError):
            self.client.admin.command("fsync")

    def _start_on_full_disk(self) -> str:
        try:
            self.farm.up()
        except StoreError as error:
            return error.what
        return "nothing, it runs"
