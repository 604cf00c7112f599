"""Lifetime: how long a worker and its attempts may take, and when they are asked to end. Pure."""

from dataclasses import dataclass, replace
from hashlib import sha256
from math import inf
from typing import Final

from qfarm_workers.process import LOOK_SECONDS, Limits, SoftStop

SHARE: Final = 0.1
"""Part of a time limit that a program asked to stop in order gets for doing so."""

LONGEST_MARGIN: Final = 1800.0
"""s: of that part; an SCF iteration or a geometry step of a large fragment is shorter."""

SHORTEST_MARGIN: Final = 4 * LOOK_SECONDS
"""s: of that part; time is looked at now and then only."""

LONGEST_HAND_BACK: Final = 120.0
"""s: what is kept free at a worker's end to parse, to save restart files and to commit."""

LEAST: Final = 600.0
"""s: a worker with less time left claims nothing, unless its whole life is short."""

LEAST_SHARE: Final = 0.2
"""Part of a short life that must be left for a claim."""

JOB_SHARE: Final = 0.02
LONGEST_JOB_MARGIN: Final = 60.0
"""Part of a job's walltime, and s at most, that are left to the scheduler: its clock has a grain,
and it began to count before the job's own process began."""

STAGGER_SHARE: Final = 0.05
LONGEST_STAGGER: Final = 600.0
"""Part of a job's walltime, and s at most, by which jobs end before it, each by another one."""

STAGGERED: Final = 600.0
"""s: shorter walltimes are not staggered; they have no time to spare."""

FRESH: Final = 0.9
"""Part of a life that must be left for an attempt to have had as much time as it can get."""


@dataclass(frozen=True)
class Lifetime:
    """The time for which a worker may count on its place of execution.

    Attributes
    ----------
    seconds : float
        How long; infinity where nothing ends it.
    began : float
        When, by the monotonic clock, s.
    spent : float
        Of it, the seconds that had passed before anything could be claimed.
    """

    seconds: float = inf
    began: float = 0.0
    spent: float = 0.0

    def left(self, now: float) -> float:
        """Seconds until the engine must have ended, so that there is time to hand back."""
        return self.began + self.seconds - hand_back(self.seconds) - now

    def worth_a_claim(self, now: float, least: float | None = None) -> bool:
        """Whether enough time is left to begin another attempt.

        Parameters
        ----------
        now : float
            By the monotonic clock, s.
        least : float or None
            What the cheapest stage takes, s; None: nobody knows.
        """
        if self.seconds == inf:
            return True
        if least is None:
            return self.left(now) >= min(LEAST, LEAST_SHARE * self.seconds)
        return self.fresh(now) or self.left(now) >= least

    def fresh(self, now: float) -> bool:
        """Whether an attempt that begins now gets about as much time as any worker can give."""
        return self.left(now) >= FRESH * self.left(self.began + self.spent)

    def ending(self, now: float) -> bool:
        """Whether no more is left than what an attempt gets to stop in order."""
        return self.left(now) <= margin(self.left(self.began + self.spent))

    def prepared(self, now: float) -> "Lifetime":
        """The same life, whose first claim can be made now: no other begins earlier."""
        return replace(self, spent=now - self.began)


def lifetime(walltime: float | None, now: float) -> Lifetime:
    """Lifetime of a worker that begins now, on a partition with this walltime."""
    return Lifetime() if walltime is None else Lifetime(walltime, now)


def job_lifetime(
    walltime: float | None,
    began: float,
    now: float,
    end_time: float | None = None,
    *,
    stagger_key: str,
    monotonic: float,
) -> Lifetime:
    """Lifetime of the slots of a batch job.

    Parameters
    ----------
    walltime : float or None
        Of the partition, s; None: no end.
    began, now : float
        When the job began and what time it is now, by the clock of the day, s.
    end_time : float or None
        When the scheduler says that it ends the job, by the same clock; the earlier end counts.
    stagger_key : str
        The job's name. Jobs of other names end at other times within `stagger`, so that those that
        began together do not all end and begin anew at once.
    monotonic : float
        What the monotonic clock shows now, s.
    """
    ends = [end for end in (walltime and began + walltime, end_time) if end is not None]
    if not ends:
        return Lifetime()
    whole = max(0.0, min(ends) - began)
    seconds = whole - min(LONGEST_JOB_MARGIN, JOB_SHARE * whole) - stagger(whole, stagger_key)
    return Lifetime(seconds, monotonic - (now - began))


def stagger(seconds: float, key: str) -> float:
    """Seconds by which the job `key` ends before its walltime of `seconds`; always the same."""
    if seconds < STAGGERED:
        return 0.0
    part = int.from_bytes(sha256(key.encode()).digest()[:4]) / 2**32
    return part * min(LONGEST_STAGGER, STAGGER_SHARE * seconds)


def hand_back(seconds: float) -> float:
    """Seconds kept free at the end of a life of `seconds`."""
    return min(LONGEST_HAND_BACK, SHARE * seconds)


def margin(seconds: float) -> float:
    """Seconds before a limit of `seconds` at which a program is asked to stop in order.

    Never more than half of the limit.
    """
    wanted = min(LONGEST_MARGIN, max(SHORTEST_MARGIN, SHARE * seconds))
    return min(wanted, seconds / 2)


def limits(time_limit: float, left: float, memory_mb: float, soft_stop: str | None) -> Limits:
    """Limits of an attempt.

    Parameters
    ----------
    time_limit : float
        The stage's own, s.
    left : float
        Of the worker's lifetime, s.
    memory_mb : float
        MB.
    soft_stop : str or None
        Name of the file that makes the program stop in order.
    """
    seconds = max(0.0, min(time_limit, left))
    ask = SoftStop(soft_stop, seconds - margin(seconds)) if soft_stop else None
    return Limits(seconds, memory_mb, ask, walltime=left < time_limit)
