"""A storm on a farm: kills at random instants and at random commands, pauses, full disks, clocks.

Run it as::

    OMP_NUM_THREADS=1 PYTHONPATH=tests python -m chaos.storm --seed 1 --fragments 500 --kills 30

Two launchers (``fork``: the product's with forked workers, ``dask``: a true `qfarm run`) work off
the fragments on a mongod of their own, while the faults that `chaos.faults` draws from the seed
come down on them. Then all is killed once more, one launcher works to the end in peace, and the
checker judges. The exit code is 1 when it found anything.
"""

import argparse
import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pymongo.database import Database
from pymongo.errors import PyMongoError

from chaos import batch, checker, farm, fates, faults, reading
from chaos.batch import LIST, Line
from chaos.farm import DATABASE, StormFarm
from chaos.faultpoints import Doom
from chaos.faults import Fault
from chaos.fleet import DASK, FORKED, Fleet, Launcher
from chaos.forker import Forker
from chaos.journal import Journal, journal
from chaos.launch import PRINTED
from chaos.weather import Weather

MODULES: Final = ("chaos.launch", "chaos.batch", "qfarm.store.mongo", "fireworks")
STALL: Final = 120.0
"""s without any record after which the storm ends; the calm after it shows whether it is stuck."""

MORE: Final = 1.15
"""Kills that are tried for each that is asked for: some find their victim dead."""

LOOK: Final = 0.4
"""s between two looks at how much is through."""

CALM: Final = 600.0
"""s that the launcher after the storm may take."""


@dataclass(frozen=True)
class Options:
    """How strong a storm is.

    Attributes
    ----------
    seed, fragments, kills : int
        What the faults are drawn from, how many fragments there are, how many kills.
    launchers : tuple of str
        ``fork`` or ``dask``, one for each launcher.
    slots : int
        Workers of each.
    loud : bool
        Whether to print each fault.
    only_kills : bool
        Whether to leave out pauses, full disks and clocks.
    """

    seed: int = 1
    fragments: int = 500
    kills: int = 30
    launchers: tuple[str, ...] = (FORKED, DASK)
    slots: int = 2
    loud: bool = True
    only_kills: bool = False


@dataclass
class Storm:
    """A storm under way."""

    farm: StormFarm
    options: Options
    forker: Forker
    journal: Journal
    lines: list[Line]
    fleet: Fleet
    weather: Weather
    raw: Database[dict[str, Any]]
    _through: float = 0.0
    _look_at: float = 0.0
    _moved_at: float = field(default_factory=time.monotonic)

    def submit(self) -> None:
        """Submit all fragments, with some kills in between."""
        printed = self.farm.root / PRINTED / "submit.txt"
        dooms = [Doom(at, way) for at, way in ((8, "after"), (5, "before"), (2, "after"))]
        while True:
            arguments = {"folder": str(self.farm.root)}
            pid = self.forker.fork("chaos.batch:submit", arguments, printed)
            if dooms:
                dooms.pop().order(self.farm.dooms, pid)
            code = self._wait(pid)
            self.weather.look()
            if code == 0:
                return
            if code > 0:
                raise RuntimeError(f"submit failed: {printed.read_text()}")

    def _wait(self, pid: int) -> int:
        while True:
            ended = self.forker.ended()
            if pid in ended:
                return ended[pid]
            time.sleep(0.02)

    def rage(self) -> None:
        """Let all faults happen."""
        left = faults.draw(self.options.seed, math.ceil(MORE * self.options.kills))
        left = [one for one in left if one.is_kill or not self.options.only_kills]
        expected = sum(fates.records(line.id[: fates.NAME]) for line in self.lines)
        while left and not self._over():
            self.fleet.tend()
            self.weather.look()
            self._look(expected)
            left = self._strike(left)
            time.sleep(0.05)
        if left:
            self.journal.note(f"{len(left)} faults came too late, or it stalled")

    def _strike(self, left: list[Fault]) -> list[Fault]:
        if not left or left[0].at > self._through:
            return left
        self.weather.strike(left[0])
        return left[1:]

    def _look(self, expected: int) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK
        try:  # counted one by one: estimates are off after a crash of mongod
            through = self.raw["fireworks"].count_documents({"state": "COMPLETED"}) / expected
        except PyMongoError:
            return
        if through != self._through:
            self._through, self._moved_at = through, time.monotonic()

    def _over(self) -> bool:
        return time.monotonic() - self._moved_at > STALL

    def calm(self) -> float:
        """Kill what is left, then work to the end in peace; seconds of that."""
        self.weather.look()
        self.weather.clear()
        self.fleet.stop()
        began = time.monotonic()
        last = Launcher(FORKED, self.options.slots, number=99)
        self.fleet.launchers = [last]
        self.fleet.start(last)
        while (code := self.fleet.code(last)) is None:
            if time.monotonic() - began > CALM:
                self.journal.note(f"the launcher after the storm did not end in {CALM:.0f} s")
                self.fleet.stop()
                break
            time.sleep(0.1)
        self.journal.note(f"the launcher after the storm ended with exit code {code}")
        return time.monotonic() - began


