"""A slot of a batch job: one process with one pull loop, told by its job what to claim."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final, NoReturn

from qfarm import config
from qfarm.costs.model import CostModel
from qfarm.errors import StoreError, UserError
from qfarm.store.wish import Ahead, Wish
from qfarm_schemas.attempt import Attempt, Environment, Success
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_workers import devices, selftest
from qfarm_workers.appraisal import Appraisal, Foresight
from qfarm_workers.bench import Engines
from qfarm_workers.breaker import Breaker
from qfarm_workers.identity import node_name, this_process
from qfarm_workers.lifetime import Lifetime
from qfarm_workers.loop import Loop, at_work
from qfarm_workers.options import farm_with
from qfarm_workers.orders import JobLine, Orders, Pipe, Report
from qfarm_workers.process import Flag
from qfarm_workers.supervisor import TO_LEAVE

OUTLIVED: Final = 3
"""Exit code of a slot whose lifetime ended; 0: it was told to end, or nothing was left to do."""

IDLED: Final = 5
"""Exit code of a slot that found nothing to claim for too long, while others were at work."""

UNFIT: Final = 4
"""Exit code of a slot that cannot work on this node; it has said why."""

AWAY: Final = 6
"""Exit code of a slot that gave up waiting for MongoDB, which says nothing against the node."""

BLACK_HOLE: Final = "it fails one fragment after the other on this node, although water goes well"


@dataclass(frozen=True)
class SlotOrder:
    """What a slot is told when it is started.

    Attributes
    ----------
    start : Path
        Folder of ``qfarm.toml``.
    partition : Partition
        Whose work it does, with the limits that the job was granted.
    job : str
        Name of the job.
    number : int
        Which of the job's slots, from 0.
    life : Lifetime
        Of the job, by the monotonic clock of this host.
    engines : callable
        Engine table.
    environment : Environment
        Goes into each attempt.
    orders : Orders
        The first.
    """

    start: Path
    partition: Partition
    job: str
    number: int
    life: Lifetime
    engines: Engines
    environment: Environment
    orders: Orders


@dataclass
class Judge:
    """Says what fits, by what the job last heard of costs.

    Attributes
    ----------
    config : FarmConfig
        Partitions and their engines.
    partition : Partition
        Of the slot.
    life : Lifetime
        Of the slot.
    engines : callable
        Engine table.
    """

    config: FarmConfig
    partition: Partition
    life: Lifetime
    engines: Engines
    _of: Orders | None = None
    _appraisal: Appraisal | None = None

    @property
    def _smaller(self) -> bool:
        """Whether another partition has more memory, to which stages may be left."""
        return any(other.memory_mb > self.partition.memory_mb for other in self.config.partitions)

    @property
    def least(self) -> float | None:
        """Seconds of the cheapest stage that was looked at; None: none was."""
        return None if self._appraisal is None else self._appraisal.least

    def fits(self, orders: Orders) -> Callable[[Ahead], bool] | None:
        """For `Wish.fits`; None where nothing needs to be looked at."""
        if self.life.seconds == inf and not self._smaller:
            return None
        if self._of is None or (orders.costs, orders.closed) != (self._of.costs, self._of.closed):
            model = CostModel.from_document(orders.costs)
            foresight = Foresight(model, self.engines, self.config)
            self._appraisal = Appraisal(foresight, self.partition, self.life, orders.closed)
        self._of = orders
        return None if self._appraisal is None else self._appraisal.fits


@dataclass
class ByJob:
    """The guide of a slot's loop: what the job last said, and what the slot found out itself.

    Attributes
    ----------
    line : JobLine
        Hear the job.
    partition : Partition
        Of the slot.
    host : str
        Node that the slot runs on.
    test : callable
        Tests an engine on a water molecule; why it does not work here, empty if it does.
    judge : Judge
        Says what fits into the time that is left.
    """

    line: JobLine
    partition: Partition
    host: str
    test: Callable[[str], str]
    judge: Judge
    breaker: Breaker = field(default_factory=Breaker)
    _doubtful: set[str] = field(default_factory=set)
    _begun: bool = False

    @property
    def idle_seconds(self) -> float:
        """See `Guide.idle_seconds`."""
        return self.partition.idle_seconds

    @property
    def least(self) -> float | None:
        """See `Guide.least`."""
        return self.judge.least

    def drained(self, look: bool = False) -> bool:
        """See `Guide.drained`; nothing is left to do where every engine is broken."""
        engines = self.line.orders.engines
        broken = self.breaker.broken.keys()
        return self.line.drain or (engines is not None and engines <= broken)

    def wish(self) -> Wish:
        """See `Guide.wish`; engines that fail again and again are tested before."""
        for engine in sorted(self.breaker.tripped):
            self._doubt(engine)
        orders = self.line.orders
        return Wish(
            partitions=orders.partitions,
            stages=self.partition.takes_stages,
            levels=allowed(orders, frozenset(self.breaker.broken)),
            elsewhere=self.host,
            outgrown=orders.outgrown,
            fits=self.judge.fits(orders),
        )

    def begun(self) -> None:
        """See `Guide.begun`; the job hears of the first."""
        if not self._begun:
            self._begun = True
            self.line.say(Report(began=True))

    def note(self, made: Attempt, engine: str) -> None:
        """See `Guide.note`."""
        self.breaker.note(engine, made)
        if isinstance(made.outcome, Success):
            self._doubtful.discard(engine)
        self.line.say(Report(attempt=True))

    def _doubt(self, engine: str) -> None:
        """Test an engine that failed several fragments in a row; the second time, give it up."""
        why = BLACK_HOLE if engine in self._doubtful else self.test(engine)
        self._doubtful.add(engine)
        self.breaker.tested(engine, why)
        if why:
            self.line.say(Report(broken=engine, why=why))


def allowed(orders: Orders, broken: frozenset[str]) -> frozenset[str] | None:
    """Ids of the levels of theory that a slot may take; None: all."""
    if orders.engines is None and not broken:
        return None
    return frozenset(
        level
        for level, engine in orders.levels.items()
        if engine not in broken and (orders.engines is None or engine in orders.engines)
    )


def see_devices(partition: Partition, number: int) -> None:
    """Show to this process, and to those it starts, the GPUs of a slot."""
    given = os.environ.get(devices.VARIABLE)
    own = devices.visible(given, partition.gpus, partition.slots, number)
    if own is not None:
        os.environ[devices.VARIABLE] = own


def run(order: SlotOrder, line: Pipe) -> NoReturn:
    """Work until told to end, too old, or idle for too long: the main function of the process."""
    gc.freeze()  # a collection would write to all objects, and no page would be shared any more
    leave = Flag()
    for number in TO_LEAVE:
        signal.signal(number, lambda *_: leave.set())
    try:
        sys.exit(_work(order, JobLine(line, order.orders), leave))
    except UserError as error:
        print(f"slot {order.number}: {error}", file=sys.stderr, flush=True)
        away = type(error) is StoreError  # others of its kind, as a missing right, do not pass
        sys.exit(AWAY if away else UNFIT)


def _work(order: SlotOrder, line: JobLine, leave: Flag) -> int:
    """The exit code."""
    partition = order.partition
    farm = farm_with(config.load(order.start), partition)
    see_devices(partition, order.number)
    host = node_name()
    worker = this_process(f"{order.job}.{order.number}", partition.name, order.job, host)
    judge = Judge(farm.config, partition, order.life, order.engines)

    def test(engine: str) -> str:
        tested = selftest.test(engine, farm, partition, order.engines)
        return "" if tested.ok else tested.why

    with at_work(farm, partition, order.engines, order.life, leave, order.environment) as place:
        guide = ByJob(line, partition, host, test, judge)
        loop = Loop(place.store, place.bench, worker, farm.config.lease, place.lines, guide=guide)
        loop.run()
        return OUTLIVED if loop.outlived else IDLED if loop.idled else 0
