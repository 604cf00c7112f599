"""What a launcher remembers of a partition from tick to tick, and what it learns. Pure.

Two things make it hold back, each with waits that double from `FIRST_WAIT` to `LONGEST_WAIT`: a
scheduler that refuses jobs, and jobs that end in vain, one after the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from qfarm_launchers.scaling.demand import wanted_slots
from qfarm_launchers.scaling.situation import Limits, Situation

FIRST_WAIT: Final = 30.0
LONGEST_WAIT: Final = 900.0
"""s: after a first refusal, and after many."""

IN_VAIN: Final = 3
"""Jobs in a row that may end in vain before the partition is taken to be out of order."""

STUCK_SLOTS: Final = 0.5
"""Slots' worth of work that must stay ready beside idle slots to count as not taken by them."""

STUCK_SECONDS: Final = 60.0
"""s: for how long."""


@dataclass(frozen=True)
class Submitted:
    """The scheduler took jobs."""

    jobs: int = 1


@dataclass(frozen=True)
class Refused:
    """The scheduler did not take a job, or did not answer; no other was tried in that tick."""

    why: str


@dataclass(frozen=True)
class Died:
    """Jobs ended before their workers could begin to claim, not by our doing."""

    jobs: int
    why: str


@dataclass(frozen=True)
class Idled:
    """Jobs ended for want of work after so many seconds, without one attempt.

    That is as it should be where the queue was empty; it counts only if stages were ready all the
    time.
    """

    jobs: int
    seconds: float


@dataclass(frozen=True)
class Lived:
    """Jobs have begun their first attempts."""

    jobs: int = 1


Event = Submitted | Refused | Died | Idled | Lived


@dataclass(frozen=True)
class Memory:
    """What is carried from tick to tick; times by the monotonic clock, s.

    Attributes
    ----------
    tries : tuple of float
        When jobs were submitted or refused lately. A launcher that starts fills in those of the
        launcher before, and the submission rate holds across it.
    present : int
        Jobs that run or are pending, as far as known.
    refusals : int
        Refusals that are not forgotten; each success forgets one.
    refused : float
        When the last one was.
    ceiling : int
        Jobs that were present then: as many have been allowed.
    refusal : str
        The scheduler's words.
    vain : int
        Jobs in a row that ended in vain.
    waits : int
        How often that has led to a wait since a job lived.
    quiet_until : float
        When the last of these waits ends.
    vanity : str
        Why the last job ended in vain.
    empty_since, ready_since, stuck_since : float
        Since when nothing is ready, something is ready, work stays ready beside idle slots;
        infinity when it is not so.
    """

    tries: tuple[float, ...] = ()
    present: int = 0
    refusals: int = 0
    refused: float = -inf
    ceiling: int = 0
    refusal: str = ""
    vain: int = 0
    waits: int = 0
    quiet_until: float = -inf
    vanity: str = ""
    empty_since: float = inf
    ready_since: float = inf
    stuck_since: float = inf

    @property
    def try_again(self) -> float:
        """When the scheduler is asked again, s.

        A job that ended since the refusal has made room for another, whatever the limit was, so
        that the shortest wait is enough.
        """
        if not self.refusals:
            return -inf
        wait = FIRST_WAIT if self.present < self.ceiling else _wait(self.refusals)
        return self.refused + wait

    @property
    def out_of_order(self) -> bool:
        """Whether jobs have ended in vain so often that they are tried one by one."""
        return self.vain >= IN_VAIN

    def stuck(self, now: float) -> bool:
        """Whether idle slots evidently do not take what is ready."""
        return now - self.stuck_since >= STUCK_SECONDS

    def room(self, limits: Limits, now: float) -> int:
        """Jobs that may be submitted now by the submission rate."""
        most, seconds = limits.window
        return max(0, most - sum(time > now - seconds for time in self.tries))


def look(memory: Memory, situation: Situation, limits: Limits) -> Memory:
    """Take in a situation."""
    now, seconds = situation.now, limits.window[1]
    empty, idle = situation.ready == 0, situation.idle > 0
    stuck = idle and wanted_slots(situation, limits) >= STUCK_SLOTS
    return replace(
        memory,
        tries=tuple(time for time in memory.tries if time > now - seconds),
        present=situation.present,
        empty_since=_since(memory.empty_since, empty, now),
        ready_since=_since(memory.ready_since, not empty, now),
        stuck_since=_since(memory.stuck_since, stuck, now),
    )


def after(memory: Memory, events: Iterable[Event], now: float) -> Memory:
    """Take in what happened, in this order.

    Parameters
    ----------
    memory : Memory
        As `decide` returned it.
    events : iterable of Event
        What became of the decision, and of jobs.
    now : float
        Monotonic clock after that, s.
    """
    for event in events:
        memory = _learn(memory, event, now)
    return memory


def _learn(memory: Memory, event: Event, now: float) -> Memory:
    match event:
        case Submitted(jobs):
            return _submitted(memory, jobs, now)
        case Refused(why):
            return _refused(memory, why, now)
        case Died(jobs, why):
            return _in_vain(memory, jobs, why, now)
        case Idled(jobs, seconds) if now - memory.ready_since >= seconds:
            return _in_vain(memory, jobs, "", now)
        case Lived(jobs) if jobs > 0:
            return replace(memory, vain=0, waits=0, quiet_until=-inf, vanity="")
    return memory


def _submitted(memory: Memory, jobs: int, now: float) -> Memory:
    if not jobs:
        return memory
    return replace(
        memory,
        tries=memory.tries + (now,) * jobs,
        present=memory.present + jobs,
        refusals=max(0, memory.refusals - 1),
    )


def _refused(memory: Memory, why: str, now: float) -> Memory:
    return replace(
        memory,
        tries=(*memory.tries, now),
        refusals=memory.refusals + 1,
        refused=now,
        ceiling=memory.present,
        refusal=why,
    )


def _in_vain(memory: Memory, jobs: int, why: str, now: float) -> Memory:
    """Count them; jobs that were there before a wait began do not prolong it."""
    if not jobs:
        return memory
    memory = replace(memory, vain=memory.vain + jobs, vanity=why)
    if not memory.out_of_order or now < memory.quiet_until:
        return memory
    waits = memory.waits + 1
    return replace(memory, waits=waits, quiet_until=now + _wait(waits))


def _wait(times: int) -> float:
    """Seconds to wait after something happened so many times in a row."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(times - 1, 10))


def _since(before: float, true: bool, now: float) -> float:
    return min(before, now) if true else inf
