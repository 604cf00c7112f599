"""Fleet: what the store keeps of launchers, their jobs, nodes, and what attempts cost.

Everything here may be lost without losing a fragment: it tells launchers and workers what to do
next, never what was computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import JsonValue

from qfarm.store.wish import Ahead, Wish
from qfarm_schemas.attempt import Worker
from qfarm_schemas.config import Stage


class Gate(StrEnum):
    """What the user wants of a partition."""

    OPEN = "open"
    PAUSED = "paused"  # nothing is submitted or claimed; jobs stay until they are idle for too long
    DRAINING = "draining"  # likewise, and the launcher ends when the last job has ended
    STOPPING = "stopping"  # jobs are ended at once, then the launcher

    @property
    def closed(self) -> bool:
        """Whether its workers claim nothing, so that others may take its stages."""
        return self is not Gate.OPEN


@dataclass(frozen=True)
class Standing:
    """How a partition stands.

    Attributes
    ----------
    name : str
        Partition.
    gate : Gate
        What the user wants.
    refused : str
        Why its scheduler takes no jobs at present; empty when it does. It is closed, then.
    launcher : Worker or None
        The process that last launched it.
    alive : bool
        Whether that launcher's lease has not ended.
    lost : bool
        Whether that launcher ended without giving the partition up: it was killed.
    lately : bool
        Whether a launcher has looked after it within the last day: its jobs may still pull.
    since : datetime or None
        When the gate was last moved (UTC).
    look : mapping
        What the launcher last saw and did, for people: jobs wanted, why, rates.
    looked : datetime or None
        When that was.
    """

    name: str
    gate: Gate = Gate.OPEN
    refused: str = ""
    launcher: Worker | None = None
    alive: bool = False
    lost: bool = False
    lately: bool = False
    since: datetime | None = None
    look: Mapping[str, JsonValue] = field(default_factory=dict)
    looked: datetime | None = None

    @property
    def closed(self) -> bool:
        """Whether others may take its stages."""
        return self.gate.closed or bool(self.refused)


class JobState(StrEnum):
    """State of a batch job of a launcher."""

    SUBMITTING = "submitting"  # noted before the scheduler is asked, so that none is ever lost
    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class JobNote:
    """A batch job.

    Attributes
    ----------
    name : str
        Unique; its name in the scheduler's queue, too.
    partition : str
        Whose it is.
    state : JobState
        As last known.
    scheduler_id : str
        Id that the scheduler gave; empty while that is not known.
    host : str
        First node, once it runs.
    slots : int
        Attempts at once.
    busy : int
        Slots at work when it last told.
    submitted, started, ends, ended, seen : datetime or None
        When it was submitted, when it began, when its walltime ends, when it ended, when it last
        gave a sign of life (UTC).
    why : str
        Why it ended; empty for the usual reasons.
    attempts : int
        Attempts that it committed.
    worked : bool
        Whether it has claimed anything that it attempts.
    drain : bool
        Whether it shall claim no more.
    """

    name: str
    partition: str
    state: JobState = JobState.SUBMITTING
    scheduler_id: str = ""
    host: str = ""
    slots: int = 1
    busy: int = 0
    submitted: datetime | None = None
    started: datetime | None = None
    ends: datetime | None = None
    ended: datetime | None = None
    seen: datetime | None = None
    why: str = ""
    attempts: int = 0
    worked: bool = False
    drain: bool = False

    @property
    def has_worked(self) -> bool:
        """Whether it did anything; attempts count at their end, which may be hours later."""
        return self.worked or self.attempts > 0


@dataclass(frozen=True)
class NodeNote:
    """A node that is left alone for a while.

    Attributes
    ----------
    host : str
        Its name.
    until : datetime
        When it is tried again (UTC).
    why : str
        What it failed in, in words.
    fragments : tuple of str
        Fragments that failed there and succeeded elsewhere; empty when a self-test failed.
    """

    host: str
    until: datetime
    why: str
    fragments: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeFailure:
    """A failure that a node may be to blame for.

    Attributes
    ----------
    host : str
        Where.
    key, fragment_id : str
        Which stage of which fragment.
    kind : str
        Value of its `FailureKind`.
    finished : datetime
        When (UTC).
    succeeded_on : str
        Host on which the stage was accepted later; empty while it was not.
    """

    host: str
    key: str
    fragment_id: str
    kind: str
    finished: datetime
    succeeded_on: str = ""


@dataclass(frozen=True)
class Demand:
    """What waits for a partition.

    Attributes
    ----------
    ready : int
        Ready stages that it may take, counted up to a limit.
    sample : tuple of Ahead
        The first of them, or some at random.
    running : int
        Attempts under way in it.
    """

    ready: int
    sample: tuple[Ahead, ...]
    running: int = 0


@dataclass(frozen=True)
class Sample:
    """What one accepted attempt cost.

    Attributes
    ----------
    partition, stage, level_id : str
        Where, and of what.
    formula : str
        Of the fragment, its elements in any order.
    n_atoms : int
        Of the fragment.
    wall_seconds, peak_memory_mb : float
        Of the engine.
    """

    partition: str
    stage: str
    level_id: str
    formula: str
    n_atoms: int
    wall_seconds: float
    peak_memory_mb: float


class Fleet(Protocol):
    """The part of the store that launchers and the jobs they start share."""

    def take(self, partition: str, launcher: Worker, seconds: float, free: bool = False) -> str:
        """Become the launcher of a partition; the token of the lease, empty if another lives.

        With `free` the launcher before is known to be dead, and its lease does not count.
        """

    def keep(
        self, partition: str, token: str, seconds: float, look: Mapping[str, JsonValue]
    ) -> Standing | None:
        """Prolong the lease and leave word; how the partition stands. None: another has it."""

    def leave(self, partition: str, token: str, gate: Gate | None = None) -> None:
        """Give up the lease; with `gate`, leave the partition in that state."""

    def ask(self, partition: str, gate: Gate) -> None:
        """What the user wants of a partition from now on."""

    def refuse(self, partition: str, why: str) -> None:
        """Say that its scheduler takes no jobs at present, or that it does again (empty)."""

    def standing(self, partition: str) -> Standing:
        """How a partition stands; one that nobody ever launched is open."""

    def standings(self) -> tuple[Standing, ...]:
        """All partitions that anybody launched or closed."""

    def note(self, job: JobNote) -> None:
        """Write what a launcher knows of a job; what the job itself tells is left alone."""

    def begin(self, job: JobNote) -> None:
        """Write what a job tells when it begins: it runs, where, under which id."""

    def beat(self, name: str, busy: int, attempts: int, worked: bool = False) -> bool:
        """Sign of life of a job; whether it may claim (False: it is to drain)."""

    def end(self, name: str, why: str = "") -> None:
        """A job has ended; the first reason that is given stays."""

    def drain(self, names: Sequence[str]) -> None:
        """Ask jobs to finish what they do and claim no more."""

    def jobs(self, partition: str, ended: bool = False) -> tuple[JobNote, ...]:
        """Jobs of a partition that have not ended, oldest first.

        With `ended` the last 100 of those that have, too.
        """

    def named(self, names: Sequence[str]) -> tuple[JobNote, ...]:
        """Jobs by name, of whichever partition, oldest first; those that there ever were."""

    def suspect(self, note: NodeNote) -> None:
        """Leave a node alone until a time; a later time stays."""

    def suspects(self, over: bool = False) -> tuple[NodeNote, ...]:
        """Nodes that are left alone now; with `over`, those that once were, too."""

    def clear(self, host: str) -> None:
        """Use a node again."""

    def node_failures(self, hours: float) -> tuple[NodeFailure, ...]:
        """Failures of the last hours that are paid from the node budget, oldest first."""

    def demand(
        self, partition: str, wish: Wish, limit: int, sample: int, spread: bool = False
    ) -> Demand:
        """What waits for a partition.

        With `spread` the sample is drawn at random from all that is counted: then they are read.
        """

    def levels(self) -> Mapping[str, str]:
        """Id -> engine of every level of theory in the queue's stages."""

    def stages(self) -> tuple[Stage, ...]:
        """Every kind of stage that was ever put into the queue."""

    def samples(self, size: int) -> tuple[Sample, ...]:
        """What accepted attempts cost, drawn at random."""

    def keep_costs(self, document: Mapping[str, JsonValue]) -> None:
        """Keep what was learnt of costs, for workers."""

    def costs(self) -> Mapping[str, JsonValue]:
        """What was last kept of costs; empty where nothing was."""
