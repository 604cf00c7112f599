"""A batch job: what its job script runs on a node, ``python -m qfarm_workers.job``.

It notes itself in the database, tests the engines, keeps a pull loop in each of its slots and tells
them what holds for all: whether to drain, what to take. It needs no launcher to go on.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from qfarm import config
from qfarm.config import Farm
from qfarm.engines import engine
from qfarm.errors import StoreError, UserError
from qfarm.sites import scratch_of
from qfarm.store import open_store
from qfarm.store.fleet import JobNote, JobState
from qfarm.store.protocol import Store
from qfarm.store.wish import Wish
from qfarm_schemas.attempt import Environment
from qfarm_schemas.config import Partition
from qfarm_workers import selftest
from qfarm_workers.bench import Engines
from qfarm_workers.identity import gone, node_name
from qfarm_workers.job.passed import MOST_COUNTED, PassedOver
from qfarm_workers.lifetime import Lifetime, job_lifetime
from qfarm_workers.loop import partition_of
from qfarm_workers.options import Options, as_granted, ends, farm_with, options
from qfarm_workers.orders import Orders, Report, renewed
from qfarm_workers.patience import START_SECONDS, patiently
from qfarm_workers.process import Flag
from qfarm_workers.scratch import Scratch
from qfarm_workers.selftest import SELF_TEST, Fit
from qfarm_workers.slot import AWAY, IDLED, OUTLIVED, SlotOrder, allowed
from qfarm_workers.slots import Left, Slots
from qfarm_workers.supervisor import TO_LEAVE
from qfarm_workers.surroundings import surroundings

TICK_SECONDS: Final = 0.5
"""s: between two looks at the slots."""

LOOK_SECONDS: Final = 5.0
"""s: between two looks at the database, each with a sign of life."""

RELEARN_SECONDS: Final = 60.0
"""s: between two reads of costs and levels."""

TOLD: Final = "the batch system, or somebody, told it to end"

MOST_CRASHES: Final = 5
"""Slots in a row that may die before any of them has made an attempt."""


@dataclass(frozen=True)
class Place:
    """Node and batch job.

    Attributes
    ----------
    host : str
        Name of the node.
    environment : Environment
        What stands in each attempt.
    ends : float or None
        When the batch system ends the job, s since the epoch; None: not known.
    """

    host: str
    environment: Environment
    ends: float | None = None


@dataclass
class Job:
    """A batch job at work.

    Attributes
    ----------
    options : Options
        What it was started with.
    farm : Farm
        Its configuration.
    partition : Partition
        Whose work it does, with the limits that were granted.
    life : Lifetime
        How long, by the monotonic clock.
    place : Place
        Where.
    store : Store
        The job database.
    slots : Slots
        Its processes.
    engines : callable
        Engine table.
    leave : Flag
        Set when the batch system, or the user, ends the job.
    attempts : int
        Committed so far.
    worked : bool
        Whether any slot has begun to work on something.
    """

    options: Options
    farm: Farm
    partition: Partition
    life: Lifetime
    place: Place
    store: Store
    slots: Slots
    engines: Engines
    leave: Flag
    orders: Orders = field(default_factory=Orders)
    fit: Fit = field(default_factory=Fit)
    attempts: int = 0
    worked: bool = False
    _why: str = ""
    _crashes: int = 0
    _passed: PassedOver = field(default_factory=PassedOver)
    _idle_since: float = field(default_factory=time.monotonic)
    _look_at: float = 0.0
    _learn_at: float = 0.0

    def run(self) -> int:
        """Work until told to end, too old, or idle for too long; the exit code."""
        patiently(self._begin, START_SECONDS)
        unfit = patiently(self._unfit, START_SECONDS)
        self._why = TOLD if self.leave.is_set() else unfit  # an engine under test ends, too
        if not self._why:
            self._work()
        print(f"{self.options.job} ends: {self._why or 'nothing was left to do'}", flush=True)
        with suppress(StoreError):  # its launcher will see that it is gone
            self.store.fleet.beat(self.options.job, 0, self.attempts, self.worked)
            self.store.fleet.end(self.options.job, self._why)
        return 1 if self.fit.useless or self._crashes >= MOST_CRASHES else 0

    def _begin(self) -> None:
        began = datetime.fromtimestamp(self.options.began, UTC)
        ends = None if self.place.ends is None else datetime.fromtimestamp(self.place.ends, UTC)
        note = JobNote(
            self.options.job,
            self.partition.name,
            JobState.RUNNING,
            scheduler_id=self.place.environment.scheduler_job,
            host=self.place.host,
            slots=self.partition.slots,
            started=began,
            ends=ends,
        )
        self.store.fleet.begin(note)
        Scratch(scratch_of(self.farm, self.partition)).sweep(gone)

    def _unfit(self) -> str:
        """Why nothing can be done on this node; empty if something can."""
        fleet = self.store.fleet
        suspect = next((n for n in fleet.suspects() if n.host == self.place.host), None)
        if suspect is not None:
            return f"the node is left alone until {suspect.until:%H:%M} UTC: {suspect.why}"
        found = selftest.hindrance(scratch_of(self.farm, self.partition))
        if found is not None:
            return f"{SELF_TEST}: {found.what}. {found.remedy}"
        self._learn()
        useless = self.fit.useless or (self.fit.bad and self._lacks_engines())
        return f"{SELF_TEST}: {self.fit.why}" if useless else ""

    def _lacks_engines(self) -> bool:
        """Whether all that is ready wants engines that do not work on this node."""
        every = replace(self.orders, engines=None)
        return not self._ready(self.orders, 1) and bool(self._ready(every, 1))

    def _work(self) -> None:
        self._idle_since = time.monotonic()
        self.life = self.life.prepared(time.monotonic())
        self._look()
        if not self.orders.drain:
            self._start(self.partition.slots)
        while not self._over():
            time.sleep(TICK_SECONDS)
            self._hear(self.slots.hear())
            self._settle(self.slots.left())
            if self.leave.is_set():
                self.slots.end()  # again and again: one that is just begun may not hear it yet
            elif time.monotonic() >= self._look_at:
                self._try_to_look()
        self._hear(self.slots.hear())

    def _over(self) -> bool:
        """Whether the job has nothing more to wait for."""
        if self.slots.present:
            return False
        if self.leave.is_set():
            return self._ends(TOLD)
        if self._crashes >= MOST_CRASHES:
            return self._ends(f"{self._crashes} slots died before an attempt: see the job's log")
        if self.fit.useless:
            return self._ends(f"{SELF_TEST}: {self.fit.why}")
        if self._passed.ready or not self.life.worth_a_claim(time.monotonic()):
            return self._ends("its lifetime is over")
        if self.orders.over:
            return True
        return time.monotonic() - self._idle_since > self.partition.idle_seconds

    def _ends(self, why: str) -> bool:
        self._why = self._why or why
        return True

    def _hear(self, reports: Iterable[Report]) -> None:
        for report in reports:
            if report.began:
                self._look_at = self._look_at if self.worked else 0.0  # that it be known at once
                self.worked = True
                self._passed.begun()
            if report.attempt:
                self.attempts += 1
                self._crashes = 0
                self._idle_since = time.monotonic()
            if report.broken:
                broken = selftest.Tested(report.broken, False, report.why)
                self.fit = selftest.verdict([broken], self.fit)
                self.orders = replace(self.orders, engines=self.fit.good)
                self.slots.tell(self.orders)

    def _settle(self, left: Iterable[Left]) -> None:
        """Take note of slots that have ended."""
        for one in left:
            if one.code in (IDLED, OUTLIVED):
                self._passed.due = True
                self._look_at = 0.0  # what comes later was not passed over
            elif one.code and not self.leave.is_set():
                self._crashes += one.code != AWAY
                self._idle_since = time.monotonic()
                print(f"slot {one.number} ended with exit code {one.code}", flush=True)

    def _try_to_look(self) -> None:
        try:
            self._look()
            if self._passed.due:
                ready = self._ready(self.orders, MOST_COUNTED)
                self._passed.counted(ready, time.monotonic() + RELEARN_SECONDS)
            if self._may_start():
                self._start_as_needed()
        except StoreError as error:  # the slots wait for it, too
            print(f"MongoDB: {error.what}", file=sys.stderr, flush=True)

    def _may_start(self) -> bool:
        now = time.monotonic()
        fit = not self.fit.useless and self._crashes < MOST_CRASHES
        young = self.life.worth_a_claim(now)
        return fit and young and not self.orders.drain and self.slots.present < self.partition.slots

    def _start_as_needed(self) -> None:
        """Start slots for what has become ready since others ended, and one now and then to try."""
        free = len(self.slots.free(self.partition.slots))
        ready = self._ready(self.orders, self._passed.ready + free)
        self._start(self._passed.wanted(ready, free, time.monotonic(), RELEARN_SECONDS))

    def _start(self, most: int) -> None:
        for number in self.slots.free(self.partition.slots)[:most]:
            self.slots.start(self._order(number))

    def _order(self, number: int) -> SlotOrder:
        return SlotOrder(
            self.options.farm,
            self.partition,
            self.options.job,
            number,
            self.life,
            self.engines,
            self.place.environment,
            self.orders,
        )

    def _ready(self, orders: Orders, limit: int) -> int:
        """Stages that slots could take by these orders, up to a limit."""
        levels = allowed(orders, frozenset())
        stages, outgrown = self.partition.takes_stages, orders.outgrown
        wish = Wish(orders.partitions, stages, levels, outgrown=outgrown)
        return self.store.fleet.demand(self.partition.name, wish, limit, 0).ready

    def _look(self) -> None:
        """Give a sign of life, and pass on what holds now."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        fleet = self.store.fleet
        may_claim = fleet.beat(self.options.job, self.slots.present, self.attempts, self.worked)
        if time.monotonic() >= self._learn_at:
            self._learn()
        standings = {standing.name: standing for standing in fleet.standings()}
        orders = renewed(
            self.orders, self.partition, self.farm.config.partitions, standings, may_claim
        )
        if orders != self.orders:
            self.orders = orders
            self.slots.tell(orders)

    def _learn(self) -> None:
        """Read what levels there are and what they cost; test engines that are new."""
        self._learn_at = time.monotonic() + RELEARN_SECONDS
        levels = self.store.fleet.levels()
        known = self.fit.good | {test.engine for test in self.fit.bad}
        names = selftest.engines_to_test(self.partition, levels, known)
        tests = [selftest.test(name, self.farm, self.partition, self.engines) for name in names]
        for test in tests:
            print(f"self-test of {test.engine}: {'passed' if test.ok else test.what}", flush=True)
        self.fit = selftest.verdict(tests, self.fit)
        engines = self.fit.good if self.fit.bad or self.partition.takes_engines else None
        costs = self.store.fleet.costs()
        self.orders = replace(self.orders, levels=levels, engines=engines, costs=costs)
        self.slots.tell(self.orders)


