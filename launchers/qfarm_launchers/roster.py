"""Roster: the batch jobs of a partition, those that there are and those that have ended."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from qfarm.errors import UserError
from qfarm.store.fleet import Fleet, JobNote, JobState
from qfarm_launchers.commands import SchedulerAway
from qfarm_launchers.outlook import events
from qfarm_launchers.reconcile import reconcile
from qfarm_launchers.scaling import Event
from qfarm_launchers.schedulers.base import Ending, JobOrder, Queued
from qfarm_launchers.waiting import Stuck, why_pending
from qfarm_schemas.attempt import Worker
from qfarm_schemas.config import Partition

QUEUE_SECONDS: Final = 10.0
"""s: between two looks at the scheduler's queue, which others use, too."""

AVAILABLE_SECONDS: Final = 60.0
"""s: between two questions whether the scheduler takes jobs at all."""

UNKNOWN_SECONDS: Final = 60.0
"""s: after which the scheduler is asked again how a job ended, of which it did not say so."""

REMEMBERED: Final = 1_000
"""Ended jobs that are kept in mind, for what their workers have left."""


class Batch(Protocol):
    """What is asked of a scheduler; see `qfarm_launchers.batch.BatchSystem`."""

    def submit(self, order: JobOrder) -> str:
        """Submit a job; its id."""

    def cancel(self, ids: Iterable[str]) -> None:
        """End jobs."""

    def queue(self) -> dict[str, Queued]:
        """Jobs that have not ended, by id."""

    def ending(self, job_id: str) -> Ending | None:
        """How a job ended."""

    def available(self) -> str:
        """Why it takes no jobs; empty when it does."""


