"""Appraisal: whether a ready stage fits into the time and memory that a worker has. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Final, NamedTuple

from qfarm.costs.model import CostModel, Key, Work
from qfarm.routing import Waiting, takers
from qfarm.sites import settings
from qfarm.store.wish import Ahead
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_schemas.elements import counts
from qfarm_workers.bench import Engines
from qfarm_workers.lifetime import Lifetime, margin

MOST_KEPT: Final = 20_000
"""Judgements kept in memory; the queue has far fewer formulas."""


class Foreseen(NamedTuple):
    """What a stage will likely cost.

    Attributes
    ----------
    seconds : float
        Median wall time, s; not above the stage's own limit.
    at_most : float
        Wall time, s, that 95 in 100 stay below; not above that limit, either.
    memory_mb : float
        Median of the peak memory, MB.
    """

    seconds: float
    at_most: float
    memory_mb: float


@dataclass(frozen=True)
class Foresight:
    """What a cost model foretells of ready stages.

    Attributes
    ----------
    model : CostModel
        As it was learnt; ``CostModel()`` when nothing was.
    engines : callable
        Engine table.
    config : FarmConfig
        Threads and ranks of each partition.
    """

    model: CostModel
    engines: Engines
    config: FarmConfig

    def cost(self, ahead: Ahead, partition: Partition) -> Foreseen:
        """What a stage costs in a partition."""
        work = self.model.work(ahead.level_id, ahead.stage)
        key = Key(partition.name, ahead.level_id, ahead.stage)
        size = self._size(ahead, work)
        seconds = self.model.seconds(key, size, self._cores(partition, work))
        limit = work.time_limit if work else inf
        memory = self.model.memory_mb(key, size).median
        return Foreseen(min(limit, seconds.median), min(limit, seconds.upper95), memory)

    def _size(self, ahead: Ahead, work: Work | None) -> float:
        if work is None:
            return float(ahead.n_atoms)
        return self.engines(work.level.engine).cost_size(work.level, counts(ahead.formula))

    def _cores(self, partition: Partition, work: Work | None) -> int:
        ranks = settings(self.config, partition, work.level.engine).ranks if work else 1
        return partition.threads * ranks


class _Judged(NamedTuple):
    """What does not change while the worker lives; `to_others`: left to another partition."""

    at_most: float
    limit: float
    soft_stop: bool
    to_others: bool


@dataclass(frozen=True)
class Appraisal:
    """What a worker can do in the time it has left.

    Attributes
    ----------
    foresight : Foresight
        What stages cost.
    partition : Partition
        The worker's.
    lifetime : Lifetime
        The worker's.
    closed : frozenset of str
        Partitions that work on nothing now, those included that nobody launched: nothing is left
        to them.
    clock : callable
        The monotonic clock.
    """

    foresight: Foresight
    partition: Partition
    lifetime: Lifetime
    closed: frozenset[str] = frozenset()
    clock: Callable[[], float] = monotonic
    _known: dict[Ahead, _Judged] = field(default_factory=dict, repr=False, compare=False)

    def fits(self, ahead: Ahead) -> bool:
        """Whether to claim a stage; for `Wish.fits`.

        A fresh worker takes what no worker has the time for, unless another partition has.
        """
        judged, now = self._judged(ahead), self.clock()
        if judged.to_others:
            return False
        left = self.lifetime.left(now)
        usable = left - margin(left) if judged.soft_stop and 0 < left < inf else left
        enough = judged.at_most <= usable or judged.limit <= left
        return enough or self.lifetime.fresh(now)

    @property
    def least(self) -> float | None:
        """Seconds that the cheapest stage takes of those asked about so far.

        None before the first: for `Lifetime.worth_a_claim`.
        """
        return min((one.at_most for one in self._known.values() if not one.to_others), default=None)

    def _judged(self, ahead: Ahead) -> _Judged:
        # Attempts make no difference, and without them there are fewer to know.
        ahead = ahead if not ahead.attempts else _first(ahead)
        if ahead not in self._known:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            self._known[ahead] = self._judge(ahead)
        return self._known[ahead]

    def _judge(self, ahead: Ahead) -> _Judged:
        foreseen = self.foresight.cost(ahead, self.partition)
        work = self.foresight.model.work(ahead.level_id, ahead.stage)
        if work is None:
            return _Judged(foreseen.at_most, inf, False, False)
        soft_stop = self.foresight.engines(work.level.engine).soft_stop is not None
        waiting = Waiting(ahead.stage, work.level.engine, ahead.partition)
        names = takers(waiting, self.foresight.config.partitions, self.closed)
        others = [
            one
            for one in self.foresight.config.partitions
            if one.name in names
            if one.name != self.partition.name
        ]
        better = any(fits_better(foreseen, work, self.partition, other) for other in others)
        return _Judged(foreseen.at_most, work.time_limit, soft_stop, better)


def fits_better(foreseen: Foreseen, work: Work, own: Partition, other: Partition) -> bool:
    """Whether a stage has too little memory or time in its `own` partition, and `other` has more.

    Time is that of a whole life; what fits into none goes where it is longest.
    """
    here, there = (min(one.memory_mb, work.memory_mb) for one in (own, other))
    if foreseen.memory_mb > here and there != here:
        return there > here
    life, longer = (one.walltime or inf for one in (own, other))
    return foreseen.at_most > life and longer > life and there >= min(here, foreseen.memory_mb)


def _first(ahead: Ahead) -> Ahead:
    return Ahead(ahead.stage, ahead.level_id, ahead.formula, ahead.n_atoms, ahead.partition)
