"""What a store promises. The line above it, and every test of it, knows only this."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from qfarm.ladder import Decision
from qfarm.plan import Plan
from qfarm.store.fleet import Fleet
from qfarm.store.wish import ANYTHING, Ahead, Wish
from qfarm_schemas.attempt import Attempt, Rung, Worker
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Record


class StageState(StrEnum):
    """State of one stage of one fragment, in the user's words."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Added:
    """What a submission changed.

    Attributes
    ----------
    new : int
        Workflows written.
    known : int
        Workflows that were there already.
    updated : int
        Those of the known ones whose stages got other limits, budgets or partitions.
    """

    new: int
    known: int
    updated: int = 0


@dataclass(frozen=True)
class Claim:
    """The right to make one attempt, until the lease ends.

    Attributes
    ----------
    key, workflow : str
        Stage key and workflow key.
    submitted : Fragment
        The fragment as submitted.
    start : Fragment
        Geometry to start from: the submitted one, or the one the stage before accepted.
    stage : Stage
        What to do.
    history : tuple of Attempt
        Attempts that count for the ladder, oldest first (those before `qfarm retry` do not).
    number : int
        Number of this attempt.
    token : str
        Fencing token: a commit under any other token is refused.
    worker : Worker
        Who holds the claim.
    claimed : datetime
        When the attempt was claimed, by the database's clock (UTC).
    taken_from : Worker or None
        Who made the attempt and was lost, when `Store.take_over` gave the claim.
    """

    key: str
    workflow: str
    submitted: Fragment
    start: Fragment
    stage: Stage
    history: tuple[Attempt, ...]
    number: int
    token: str
    worker: Worker
    claimed: datetime
    taken_from: Worker | None = None


class Ended(NamedTuple):
    """An attempt that was made, and what follows from it; `record` goes with Done."""

    claim: Claim
    attempt: Attempt
    decision: Decision
    record: Record | None = None


@dataclass(frozen=True)
class Refusal:
    """A queue entry that is not qfarm's own task; it was taken out and never run."""

    fw_id: int
    reason: str
    at: datetime


@dataclass(frozen=True)
class Selection:
    """Which fragments; every condition that is given must hold.

    Attributes
    ----------
    fragment_ids : tuple of str
        Full ids; empty: all.
    state : StageState or None
        Some stage is in this state. `Store.rows` and `Store.records` give the other stages of the
        workflow too; `Store.retry` and `Store.cancel` change only stages in this state.
    fragment_class, tag : str or None
        As submitted.
    stage, level_id : str or None
        Only stages of this name, or planned at this level.
    limit : int or None
        At most so many workflows.
    """

    fragment_ids: tuple[str, ...] = ()
    state: StageState | None = None
    fragment_class: str | None = None
    tag: str | None = None
    stage: str | None = None
    level_id: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class StageCount:
    """Number of stages of one name in one state."""

    stage: str
    state: StageState
    count: int


@dataclass(frozen=True)
class Need:
    """What stages that wait, run or failed need of an engine.

    Attributes
    ----------
    level : LevelOfTheory
        The level of the stages.
    task : TaskKind
        What they do.
    partition : str or None
        Where they must run; None: anywhere.
    elements : frozenset of frozenset of int
        Atomic numbers that occur together in a fragment, each combination once.
    stages : int
        How many stages there are.
    """

    level: LevelOfTheory
    task: TaskKind
    partition: str | None
    elements: frozenset[frozenset[int]]
    stages: int


@dataclass(frozen=True)
class Row:
    """One stage of one workflow, for lists.

    `position` counts the stages of the workflow from 0. `reason` and `remedy` say why a failed
    stage failed, and what to do.
    """

    fragment_id: str
    fragment_class: str
    formula: str
    n_atoms: int
    tags: tuple[str, ...]
    workflow: str
    key: str
    stage: str
    position: int
    level_id: str
    state: StageState
    attempts: int
    updated: datetime
    source: str = ""
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Running:
    """An attempt under way; `ahead` is what was seen of its stage before it was claimed."""

    fragment_id: str
    key: str
    stage: str
    number: int
    rung: Rung | None
    worker: Worker
    claimed: datetime
    lease_ends: datetime
    ahead: Ahead | None = None


@dataclass(frozen=True)
class View:
    """All that the store knows of one fragment."""

    fragment: Fragment
    rows: tuple[Row, ...]
    stages: dict[str, Stage] = field(default_factory=dict)  # by stage key
    attempts: dict[str, tuple[Attempt, ...]] = field(default_factory=dict)  # by stage key
    records: dict[str, Record] = field(default_factory=dict)  # by stage key


