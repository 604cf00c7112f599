"""What is known when jobs are counted: the partition's limits, its queue, its jobs. Pure."""

from dataclasses import dataclass
from math import inf
from typing import Final, Self

from qfarm.store.fleet import Gate
from qfarm_schemas.config import Partition

HORIZON: Final = 600.0
"""s: what existing jobs finish within it asks for no new one.

A job waits for a node, imports, tests its engines and at its end idles for a while: minutes in
which it computes nothing. It must have work for several times as long to be worth them.
"""


@dataclass(frozen=True)
class Limits:
    """What bounds the jobs of a partition.

    Attributes
    ----------
    slots : int
        Attempts at once in one job.
    max_jobs : int
        Jobs at once, pending ones included.
    submit_per_minute : float
        Submissions in any 60 s; below 1, that many in each longer time that holds a whole one.
    life : float
        Seconds in which a new job can run attempts; infinity without a walltime.
    """

    slots: int = 1
    max_jobs: int = 10
    submit_per_minute: float = 20.0
    life: float = inf

    @classmethod
    def of(cls, partition: Partition, life: float = inf) -> Self:
        """Limits of a configured partition; its walltime counts unless `life` is shorter."""
        return cls(
            partition.slots,
            partition.max_jobs,
            partition.submit_per_minute,
            min(life, inf if partition.walltime is None else partition.walltime),
        )

    @property
    def horizon(self) -> float:
        """Seconds of work that are worth a slot: `HORIZON`, or half a life if that is shorter."""
        return min(HORIZON, self.life / 2)

    @property
    def window(self) -> tuple[int, float]:
        """At most how many submissions, in any how many seconds."""
        rate = self.submit_per_minute
        return (int(rate), 60.0) if rate >= 1 else (1, 60.0 / rate)


@dataclass(frozen=True)
class Cost:
    """What a stage will likely cost.

    Attributes
    ----------
    seconds : float
        As expected, s.
    at_most : float
        Bound by which a worker judges whether it fits into its remaining time, s; infinity where
        no worker of the partition takes it.
    """

    seconds: float
    at_most: float


@dataclass(frozen=True)
class Job:
    """A job that runs.

    Attributes
    ----------
    slots : int
        Attempts at once.
    age : float
        Seconds since it began.
    left : float
        Seconds until its attempts must have ended; 0 if it claims no more, infinity without end.
    under_way : tuple of float
        For each of its attempts, the seconds that it will likely still take (see `still`).
    """

    slots: int
    age: float
    left: float = inf
    under_way: tuple[float, ...] = ()

    @property
    def idle(self) -> int:
        """Slots without an attempt."""
        return max(0, self.slots - len(self.under_way))


@dataclass(frozen=True)
class Situation:
    """A partition as it is now.

    Attributes
    ----------
    now : float
        Monotonic clock, s.
    ready : int
        Stages that it may take, counted up to a limit.
    sample : tuple of Cost
        What the first of them cost; the others are taken to be like them.
    jobs : tuple of Job
        Those that run.
    pending : tuple of float
        For each job that waits in the scheduler's queue, the seconds since it was submitted.
    gate : Gate
        What the user wants.
    """

    now: float
    ready: int
    sample: tuple[Cost, ...] = ()
    jobs: tuple[Job, ...] = ()
    pending: tuple[float, ...] = ()
    gate: Gate = Gate.OPEN

    @property
    def present(self) -> int:
        """Jobs that run or are pending."""
        return len(self.jobs) + len(self.pending)

    @property
    def idle(self) -> int:
        """Slots of running jobs without an attempt."""
        return sum(job.idle for job in self.jobs)

    @property
    def works(self) -> bool:
        """Whether any attempt is under way."""
        return any(job.under_way for job in self.jobs)


def still(expected: float, age: float) -> float:
    """Seconds that an attempt will likely still take.

    Parameters
    ----------
    expected : float
        What was thought when it began, s.
    age : float
        How long it has been under way, s. Once it outlasts what was expected, nothing is known but
        that costs have a long tail: it will take as long again.

    Examples
    --------
    >>> still(100.0, 30.0), still(100.0, 250.0)
    (70.0, 250.0)
    """
    return expected - age if age < expected else age
