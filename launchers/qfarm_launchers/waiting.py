"""Waiting: why jobs wait in a scheduler's queue, in its own words. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from qfarm.store.fleet import JobNote, JobState
from qfarm_launchers.schedulers.base import Queued, QueueState, first_line

PATIENCE: Final = 600.0
"""s: for so long a job may be held, suspended or in error; then somebody has to look at it."""

UNSAID: Final = "held, suspended or in error"
"""Stands in where the scheduler gives no reason."""


def why_pending(present: Iterable[JobNote], queue: Mapping[str, Queued]) -> str:
    """Why jobs do not begin, as ``3 pending (Priority)``; empty where the scheduler says nothing.

    Parameters
    ----------
    present : iterable of JobNote
        The partition's jobs.
    queue : mapping
        Id -> what the scheduler says; of the reasons, the commonest is told.
    """
    waiting = [note for note in present if note.state is not JobState.RUNNING]
    found = (queue.get(note.scheduler_id) for note in waiting)
    said = Counter(filter(None, (_reason(job) for job in found if job is not None)))
    return f"{len(waiting)} pending ({said.most_common(1)[0][0]})" if said else ""


def _reason(job: Queued) -> str:
    if job.state in (QueueState.RUNNING, QueueState.ENDING):
        return ""  # its note only lags
    return first_line(job.reason) or (UNSAID if job.state is QueueState.OTHER else "")


@dataclass
class Stuck:
    """Jobs that will not go on by themselves; each is told once.

    Attributes
    ----------
    since : dict
        Name -> when it was first seen so, s.
    told : set of str
        Names of those that were told.
    """

    since: dict[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def look(
        self, present: Iterable[JobNote], queue: Mapping[str, Queued], now: float
    ) -> tuple[tuple[str, str], ...]:
        """Name and reason of each job that is stuck for `PATIENCE` now; `now` in s."""
        stuck = dict(_stuck(present, queue))
        self.since = {name: self.since.get(name, now) for name in stuck}
        self.told &= stuck.keys()
        long = [name for name, since in self.since.items() if now - since > PATIENCE]
        fresh = [name for name in long if name not in self.told]
        self.told.update(fresh)
        return tuple((name, stuck[name]) for name in fresh)


def _stuck(present: Iterable[JobNote], queue: Mapping[str, Queued]) -> Iterator[tuple[str, str]]:
    for note in present:
        job = queue.get(note.scheduler_id)
        if job is not None and job.state is QueueState.OTHER:
            yield note.name, _reason(job)
