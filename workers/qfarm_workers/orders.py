"""Orders: what a job tells its slots, and how they hear it.

A slot never asks the database whether it may go on: its job does, once for all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any, NamedTuple, Protocol

from pydantic import JsonValue

from qfarm.routing import levels_of, may_take
from qfarm.store.fleet import Gate, Standing
from qfarm.store.wish import Wish
from qfarm_schemas.config import Partition
from qfarm_workers.room import outgrown


@dataclass(frozen=True)
class Orders:
    """What holds for all slots of a job until further notice.

    Attributes
    ----------
    drain : bool
        Finish what runs, claim no more.
    over : bool
        That is for good: the job ends, then.
    partitions : tuple of str
        Whose stages may be taken.
    levels : mapping
        Id -> engine of each level of theory in the queue, as far as known.
    engines : frozenset of str or None
        Engines whose levels may be taken; None: all.
    closed : frozenset of str
        Partitions that work on nothing now: nothing is left to them.
    outgrown : str
        For `Wish.outgrown`.
    costs : mapping
        What was learnt of costs, as the fleet keeps it.
    """

    drain: bool = False
    over: bool = False
    partitions: tuple[str, ...] = ()
    levels: Mapping[str, str] = field(default_factory=dict)
    engines: frozenset[str] | None = None
    closed: frozenset[str] = frozenset()
    outgrown: str = ""
    costs: Mapping[str, JsonValue] = field(default_factory=dict)


class Report(NamedTuple):
    """What a slot tells its job.

    Attributes
    ----------
    attempt : bool
        It has made an attempt.
    broken : str
        An engine that does not work on this node; empty: none.
    why : str
        Why it does not.
    began : bool
        It begins its first: whatever comes of that, it has found something to do.
    """

    attempt: bool = False
    broken: str = ""
    why: str = ""
    began: bool = False


class Pipe(Protocol):
    """One end of a line between two processes."""

    def send(self, message: Any, /) -> None:
        """Send; OSError when the other end is gone."""

    def recv(self) -> Any:
        """Wait for the next message; EOFError or OSError when the other end is gone."""


class JobLine:
    """The slot's end of the line: the last orders, heard by a thread.

    When the job is gone, the slot drains: nobody counts it any more.
    """

    def __init__(self, line: Pipe, first: Orders) -> None:
        self.orders = first
        self._gone = False
        self._line = line
        Thread(target=self._listen, name="orders", daemon=True).start()

    @property
    def drain(self) -> bool:
        """Whether to claim no more."""
        return self._gone or self.orders.drain

    def say(self, report: Report) -> None:
        """Tell the job, if it is still there."""
        try:
            self._line.send(report)
        except OSError:
            self._gone = True

    def _listen(self) -> None:
        try:
            while True:
                self.orders = self._line.recv()
        except (EOFError, OSError):
            self._gone = True


def renewed(
    orders: Orders,
    partition: Partition,
    partitions: Sequence[Partition],
    standings: Mapping[str, Standing],
    may_claim: bool,
) -> Orders:
    """Orders as they follow from how the partitions stand. Pure."""
    own = standings.get(partition.name)
    gate = own.gate if own is not None else Gate.OPEN
    resting = at_rest(partitions, standings)
    return replace(
        orders,
        drain=gate.closed or not may_claim,
        over=gate in (Gate.DRAINING, Gate.STOPPING) or not may_claim,
        partitions=may_take(partition, partitions, closed_others(partition, standings.values())),
        closed=resting,
        outgrown=outgrown(partition, partitions, resting),
    )


def closed_others(partition: Partition, standings: Iterable[Standing]) -> frozenset[str]:
    """Closed partitions besides one, whose own workers are told by their orders. Pure."""
    return frozenset(one.name for one in standings if one.closed) - {partition.name}


def wish_of(
    partition: Partition,
    partitions: Sequence[Partition],
    standings: Iterable[Standing],
    levels: Mapping[str, str],
) -> Wish:
    """What workers of a partition may take, with what spills over from closed ones. Pure.

    Parameters
    ----------
    partition, partitions : Partition, sequence of Partition
        Whose workers, and all that there are.
    standings : iterable of Standing
        How they stand.
    levels : mapping
        Id -> engine of each level of theory in the queue.
    """
    named = {one.name: one for one in standings}
    return Wish(
        partitions=may_take(partition, partitions, closed_others(partition, named.values())),
        stages=partition.takes_stages,
        levels=levels_of(partition, levels),
        outgrown=outgrown(partition, partitions, at_rest(partitions, named)),
    )


def at_rest(partitions: Sequence[Partition], standings: Mapping[str, Standing]) -> frozenset[str]:
    """Partitions that are closed, or that nobody launches: nothing is left to them. Pure.

    One whose launcher has ended within a day is none of them: its jobs may pull on, and there may
    soon be another. What is taken from it in vain costs more than waiting.
    """
    working = {
        name for name, one in standings.items() if (one.alive or one.lately) and not one.closed
    }
    return frozenset(other.name for other in partitions if other.name not in working)
