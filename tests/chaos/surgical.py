"""The surgical killer: kill a worker at every MongoDB command of a task's life, one by one.

Run it as::

    OMP_NUM_THREADS=1 PYTHONPATH=tests python -m chaos.surgical [--elsewhere] [--stop]

For each command of the life of a two-stage task (claim to last commit, heartbeats included) a
worker gets a fragment of its own and is killed there, once before the command is sent and once
after mongod has done it. Beside it runs a worker with a reaper, which has to bring the fragment to
its end. ``--elsewhere``: the victim calls itself a worker of another host, so that only the end of
its lease tells of its death. ``--stop``: it is stopped, and woken once the fragment is done.
``--fragments 5 --engine 0``: it has several fragments, so that it claims and commits batches. How
many commands a life has is found by going on until a victim lives through it.
"""

import argparse
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pymongo import MongoClient

from chaos import batch, checker, fates
from chaos.batch import Line
from chaos.checker import Found
from chaos.engine import stages
from chaos.farm import DATABASE, StormFarm
from chaos.faultpoints import AFTER, BEFORE, Doom
from chaos.forker import Forker
from chaos.journal import Fired, Journal, journal
from chaos.launch import PRINTED
from chaos.patients import GATE
from qfarm.store import open_store
from qfarm.store.protocol import Store

MODULES: Final = ("chaos.patients", "qfarm.store.mongo", "fireworks")


@dataclass(frozen=True)
class Operation:
    """How the victims are treated.

    Attributes
    ----------
    seconds, heartbeat : float
        Length of leases and time between heartbeats, s.
    engine : float
        How long the engine takes, s; longer than a heartbeat, and there are some more commands.
    elsewhere, stop : bool
        See this module.
    reap, longest_wait : float
        Seconds between two looks of the reaper, and of a worker without work, as the product has.
    fragments : int
        Fragments of each victim; with more than one, it claims and commits several at once.
    patience : float
        Seconds after which a fragment that is not done counts as stuck.
    """

    seconds: float = 1.0
    heartbeat: float = 0.25
    engine: float = 0.35
    elsewhere: bool = False
    stop: bool = False
    reap: float = 2.0
    longest_wait: float = 1.0
    fragments: int = 1
    patience: float = 150.0


@dataclass(frozen=True)
class Point:
    """What became of one victim.

    Attributes
    ----------
    doom : Doom
        Where it was hit.
    name : str
        Name of the command; empty when it lived through.
    recovery : float or None
        Seconds until the fragment was done; None: it is stuck.
    """

    doom: Doom
    name: str
    recovery: float | None


@dataclass
class Theatre:
    """A farm with a rescuer, and victims one after the other."""

    farm: StormFarm
    operation: Operation
    forker: Forker
    store: Store
    raw: Any
    notes: Journal
    lines: Iterator[Line]
    used: list[Line] = field(default_factory=list)

    def operate(self, doom: Doom | None) -> Point | None:
        """Hit a victim and wait for its fragment; None when it lived through its life."""
        gate = self.farm.root / GATE
        gate.touch()
        own = [next(self.lines) for _ in range(self.operation.fragments)]
        self.used += own
        self.store.add([batch.plan(line, stages()) for line in own])
        pid = self.forker.fork("chaos.patients:victim", self._arguments(doom), self._printed)
        fired = self._hit(pid)
        began = time.monotonic()
        gate.unlink()
        recovery = self._recovery(own, began)
        if fired is not None and self.operation.stop:
            os.kill(pid, signal.SIGCONT)
            self._end(pid)
        return None if fired is None or doom is None else Point(doom, fired.name, recovery)

    @property
    def _printed(self) -> Path:
        return self.farm.root / PRINTED / "victims.txt"

    def _arguments(self, doom: Doom | None) -> dict[str, Any]:
        return {
            "folder": str(self.farm.root),
            "doom": None if doom is None else asdict(doom),
            "dooms": str(self.farm.dooms),
            "elsewhere": self.operation.elsewhere,
        }

    def _hit(self, pid: int) -> Fired | None:
        """Wait for a victim's doom; None when it came to its end without."""
        while True:
            fired = [one for one in self.notes.new() if one.pid == pid]
            if fired and self.operation.stop:
                return fired[0]
            code = self.forker.ended().get(pid)
            if code == 0:
                return None
            if code is not None and code > 0:
                raise RuntimeError(f"a victim fell: {self._printed.read_text()[-2000:]}")
            if fired or code is not None:
                if code is None:
                    self._end(pid)
                return next(iter([*fired, *self.notes.new()]))
            time.sleep(0.005)

    def _end(self, pid: int) -> None:
        end = time.monotonic() + 60.0
        while pid not in self.forker.ended():
            if time.monotonic() > end:
                raise TimeoutError(f"the victim {pid} did not end")
            time.sleep(0.005)

    def _recovery(self, own: Sequence[Line], began: float) -> float | None:
        keys = [line.workflow for line in own]
        query = {"spec.qfarm.workflow": {"$in": keys}, "state": "COMPLETED"}
        while time.monotonic() - began < self.operation.patience:
            if self.raw["fireworks"].count_documents(query) == len(own) * len(fates.STAGES):
                return time.monotonic() - began
            time.sleep(0.02)
        return None

    def verdict(self) -> Found:
        return checker.check(self.raw, self.used, self.farm.log)