class Store(Protocol):
    """The job database. Every write is idempotent and safe to cut off at any instruction."""

    def add(self, plans: Sequence[Plan], priority: int = 0) -> Added:
        """Write workflows.

        When a plan's workflow key is known, the stages of it that are not done get the plan's
        limits, budgets and partitions, and nothing else changes: a failed stage stays failed
        until `retry`, whose attempts keep to the new limits.
        """

    def known(self, workflow_keys: Sequence[str]) -> frozenset[str]:
        """Those of the keys that are in the store."""

    @property
    def fleet(self) -> Fleet:
        """What launchers and the jobs they start share."""

    def claim(
        self, worker: Worker, lease_seconds: float, wish: Wish = ANYTHING
    ) -> Claim | Refusal | None:
        """Take the next ready stage by priority, then age; None when none is ready as wished.

        Only stages of the worker's partition, or of none, are taken, unless the wish says
        otherwise. A queue entry that is not qfarm's own task is taken out of the queue, recorded
        and returned as Refusal; a wish for certain stages or levels does not meet it.
        """

    def claim_many(
        self, worker: Worker, lease_seconds: float, limit: int, wish: Wish = ANYTHING
    ) -> tuple[Claim | Refusal, ...]:
        """Take up to `limit` stages, as `claim` would one after the other, in fewer round trips.

        Empty when nothing is ready. Of several workers that ask at once one may get less than
        there is.
        """

    def heartbeat(self, claim: Claim, lease_seconds: float, rung: Rung | None = None) -> bool:
        """Prolong the lease; False when it is lost or the stage was cancelled: stop working."""

    def commit(
        self, claim: Claim, attempt: Attempt, decision: Decision, record: Record | None = None
    ) -> None:
        """Write an attempt and what follows from it, all or nothing.

        Done needs `record` and releases the next stage; Retry makes the stage ready again; GiveUp
        fails it with the reason and stops its children. Committing the same attempt again
        changes nothing.

        Raises
        ------
        LeaseLostError
            The claim's token is no longer the valid one; nothing was written.
        """

    def commit_many(self, ended: Sequence[Ended]) -> tuple[bool, ...]:
        """Write attempts as `commit` does, together: all of them, or none.

        Returns
        -------
        tuple of bool
            For each whether it is in the store; False where the claim's token is no longer the
            valid one.
        """

    def release(self, claims: Sequence[Claim]) -> None:
        """Give back claims whose attempt was not begun: the stages are ready again, nothing counts.

        Those whose token is no longer the valid one are left alone.
        """

    def take_over(
        self, gone: Callable[[Worker], bool], worker: Worker, watch: float = 0.0
    ) -> Iterator[Claim]:
        """Claims whose worker `gone` knows to be dead, or whose lease ended long enough ago.

        Each is handed to `worker` under a new token, so that the old holder can no longer commit;
        the caller commits a failed attempt in its name. What dead workers held and had not yet
        claimed is offered again.

        Parameters
        ----------
        gone : callable
            Whether a worker is known to be dead.
        worker : Worker
            Who takes over.
        watch : float
            Seconds that an ended lease must stay without a sign of life before the eyes of this
            store. Time between two calls counts up to half of it, so that workers can give that
            sign after an outage, which stops all of them as well as the caller.
        """

    def busy(self, partition: str, wish: Wish = ANYTHING) -> bool:
        """Whether a stage runs anywhere, or is ready and may be taken by the partition.

        False means, at one moment of the database, that nothing will become ready for the
        partition unless somebody adds or retries something, or others claim what is ready for
        them alone: with a wish, as without one, that is not looked at.
        """

    def counts(self) -> tuple[StageCount, ...]:
        """Number of stages by name and state, from one consistent read."""

    def workflow_counts(self) -> dict[str, int]:
        """Number of workflows by FireWorks state, as ``lpad get_wflows -d count`` sees them."""

    def needs(self) -> tuple[Need, ...]:
        """What is needed to compute what waits, runs or failed; neither done nor cancelled stages.

        Takes memory for the different levels and combinations of elements only.
        """

    def running(self) -> tuple[Running, ...]:
        """Attempts under way."""

    def rows(self, selection: Selection) -> Iterator[Row]:
        """Stages of the selected fragments, in order of submission."""

    def resolve(self, prefix: str) -> str:
        """Full fragment id from its beginning.

        Raises
        ------
        NotFoundError
            None, or more than one, begins so.
        """

    def view(self, fragment_id: str) -> View:
        """Everything about one fragment.

        Raises
        ------
        NotFoundError
            No such fragment.
        """

    def retry(self, selection: Selection) -> int:
        """Make failed and cancelled stages ready again with fresh budgets; how many."""

    def cancel(self, selection: Selection) -> int:
        """Take waiting and ready stages out and stop running ones; how many.

        Done stages and their records stay.
        """

    def records(self, selection: Selection) -> Iterator[Record]:
        """Stream records in order of submission, in constant memory."""

    def refusals(self) -> tuple[Refusal, ...]:
        """Queue entries that were refused."""

    def ask_drain(self, launcher: str) -> None:
        """Ask the workers of a launcher to finish what they do and claim no more."""

    def draining(self, launcher: str) -> bool:
        """Whether workers of this launcher shall claim no more."""

    def close(self) -> None:
        """Close the connections."""
