"""Tasks: what entries of the queue ask for, found and checked many at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qfarm.plan import stage_key
from qfarm.store import histories
from qfarm.store.codec import decode
from qfarm.store.connection import Connection, Document
from qfarm.store.contents import Contents, Known
from qfarm.store.entry import Entry, Foreign, read
from qfarm.store.histories import UnreadableError
from qfarm.store.lease import Lease
from qfarm.store.protocol import Claim
from qfarm_schemas.arrays import Vectors
from qfarm_schemas.attempt import Attempt, Worker
from qfarm_schemas.base import Model
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment

_Found = Mapping[str, Document]


@dataclass(frozen=True)
class Task:
    """A queue entry that was found to be qfarm's own."""

    entry: Entry
    fragment: Fragment
    start: Fragment
    stage: Stage
    attempts: tuple[Attempt, ...]

    @property
    def number(self) -> int:
        """Number of the next attempt."""
        return max((attempt.number for attempt in self.attempts), default=0) + 1

    def claim(self, lease: Lease, worker: Worker) -> Claim:
        """The right to make the attempt of a lease."""
        counting = (item for item in self.attempts if item.number > self.entry.since)
        return Claim(
            key=self.entry.key,
            workflow=self.entry.workflow,
            submitted=self.fragment,
            start=self.start,
            stage=self.stage,
            history=tuple(counting),
            number=self.number,
            token=lease.token,
            worker=worker,
            claimed=lease.claimed,
            taken_from=lease.taken_from,
        )


class _Geometry(Model):
    """What a later stage needs of a record."""

    positions: Vectors


class Tasks:
    """Reader of queue entries, of one connection."""

    def __init__(self, connection: Connection, contents: Contents) -> None:
        self._connection = connection
        self._contents = contents

    def read(self, fireworks: Sequence[Document]) -> list[Task | Foreign]:
        """What fireworks ask for, each if it is qfarm's own and all it refers to is whole."""
        entries = [_entry(document) for document in fireworks]
        own = [entry for entry in entries if isinstance(entry, Entry)]
        fragments = self._contents.find(list({entry.fragment_id for entry in own}))
        attempts = self._attempts([entry.key for entry in own if entry.attempts])
        records = self._records([key for key in map(self._before, own) if isinstance(key, str)])
        found: list[Task | Foreign] = []
        for document, entry in zip(fireworks, entries, strict=True):
            if isinstance(entry, Foreign):
                found.append(entry)
                continue
            category = document["spec"].get("_category")
            found.append(self._task(entry, category, fragments, attempts, records))
        return found

    def _task(
        self,
        entry: Entry,
        category: object,
        fragments: Known,
        attempts: Mapping[str, Sequence[Document]],
        records: _Found,
    ) -> Task | Foreign:
        contents = self._contents.resolve(entry, category, fragments)
        if isinstance(contents, Foreign):
            return contents
        fragment, stage = contents
        start = self._start(entry, fragment, records)
        if isinstance(start, Foreign):
            return start
        try:
            history = tuple(map(histories.read_attempt, attempts.get(entry.key, ())))
        except UnreadableError as error:
            return Foreign(error.what)
        return Task(entry, fragment, start, stage, history)

    def _start(self, entry: Entry, fragment: Fragment, records: _Found) -> Fragment | Foreign:
        """The fragment at the geometry that the stage before accepted."""
        key = self._before(entry)
        if key is None:
            return fragment
        if isinstance(key, Foreign):
            return key
        if key not in records:
            stage = key.rpartition(".")[2]
            return Foreign(f"the stage before it, {stage}, has no record")
        try:
            positions = decode(_Geometry, records[key].get("result", {})).positions
        except ValueError as error:
            return Foreign(f"record {key} has no valid geometry: {error}"[:300])
        if len(positions) != fragment.n_atoms:
            return Foreign(f"record {key} has {len(positions)} atoms, not {fragment.n_atoms}")
        try:
            return fragment.model_copy(update={"positions": positions})
        except ValueError as error:
            return Foreign(f"record {key} has no valid geometry: {error}"[:300])

    def _before(self, entry: Entry) -> str | Foreign | None:
        """Key of the stage before; None for the first."""
        if entry.position == 0:
            return None
        before = self._contents.stage(entry.stage_ids[entry.position - 1])
        return before if isinstance(before, Foreign) else stage_key(entry.workflow, before.name)

    def _attempts(self, keys: Sequence[str]) -> Mapping[str, Sequence[Document]]:
        """Documents of all attempts at some stages, oldest first, by stage key."""
        if not keys:
            return {}
        attempts = self._connection[histories.ATTEMPTS]
        query = {"key": {"$in": keys}}
        found: dict[str, list[Document]] = {}
        for item in self._connection.retry(lambda: list(attempts.find(query).sort("number"))):
            found.setdefault(item["key"], []).append(item)
        return found

    def _records(self, keys: Sequence[str]) -> _Found:
        if not keys:
            return {}
        records = self._connection[histories.RECORDS]
        query, fields = {"_id": {"$in": keys}}, {"result.positions": 1}
        found = self._connection.retry(lambda: list(records.find(query, fields)))
        return {item["_id"]: item for item in found}


def _entry(firework: Document) -> Entry | Foreign:
    if not isinstance(firework.get("fw_id"), int):
        return Foreign(f"document {firework['_id']} of fireworks has no fw_id")
    return read(firework.get("spec"))
