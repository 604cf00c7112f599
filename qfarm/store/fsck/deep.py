"""Open every document: it must hash to its name, and be readable."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Final

from qfarm.plan import Plan, workflow_key
from qfarm.store import arrays, histories
from qfarm.store.codec import UnreadableError
from qfarm.store.connection import Connection, Document
from qfarm.store.contents import FRAGMENTS, STAGES, intact
from qfarm.store.entry import Entry, Foreign, check, read
from qfarm.store.fsck.model import Finding
from qfarm.store.histories import ATTEMPTS, RECORDS
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment

_PAGE: Final = 200
"""Fireworks at a time: a record of 350 atoms takes 30 kB, one with matrices some MB."""

_FIELDS: Final = {"fw_id": 1, "state": 1, "spec": 1}
_NOT_RUN: Final = ("FIZZLED", "DEFUSED", "ARCHIVED")


class Deep:
    """Opens documents; `checked` counts them by invariant."""

    NAMES: Final = (
        "intact fragment",
        "intact stage",
        "intact entry",
        "intact attempt",
        "intact record",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stages: dict[str, Stage | Foreign] = {}
        self.checked: Counter[str] = Counter()

    def findings(self) -> Iterator[Finding]:
        """All that cannot be opened, or is not what its name says."""
        last = -(2**62)
        while page := self._page(last):
            yield from self._contents(page)
            keys = [key for item in page if isinstance(key := _entry(item).get("key"), str)]
            yield from self._attempts(keys)
            yield from self._records(keys)
            last = page[-1]["fw_id"]

    def plan(self, key: str, fragment_id: str, stage_ids: list[str]) -> Plan | None:
        """The plan that a workflow was made of, if all of it is there and whole."""
        fragment = self._fragments([fragment_id])[fragment_id]
        found = [self._stage(identity) for identity in stage_ids]
        stages = tuple(stage for stage in found if isinstance(stage, Stage))
        if isinstance(fragment, Foreign) or len(stages) != len(found):
            return None
        return Plan(key, fragment, stages) if workflow_key(fragment, stages) == key else None

    def _page(self, after: int) -> list[Document]:
        query = {"fw_id": {"$gt": after}, "spec.qfarm": {"$exists": True}}
        found = self._connection["fireworks"].find(query, _FIELDS)
        return self._connection.retry(lambda: list(found.clone().sort("fw_id").limit(_PAGE)))

    def _contents(self, page: list[Document]) -> Iterator[Finding]:
        entries = {item["fw_id"]: read(item.get("spec")) for item in page}
        ids = sorted({e.fragment_id for e in entries.values() if isinstance(e, Entry)})
        fragments = self._fragments(ids)
        for identity, fragment in fragments.items():
            self.checked["intact fragment"] += 1
            if isinstance(fragment, Foreign):
                yield Finding("intact fragment", identity, fragment.reason)
        for document in page:
            entry = entries[document["fw_id"]]
            self.checked["intact entry"] += 1
            if document.get("state") not in _NOT_RUN:
                yield from self._entry(document, entry, fragments)

    def _entry(
        self, document: Document, entry: Entry | Foreign, fragments: dict[str, Fragment | Foreign]
    ) -> Iterator[Finding]:
        key = str(_entry(document).get("key") or document["fw_id"])
        if isinstance(entry, Foreign):
            yield Finding("intact entry", key, entry.reason)
            return
        fragment = fragments[entry.fragment_id]
        stages = []
        for identity in entry.stage_ids:
            new = identity not in self._stages
            stage = self._stage(identity)
            self.checked["intact stage"] += new
            if isinstance(stage, Stage):
                stages.append(stage)
            elif new:
                yield Finding("intact stage", identity, stage.reason)
        if isinstance(fragment, Fragment) and len(stages) == len(entry.stage_ids):
            wrong = check(entry, document["spec"].get("_category"), fragment, stages)
            if wrong is not None:
                yield Finding("intact entry", key, wrong.reason)

    def _attempts(self, keys: list[str]) -> Iterator[Finding]:
        for document in self._find(ATTEMPTS, "key", keys):
            self.checked["intact attempt"] += 1
            try:
                attempt = histories.read_attempt(document)
            except UnreadableError as error:
                yield Finding("intact attempt", str(document["_id"]), error.what)
                continue
            if document["_id"] != (named := histories.attempt_id(attempt.key, attempt.number)):
                yield Finding("intact attempt", str(document["_id"]), f"is {named} by its content")

    def _records(self, keys: list[str]) -> Iterator[Finding]:
        for document in self._find(RECORDS, "_id", keys):
            self.checked["intact record"] += 1
            try:
                record = histories.read_record(arrays.fill(self._connection, document))
            except UnreadableError as error:
                yield Finding("intact record", str(document["_id"]), error.what)
                continue
            if document["_id"] != record.key:
                yield Finding("intact record", str(document["_id"]), f"is {record.key} by content")

    def _find(self, collection: str, name: str, values: list[str]) -> list[Document]:
        query = {name: {"$in": values}}
        return self._connection.retry(lambda: list(self._connection[collection].find(query)))

    def _fragments(self, ids: list[str]) -> dict[str, Fragment | Foreign]:
        there = {item["_id"]: item for item in self._find(FRAGMENTS, "_id", ids)}
        return {one: intact(Fragment, one, there.get(one)) for one in ids}

    def _stage(self, identity: str) -> Stage | Foreign:
        if identity not in self._stages:
            find = partial(self._connection[STAGES].find_one, {"_id": identity})
            self._stages[identity] = intact(Stage, identity, self._connection.retry(find))
        return self._stages[identity]


def _entry(document: Document) -> Document:
    spec = document.get("spec")
    entry = spec.get("qfarm") if isinstance(spec, dict) else None
    return entry if isinstance(entry, dict) else {}