@contextmanager
def theatre(root: Path, uri: str, database: str, operation: Operation) -> Iterator[Theatre]:
    """A farm on a server that is there; what was started ends with it."""
    farm = StormFarm(root, None, small_disks=False)
    farm.make(lease=(operation.seconds, operation.heartbeat))
    ours = {
        "QFARM_MONGO__URI": uri,
        "QFARM_MONGO__DATABASE": database,
        "CHAOS_SECONDS": str(operation.engine),
    }
    forker = Forker.start(MODULES, farm.environment() | ours)
    arguments = {"reap": operation.reap, "longest_wait": operation.longest_wait}
    with MongoClient[dict[str, Any]](uri) as client, open_store(uri, database) as store:
        notes = journal(farm.dooms, loud=False)
        (farm.root / GATE).touch()
        printed = farm.root / PRINTED / "rescuer.txt"
        forker.fork("chaos.patients:rescuer", {"folder": str(root), **arguments}, printed)
        try:
            yield Theatre(farm, operation, forker, store, client[database], notes, easy())
        finally:
            forker.close()


def easy() -> Iterator[Line]:
    """Fragments whose stages both go well at once."""
    for line in batch.lines(5000, seed=0):
        name = line.id[: fates.NAME]
        spots = [fates.Spot(name, stage, 1, 0) for stage in fates.STAGES]
        if all(fates.outcome(s) == "ok" and not fates.seconds(s) for s in spots):
            yield line


def points(theatre: Theatre, way: str) -> Iterator[Point]:
    """Hit victims at command 1, 2, ... until one lives through."""
    at = 1
    while (point := theatre.operate(Doom(at, way, theatre.operation.stop))) is not None:
        told = "stuck" if point.recovery is None else f"done {point.recovery:.2f} s later"
        print(f"{way} command {at}, {point.name}: {told}", flush=True)
        yield point
        at += 1


def table(found: Sequence[Point], verdict: Found) -> str:
    """Lines for people."""
    rows = ["way     points  stuck  recovery median / max, s"]
    for way in (BEFORE, AFTER):
        own = [point for point in found if point.doom.way == way]
        times = [point.recovery for point in own if point.recovery is not None]
        stuck = len(own) - len(times)
        middle, most = (statistics.median(times), max(times)) if times else (0.0, 0.0)
        rows.append(f"{way:7} {len(own):6} {stuck:6}  {middle:.2f} / {most:.2f}")
    slow = sorted(found, key=lambda point: -(point.recovery or 0.0))[:5]
    told = (f"{p.doom.way} {p.doom.at} {p.name} {p.recovery or 0.0:.1f} s" for p in slow)
    rows.append(f"slowest: {'; '.join(told)}")
    names = " ".join(point.name for point in found if point.doom.way == BEFORE)
    rows.append(f"commands of a life: {names}")
    return "\n".join([*rows, verdict.report()])


def main() -> int:
    """Operate on all points both ways and print what became of them."""
    parser = argparse.ArgumentParser(description="Kill a worker at every MongoDB command.")
    parser.add_argument("--elsewhere", action="store_true", help="victims of another host")
    parser.add_argument("--stop", action="store_true", help="stop and wake instead of killing")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of leases")
    parser.add_argument("--engine", type=float, default=0.35, help="seconds the engine takes")
    parser.add_argument("--fragments", type=int, default=1, help="fragments of each victim")
    given = parser.parse_args()
    operation = Operation(
        given.seconds,
        given.seconds / 4,
        given.engine,
        given.elsewhere,
        given.stop,
        fragments=given.fragments,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that mongod does not stay
    with TemporaryDirectory(prefix="qfarm-surgical-") as name:
        root = Path(name)
        server = StormFarm(root / "server", None, small_disks=False)
        try:
            server.make()
            with theatre(root / "farm", server.up(), DATABASE, operation) as opened:
                found = [point for way in (BEFORE, AFTER) for point in points(opened, way)]
                verdict = opened.verdict()
        finally:
            server.remove()
    print(table(found, verdict))
    return 1 if verdict.violations or any(point.recovery is None for point in found) else 0


if __name__ == "__main__":
    sys.exit(main())
