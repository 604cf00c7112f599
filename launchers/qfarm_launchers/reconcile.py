"""Reconcile: what the database knows of a partition's jobs, against what its scheduler says. Pure.

The scheduler is right about which jobs there are; the database about which of them are ours. A job
is noted before it is submitted, under a name that only it has, so a launcher that is killed in
between leaves nothing that its successor cannot find.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from qfarm.store.fleet import JobNote, JobState
from qfarm_launchers.schedulers.base import Queued

LOST_AFTER: Final = timedelta(seconds=120)
"""A job that was noted, but is unknown to its scheduler for so long, was never submitted."""

LINGERS: Final = timedelta(seconds=20)
"""So long a job may be in nobody's queue: schedulers take a moment to list what they took, and a
job that ends tells so itself."""


@dataclass(frozen=True)
class Changes:
    """What follows from a look at the scheduler's queue.

    Attributes
    ----------
    known : tuple of JobNote
        Jobs whose note must change: an id was found, or a state.
    gone : tuple of JobNote
        Jobs that the scheduler has no more.
    present : tuple of JobNote
        All jobs that there are, as they are now.
    """

    known: tuple[JobNote, ...] = ()
    gone: tuple[JobNote, ...] = ()
    present: tuple[JobNote, ...] = ()


def reconcile(notes: Sequence[JobNote], queue: Mapping[str, Queued], now: datetime) -> Changes:
    """Compare.

    Parameters
    ----------
    notes : sequence of JobNote
        Jobs of the partition that have not ended, as far as the database knows.
    queue : mapping
        Id -> what the scheduler says; all jobs of this user, those of others' farms too.
    now : datetime
        Time of the look at the queue, by the clock that the notes' times are of.
    """
    by_name = {queued.name: queued for queued in queue.values()}
    known: list[JobNote] = []
    gone: list[JobNote] = []
    present: list[JobNote] = []
    for note in notes:
        queued = _of(note, queue.get(note.scheduler_id)) or by_name.get(note.name)
        if queued is None:
            (gone if _over(note, now) else present).append(note)
            continue
        seen = _seen(note, queued)
        present.append(seen)
        if seen != note:
            known.append(seen)
    return Changes(tuple(known), tuple(gone), tuple(present))


def _of(note: JobNote, queued: Queued | None) -> Queued | None:
    """What has the id of a job, if it is that job.

    Schedulers give an id again, some after a year, all when they are installed anew; and it would
    be somebody else's job that is cancelled. A name may have been cut short.
    """
    ours = queued is not None and note.name.startswith(queued.name)
    return queued if ours else None


def _over(note: JobNote, now: datetime) -> bool:
    """Whether a job that the scheduler does not list has ended, or was never there."""
    signs = [time for time in (note.submitted, note.started, note.seen) if time is not None]
    patience = LINGERS if note.scheduler_id else LOST_AFTER
    return not signs or now - max(signs) > patience


def _seen(note: JobNote, queued: Queued) -> JobNote:
    """The note with what the scheduler says; that a job runs, it says itself."""
    state = note.state
    if state is JobState.SUBMITTING:
        state = JobState.PENDING
    return replace(note, scheduler_id=queued.id, state=state)
