"""Stand-ins for launchers' tests: what launchers and jobs share, in memory; a scheduler."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from qfarm.store.fleet import (
    Demand,
    Gate,
    JobNote,
    JobState,
    NodeFailure,
    NodeNote,
    Sample,
    Standing,
)
from qfarm.store.wish import Ahead, Wish
from qfarm_launchers.schedulers.base import Ending, JobOrder, Queued, QueueState
from qfarm_schemas.attempt import Worker
from qfarm_schemas.config import Stage


class MemoryFleet:
    """The part of a `Fleet` that launchers ask; see there.

    Attributes
    ----------
    ready : int
        What `demand` gives.
    first : Ahead
        What each of the sample is.
    wishes : list of Wish
        What it was asked for.
    age : timedelta
        How much older than now is what is noted: as if that time had passed.
    behind : timedelta
        How far the database's clock is behind ours.
    """

    def __init__(self) -> None:
        self.ready = 0
        self.first = Ahead("single_point", "no level that is known", "H2O", 3)
        self.further: Ahead | None = None  # what a spread sample has instead
        self.running = 0
        self.engines: dict[str, str] = {}
        self.learnt = 0
        self.wishes: list[Wish] = []
        self.notes: dict[str, JobNote] = {}
        self.age = timedelta()
        self.behind = timedelta()
        self._standing: dict[str, Standing] = {}
        self.nodes: list[NodeNote] = []
        self.failures: list[NodeFailure] = []
        self.drained: list[str] = []
        self._tokens: dict[str, str] = {}

    @property
    def now(self) -> datetime:
        """What the database's clock shows."""
        return datetime.now(UTC) - self.behind

    def take(self, partition: str, launcher: Worker, seconds: float, free: bool = False) -> str:
        if self.standing(partition).alive and not free:
            return ""
        self._tokens[partition] = f"{partition}.{len(self._tokens)}.{launcher.name}.{free}"
        self._stand(partition, launcher=launcher, alive=True)
        return self._tokens[partition]

    def keep(
        self, partition: str, token: str, seconds: float, look: Mapping[str, Any]
    ) -> Standing | None:
        if token != self._tokens.get(partition):
            return None
        self._stand(partition, look=look, alive=True, looked=self.now)
        return self.standing(partition)

    def leave(self, partition: str, token: str, gate: Gate | None = None) -> None:
        if token == self._tokens.get(partition):
            self._stand(partition, alive=False)

    def ask(self, partition: str, gate: Gate) -> None:
        self._stand(partition, gate=gate)

    def refuse(self, partition: str, why: str) -> None:
        self._stand(partition, refused=why)

    def standing(self, partition: str) -> Standing:
        return self._standing.get(partition, Standing(partition))

    def standings(self) -> tuple[Standing, ...]:
        return tuple(self._standing.values())

    def note(self, job: JobNote) -> None:
        known = self.notes.get(job.name)
        submitted = known.submitted if known else self.now - self.age
        self.notes[job.name] = replace(job, submitted=submitted)

    def end(self, name: str, why: str = "") -> None:
        note = self.notes[name]
        if note.ended is None:
            self.change(name, state=JobState.ENDED, ended=self.now, why=why)

    def jobs(self, partition: str, ended: bool = False) -> tuple[JobNote, ...]:
        own = [one for one in self.notes.values() if one.partition == partition]
        return tuple(one for one in own if ended or one.ended is None)

    def named(self, names: Sequence[str]) -> tuple[JobNote, ...]:
        return tuple(note for name, note in self.notes.items() if name in names)

    def drain(self, names: Sequence[str]) -> None:
        self.drained += names

    def suspect(self, note: NodeNote) -> None:
        self.nodes.append(note)

    def suspects(self, over: bool = False) -> tuple[NodeNote, ...]:
        return tuple(self.nodes)

    def node_failures(self, hours: float) -> tuple[NodeFailure, ...]:
        return tuple(self.failures)

    def levels(self) -> Mapping[str, str]:
        return self.engines

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def samples(self, size: int) -> tuple[Sample, ...]:
        return ()

    def keep_costs(self, document: Mapping[str, Any]) -> None:
        self.costs = document
        self.learnt += 1

    def demand(
        self, partition: str, wish: Wish, limit: int, sample: int, spread: bool = False
    ) -> Demand:
        self.wishes.append(wish)
        one = self.further if spread and self.further is not None else self.first
        return Demand(self.ready, (one,) * min(self.ready, sample), self.running)

    def change(self, name: str, **fields: Any) -> None:
        """Change a note, as its job would, or as time does."""
        self.notes[name] = replace(self.notes[name], **fields)

    def _stand(self, partition: str, **fields: Any) -> None:
        self._standing[partition] = replace(self.standing(partition), **fields)


class MemoryBatch:
    """A scheduler that does as it is told.

    Attributes
    ----------
    jobs : dict
        Id -> what it has.
    trouble : dict
        Name of a method -> called before the method does anything; it may raise.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Queued] = {}
        self.endings: dict[str, Ending] = {}
        self.orders: list[JobOrder] = []
        self.cancelled: list[str] = []
        self.closed = ""
        self.trouble: dict[str, Callable[[], None]] = {}

    def submit(self, order: JobOrder) -> str:
        self._try("submit")
        self.orders.append(order)
        identity = str(len(self.orders))
        self.jobs[identity] = Queued(id=identity, name=order.name, state=QueueState.PENDING)
        self._try("answer")
        return identity

    def cancel(self, ids: Iterable[str]) -> None:
        self._try("cancel")
        for identity in ids:
            self.cancelled.append(identity)
            self.jobs.pop(identity, None)

    def queue(self) -> dict[str, Queued]:
        self._try("queue")
        return dict(self.jobs)

    def ending(self, job_id: str) -> Ending | None:
        self._try("ending")
        return self.endings.get(job_id)

    def available(self) -> str:
        self._try("available")
        return self.closed

    def _try(self, what: str) -> None:
        self.trouble.get(what, lambda: None)()


class Lines:
    """A log that is a list of what happened."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Mapping[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.said.append((event, fields))

    warning = error = info

    def of(self, event: str) -> Sequence[Mapping[str, Any]]:
        """What was said of one kind of event."""
        return [fields for name, fields in self.said if name == event]
