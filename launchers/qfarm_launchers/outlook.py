"""Outlook: how a partition stands, put together for the decision on its jobs. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Final

from qfarm.store.fleet import Demand, JobNote, JobState, NodeFailure
from qfarm.store.protocol import Running
from qfarm_launchers.learning import costs
from qfarm_launchers.scaling import Died, Event, Idled, Lived, still
from qfarm_launchers.scaling.situation import Cost, Job
from qfarm_schemas.config import Partition
from qfarm_workers.appraisal import Appraisal, Foresight
from qfarm_workers.lifetime import Lifetime, hand_back

EARLY_SECONDS: Final = 60.0
"""s: a job that ends sooner, without an attempt and for a reason, has ended in vain."""

UNKNOWN: Final = "it left no word: see its log (`qfarm launcher logs --job`)"


@dataclass(frozen=True)
class Outlook:
    """What the scaling function is told of a partition's jobs and queue.

    Attributes
    ----------
    sample : tuple of Cost
        Of the first ready stages.
    jobs : tuple of Job
        Those that run.
    pending : tuple of float
        Seconds since each of the others was submitted.
    """

    sample: tuple[Cost, ...]
    jobs: tuple[Job, ...]
    pending: tuple[float, ...]


def outlook(
    demand: Demand,
    notes: Sequence[JobNote],
    running: Iterable[Running],
    foresight: Foresight,
    partition: Partition,
    now: datetime,
    life: float = inf,
    closed: frozenset[str] = frozenset(),
) -> Outlook:
    """Put it together.

    Parameters
    ----------
    demand : Demand
        What waits for the partition.
    notes : sequence of JobNote
        Its jobs that there are.
    running : iterable of Running
        Attempts under way, also those of other partitions.
    foresight : Foresight
        What stages cost.
    partition : Partition
        It.
    now : datetime
        By the database's clock, as all times in notes are.
    life : float
        Seconds in which a new job can run attempts; infinity without a walltime.
    closed : frozenset of str
        Partitions to which nothing is left, as for `Appraisal`.
    """
    by_job: dict[str, list[float]] = {}
    for attempt in running:
        rest = _rest(attempt, foresight, partition, now)
        by_job.setdefault(attempt.worker.job, []).append(rest)
    at_work = [note for note in notes if note.state is JobState.RUNNING]
    return Outlook(
        sample=_sample(demand, foresight, partition, life, closed),
        jobs=tuple(_job(note, by_job.get(note.name, ()), now) for note in at_work),
        pending=tuple(
            seconds(note.submitted, now) for note in notes if note.state is not JobState.RUNNING
        ),
    )


def events(
    before: Mapping[str, JobNote], after: Mapping[str, JobNote], ours: Iterable[str]
) -> tuple[Event, ...]:
    """What happened to jobs between two looks.

    Parameters
    ----------
    before, after : mapping
        Notes by name; `after` has those that have ended meanwhile, too.
    ours : iterable of str
        Jobs that were cancelled on purpose.
    """
    on_purpose = frozenset(ours)
    found = (
        _event(before.get(name), note) for name, note in after.items() if name not in on_purpose
    )
    return tuple(event for event in found if event is not None)


def _event(before: JobNote | None, note: JobNote) -> Event | None:
    if note.has_worked:
        return None if before is not None and before.has_worked else Lived()
    if note.ended is None or (before is not None and before.ended is not None):
        return None
    if note.started is None:
        return Died(1, note.why or UNKNOWN)
    lived = seconds(note.started, note.ended)
    if note.why and lived < EARLY_SECONDS:
        return Died(1, note.why)
    return Idled(1, lived)


def accepted(
    notes: Iterable[JobNote],
    failures: Iterable[NodeFailure],
    now: datetime,
    host: str,
    since: datetime,
) -> int:
    """About how many attempts went well on a node since a time.

    Jobs count their attempts from beginning to end. Since then they made as many as if these were
    spread evenly over their lives; and as many went well for each failure as in all their lives.
    The smaller number counts: a job that failed everything and then had nothing to do has done
    nothing well meanwhile, and one that went well for hours may go ill now.
    """
    mine = [note for note in notes if note.host == host and note.started is not None]
    begun = min((note.started for note in mine if note.started), default=now)
    times = [one.finished for one in failures if one.host == host]
    failed, lately = (sum(time >= first for time in times) for first in (begun, since))
    even = sum(_since(note, since, now) for note in mine) - lately
    made = sum(note.attempts for note in mine)
    alike = lately * (made - failed) / failed if failed else even
    return max(0, round(min(even, alike)))


def _since(note: JobNote, since: datetime, now: datetime) -> float:
    end = note.ended or now
    if note.started is None or end <= since:
        return 0.0
    life = max(1e-3, (end - note.started).total_seconds())
    return note.attempts * min(1.0, (end - since).total_seconds() / life)


def seconds(since: datetime | None, now: datetime) -> float:
    """Seconds since a time; 0 where it is not known."""
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _sample(
    demand: Demand,
    foresight: Foresight,
    partition: Partition,
    life: float,
    closed: frozenset[str],
) -> tuple[Cost, ...]:
    """What stages cost as workers judge them.

    What no worker has the time for, a fresh one takes; what is left to another partition, none.
    """
    at_its_best = Appraisal(foresight, partition, Lifetime(), closed)
    found = zip(demand.sample, costs(demand, foresight, partition), strict=True)
    return tuple(
        Cost(cost.seconds, min(cost.at_most, life) if at_its_best.fits(ahead) else inf)
        for ahead, cost in found
    )


def _job(note: JobNote, under_way: Sequence[float], now: datetime) -> Job:
    return Job(note.slots, seconds(note.started, now), _left(note, now), tuple(under_way))


def _left(note: JobNote, now: datetime) -> float:
    """Seconds until the attempts of a job must have ended."""
    if note.drain:
        return 0.0
    if note.ends is None:
        return inf
    whole = (note.ends - (note.started or now)).total_seconds()
    return max(0.0, (note.ends - now).total_seconds() - hand_back(max(0.0, whole)))


def _rest(attempt: Running, foresight: Foresight, partition: Partition, now: datetime) -> float:
    age = seconds(attempt.claimed, now)
    if attempt.ahead is None:
        return age
    return still(foresight.cost(attempt.ahead, partition).seconds, age)