@contextmanager
def prepared(root: Path, options: Options) -> Iterator[Storm]:
    """A farm with all that a storm needs; nothing of it is left."""
    place = StormFarm(root, farm.faketime(), not options.only_kills and farm.can_mount())
    place.make()
    place.up()
    forker = Forker.start(MODULES, place.environment())
    slots = options.slots
    launchers = [Launcher(kind, slots, number) for number, kind in enumerate(options.launchers)]
    fleet, notes = Fleet(place, forker, launchers), journal(place.dooms, options.loud)
    lines = batch.write(root / LIST, options.fragments, options.seed)
    with place.client() as client:
        weather = Weather(place, fleet, notes, client)
        try:
            yield Storm(place, options, forker, notes, lines, fleet, weather, client[DATABASE])
        finally:
            fleet.stop()
            forker.close()
            place.remove()


def main() -> int:
    """Let it storm, and judge."""
    options, keep = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that mongod does not stay
    with (
        TemporaryDirectory(prefix="qfarm-storm-") as name,
        prepared(Path(name) / "farm", options) as storm,
    ):
        try:
            return report(storm)
        finally:
            if keep is not None:
                shutil.copytree(storm.farm.root / PRINTED, keep, dirs_exist_ok=True)


def report(storm: Storm) -> int:
    """Submit, storm, calm, verdict; the exit code."""
    began = time.monotonic()
    storm.submit()
    submitted = time.monotonic() - began
    storm.rage()
    raged = time.monotonic() - began - submitted
    calmed = storm.calm()
    found = checker.check(storm.raw, storm.lines, storm.farm.log)
    print(f"\nseed {storm.options.seed}, {storm.options.fragments} fragments")
    print(f"kills: {storm.journal.kills}; faults: {dict(sorted(storm.journal.done.items()))}")
    print(f"submitted in {submitted:.0f} s, storm {raged:.0f} s, calm after it {calmed:.0f} s")
    print(f"runs that ended for want of space: {storm.fleet.full}")
    print(f"runs that found no MongoDB when they were started: {storm.fleet.away}")
    print(f"runs whose workers died faster than they came up: {storm.fleet.tired}")
    for text in storm.fleet.fell:
        print(f"A RUN FELL: {text}")
    print(found.report())
    uri, root = storm.farm.up(), storm.farm.root
    print(reading.report(uri, DATABASE, root, found))
    if found.violations:
        print(f"qfarm fsck --repair: {reading.fsck(uri, DATABASE, root, '--repair')}")
        print(checker.check(storm.raw, storm.lines, storm.farm.log).report())
    return 1 if found.violations or storm.fleet.fell else 0


def _arguments() -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(description="A storm on a farm.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fragments", type=int, default=500)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--launchers", default=f"{FORKED},{DASK}", help="fork or dask, each")
    parser.add_argument("--slots", type=int, default=2, help="workers of each launcher")
    parser.add_argument("--quiet", action="store_true", help="do not print each fault")
    parser.add_argument("--keep", type=Path, help="folder for what launchers and workers printed")
    given = parser.parse_args()
    kinds = tuple(given.launchers.split(","))
    loud = not given.quiet
    options = Options(given.seed, given.fragments, given.kills, kinds, given.slots, loud)
    return options, given.keep


if __name__ == "__main__":
    sys.exit(main())