def main(arguments: Sequence[str] | None = None, engines: Engines = engine) -> int:
    """Run a batch job.

    Parameters
    ----------
    arguments : sequence of str or None
        The command line; None: this process's own.
    engines : callable
        Engine table; it is sent to other processes, so a function of a module.

    Returns
    -------
    int
        The exit code.
    """
    leave = Flag()
    for number in TO_LEAVE:
        signal.signal(number, lambda *_: leave.set())
    Slots.prepare()
    given = options(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(given, leave, engines)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1


def _run(given: Options, leave: Flag, engines: Engines) -> int:
    farm = config.load(given.farm)
    partition = as_granted(partition_of(farm.config.partitions, given.partition), given)
    farm = farm_with(farm, partition)
    around = surroundings()
    known = os.environ.get("QFARM_JOB_ID") or around.scheduler_job
    around = around.model_copy(update={"scheduler_job": known})
    place = Place(node_name(), around, ends(given, partition, os.environ))
    life = job_lifetime(
        partition.walltime,
        given.began,
        time.time(),
        place.ends,
        stagger_key=given.job,
        monotonic=time.monotonic(),
    )

    uri, database = config.mongo_uri(farm), farm.config.mongo.database
    with ExitStack() as stack:
        store = patiently(lambda: stack.enter_context(open_store(uri, database)), START_SECONDS)
        return Job(given, farm, partition, life, place, store, Slots(), engines, leave).run()