@dataclass
class Roster:
    """The jobs of a partition.

    Attributes
    ----------
    partition : Partition
        Whose they are.
    fleet : Fleet
        Where they are noted.
    batch : Batch
        Their scheduler.
    log : FilteringBoundLogger
        Gets what happens to them.
    present : tuple of JobNote
        Jobs that there are.
    ended : dict
        Name -> note of those that have ended.
    unavailable : str
        Why the scheduler takes no jobs; empty when it does.
    """

    partition: Partition
    fleet: Fleet
    batch: Batch
    log: FilteringBoundLogger
    present: tuple[JobNote, ...] = ()
    ended: dict[str, JobNote] = field(default_factory=dict)
    unavailable: str = ""
    _on_purpose: set[str] = field(default_factory=set)
    _endings: dict[str, Ending] = field(default_factory=dict)
    _unknown: dict[str, float] = field(default_factory=dict)
    _endings_at: float = 0.0
    _queue: Mapping[str, Queued] = field(default_factory=dict)
    _queue_at: float = 0.0
    _available_at: float = 0.0
    _stuck: Stuck = field(default_factory=Stuck)

    @property
    def known(self) -> tuple[JobNote, ...]:
        """Jobs that there are, and those lately ended."""
        return (*self.present, *self.ended.values())

    @property
    def why_pending(self) -> str:
        """Why jobs do not begin, as far as the last look at the queue saw; may be empty."""
        return why_pending(self.present, self._queue)

    def begin(self) -> None:
        """Take over what launchers before have left."""
        notes = self.fleet.jobs(self.partition.name, ended=True)
        self.ended = {note.name: note for note in notes if note.ended is not None}
        self.present = tuple(note for note in notes if note.ended is None)
        if self.present:
            self.log.info("adopted", partition=self.partition.name, jobs=len(self.present))

    def look(self, now: datetime) -> tuple[Event, ...]:
        """Look at the scheduler's queue, and at what jobs have told; what happened since.

        Parameters
        ----------
        now : datetime
            By the database's clock, as all times in notes are.

        Raises
        ------
        SchedulerAway
            Nothing is known of the jobs at present.
        """
        self._ask()
        before = {note.name: note for note in self.present}
        notes = self.fleet.jobs(self.partition.name)
        changes = reconcile(notes, self._queue, now)
        for note in changes.known:
            self.fleet.note(note)
        for note in changes.gone:
            self.fleet.end(note.name, self._why_gone(note))
        self.present = changes.present
        self._tell_stuck()
        after = {note.name: note for note in changes.present}
        for name in after.keys() & self.ended.keys():  # its scheduler runs it once more
            del self.ended[name]
            self._endings.pop(name, None)
        after |= self._over(before.keys() - after.keys())
        happened = events(before, after, self._on_purpose)
        self._forget(after.keys() | self.ended.keys())
        return happened

    def submit(self, order: JobOrder) -> None:
        """Submit a job; it is noted before.

        Raises
        ------
        Refused, SchedulerAway
            See `Batch.submit`. A scheduler that gave no answer may have the job: it counts, until
            `reconcile` finds it or gives it up.
        """
        note = JobNote(order.name, self.partition.name, slots=self.partition.slots)
        self.fleet.note(note)
        try:
            identity = self.batch.submit(order)
        except SchedulerAway:
            self.present += (replace(note, submitted=datetime.now(UTC)),)
            raise
        except UserError as error:
            self.fleet.end(order.name, f"not submitted: {error.what}")
            raise
        noted = replace(note, state=JobState.PENDING, scheduler_id=identity)
        self.fleet.note(noted)
        self.present += (replace(noted, submitted=datetime.now(UTC)),)
        self.log.info("submitted", job=order.name, id=identity, partition=self.partition.name)

    def cancel(self, notes: Sequence[JobNote], why: str) -> None:
        """End jobs on purpose."""
        if not notes:
            return
        self._on_purpose.update(note.name for note in notes)
        self.batch.cancel([note.scheduler_id for note in notes if note.scheduler_id])
        waiting = [note for note in notes if note.state is not JobState.RUNNING]
        for note in waiting:  # those that run tell themselves when they have ended
            self.fleet.end(note.name, why)
        self.present = tuple(note for note in self.present if note not in waiting)
        self._queue_at = 0.0
        names = [note.name for note in notes]
        self.log.info("cancelled", partition=self.partition.name, jobs=names, why=why)

    def lost(self, worker: Worker) -> bool:
        """Whether a worker's job is known to have ended."""
        return worker.partition == self.partition.name and worker.job in self.ended

    def ending_of(self, worker: Worker) -> Ending | None:
        """How a worker's job ended, as its scheduler says; None: not known."""
        note = self.ended.get(worker.job)
        if note is None or not note.scheduler_id:
            return None
        if note.name not in self._endings and time.monotonic() >= self._ask_again(note.name):
            self._ask_ending(note)
        return self._endings.get(note.name)

    def _ask_again(self, name: str) -> float:
        """When the scheduler may be asked how a job ended: each question may take half a minute."""
        return max(self._endings_at, self._unknown.get(name, 0.0))

    def _ask_ending(self, note: JobNote) -> None:
        again = time.monotonic() + UNKNOWN_SECONDS
        try:
            found = self.batch.ending(note.scheduler_id)
        except UserError:
            self._endings_at = again
            return
        if found is None:
            self._unknown[note.name] = again
        else:
            self._endings[note.name] = found

    def _forget(self, known: Collection[str]) -> None:
        """Keep of jobs no more than is asked for: launchers go on for months."""
        self._on_purpose.intersection_update(known)
        for kept in (self._endings, self._unknown):
            for name in kept.keys() - known:
                del kept[name]

    def _ask(self) -> None:
        now = time.monotonic()
        if now >= self._queue_at:
            self._queue = self.batch.queue()
            self._queue_at = now + QUEUE_SECONDS
        if now >= self._available_at:
            self.unavailable = self.batch.available()
            self._available_at = now + AVAILABLE_SECONDS

    def _tell_stuck(self) -> None:
        """Warn of jobs that will not go on by themselves."""
        for name, why in self._stuck.look(self.present, self._queue, time.monotonic()):
            self.log.warning(
                "stuck", job=name, why=why, then="release or end it by the scheduler's command"
            )

    def _why_gone(self, note: JobNote) -> str:
        """Why the scheduler has a job no more that has not told its end."""
        if note.name in self._on_purpose:
            return "cancelled by the launcher"
        if not note.scheduler_id:
            return "it was never submitted, or is unknown to its scheduler"
        self._ask_ending(note)
        ending = self._endings.get(note.name)
        if ending is None:
            return "its scheduler has it no more"
        return f"its scheduler says: {ending.state} {ending.text}".strip()

    def _over(self, names: Iterable[str]) -> dict[str, JobNote]:
        """Notes of jobs that are there no more."""
        missing = frozenset(names)
        if not missing:
            return {}
        found = {note.name: note for note in self.fleet.named(sorted(missing)) if note.ended}
        for note in found.values():
            self.log.info("ended", job=note.name, why=note.why, attempts=note.attempts)
        self.ended |= found
        for name in list(self.ended)[:-REMEMBERED]:
            del self.ended[name]
        return found
