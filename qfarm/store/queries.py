"""What is in the farm: counts, lists, one fragment, records."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from qfarm.errors import NotFoundError
from qfarm.store import histories
from qfarm.store.connection import Connection, Document
from qfarm.store.contents import FRAGMENTS, Contents
from qfarm.store.documents import SHORT, stage_state
from qfarm.store.entry import Entry, Foreign, of
from qfarm.store.lease import Lease, read_lease
from qfarm.store.protocol import (
    Refusal,
    Row,
    Running,
    Selection,
    StageCount,
    StageState,
    View,
)
from qfarm.store.ready import ORDER, SEEN, fitting, ready
from qfarm.store.selection import pages, stage_query
from qfarm.store.wish import ANYTHING, Ahead, Wish
from qfarm_schemas.config import Stage
from qfarm_schemas.record import Record

_ROWS: Final = 500
"""Workflows whose rows are read at a time."""

_RECORDS: Final = 25
"""Workflows whose records are read at a time; a record of 350 atoms takes some 30 kB, and one with
SCF matrices at most 1 MB: larger arrays are read one record at a time."""

_ORDER: Final = list(StageState)


def counts(connection: Connection) -> tuple[StageCount, ...]:
    """See `Store.counts`; stages in their order, states in that of `StageState`."""
    own = {"spec.qfarm.stage": {"$type": "string"}, "spec.qfarm.position": {"$type": "number"}}
    group = {
        "_id": {"stage": "$spec.qfarm.stage", "state": "$state"},
        "position": {"$min": "$spec.qfarm.position"},
        "count": {"$sum": 1},
    }
    found = connection.snapshot("fireworks", [{"$match": own}, {"$group": group}])
    total: dict[tuple[str, StageState], int] = {}
    position: dict[str, int] = {}
    for item in found:
        stage, state = str(item["_id"]["stage"]), stage_state(item["_id"].get("state"))
        total[stage, state] = total.get((stage, state), 0) + item["count"]
        position[stage] = min(position.get(stage, item["position"]), item["position"])
    ordered = sorted(total, key=lambda pair: (position[pair[0]], pair[0], _ORDER.index(pair[1])))
    return tuple(StageCount(stage, state, total[stage, state]) for stage, state in ordered)


def workflow_counts(connection: Connection) -> dict[str, int]:
    """See `Store.workflow_counts`."""
    group = {"_id": "$state", "count": {"$sum": 1}}
    by_index: list[Document] = [{"$sort": {"state": 1}}, {"$group": group}]
    found = connection.snapshot("workflows", by_index)
    return dict(sorted((str(item["_id"]), item["count"]) for item in found))


def busy(connection: Connection, partition: str, wish: Wish = ANYTHING) -> bool:
    """See `Store.busy`."""
    running = {"state": {"$in": ["RUNNING", "RESERVED"]}, "spec.qfarm.stage": {"$type": "string"}}
    query = ready(partition, wish)
    if wish.fits is not None:
        return _busy_with(connection, running, query, wish)
    pipeline: list[Document] = [
        {"$match": {"$or": [running, query]}},
        {"$limit": 1},
        {"$project": {"fw_id": 1}},
    ]
    return bool(connection.snapshot("fireworks", pipeline))


def _busy_with(connection: Connection, running: Document, query: Document, wish: Wish) -> bool:
    """Whether one runs, or the first of the queue hold one that fits; seen at one moment."""
    runs: list[Document] = [{"$match": running}, {"$limit": 1}, {"$project": {"runs": "yes"}}]
    first: list[Document] = [
        {"$match": query},
        {"$sort": dict(ORDER)},
        {"$limit": wish.sight},
        {"$project": SEEN},
    ]
    both = [*runs, {"$unionWith": {"coll": "fireworks", "pipeline": first}}]
    found = connection.snapshot("fireworks", both)
    return any("runs" in item for item in found) or bool(fitting(found, wish))


def running(connection: Connection) -> tuple[Running, ...]:
    """See `Store.running`."""
    query = {"state": "RUNNING", "lease.token": {"$exists": True}}
    fireworks = connection["fireworks"]
    found = connection.retry(lambda: list(fireworks.find(query)))
    found.sort(key=_number)  # mongod would read the whole queue for it
    pairs = ((of(item.get("spec")), read_lease(item.get("lease"))) for item in found)
    return tuple(
        _running(entry, lease)
        for entry, lease in pairs
        if isinstance(entry, Entry) and isinstance(lease, Lease)
    )


def rows(connection: Connection, selection: Selection) -> Iterator[Row]:
    """See `Store.rows`."""
    for page in pages(connection, selection, _ROWS):
        query = {"spec.qfarm.workflow": {"$in": page}} | stage_query(selection)
        yield from _rows(connection, query)


def records(connection: Connection, selection: Selection) -> Iterator[Record]:
    """See `Store.records`."""
    conditions: Document = {}
    if selection.stage is not None:
        conditions["stage"] = selection.stage
    if selection.level_id is not None:
        conditions["store.level_id"] = selection.level_id
    for page in pages(connection, selection, _RECORDS):
        yield from histories.records_of(connection, {"store.workflow": {"$in": page}} | conditions)


def resolve(connection: Connection, prefix: str) -> str:
    """See `Store.resolve`."""
    query = {"_id": {"$gte": prefix, "$lt": prefix + "\uffff"}}
    found = connection.retry(
        lambda: [item["_id"] for item in connection[FRAGMENTS].find(query, {"_id": 1}).limit(3)]
    )
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise NotFoundError(
            f"no fragment has an id that begins with {prefix!r}", "`qfarm list` shows the ids"
        )
    some = ", ".join(identity[: SHORT + len(prefix)] for identity in found)
    raise NotFoundError(
        f"more than one fragment has an id that begins with {prefix!r}: {some}, ...",
        "give more characters of the id",
    )


def view(connection: Connection, contents: Contents, fragment_id: str) -> View:
    """See `Store.view`."""
    fragment = contents.fragment(fragment_id)
    if isinstance(fragment, Foreign):
        raise NotFoundError(fragment.reason, "`qfarm list` shows the ids")
    own = tuple(_rows(connection, {"spec.qfarm.fragment_id": fragment_id}))
    keys = [row.key for row in own]
    attempts = histories.attempts_of(connection, keys)
    found = histories.records_of(connection, {"_id": {"$in": keys}})
    return View(
        fragment=fragment,
        rows=own,
        stages=_stages(connection, contents, fragment_id),
        attempts={key: tuple(item for item in attempts if item.key == key) for key in keys},
        records={record.key: record for record in found},
    )


def refusals(connection: Connection) -> tuple[Refusal, ...]:
    """See `Store.refusals`; oldest first."""
    found = connection.retry(lambda: list(connection["refusals"].find().sort("at")))
    return tuple(Refusal(item["fw_id"], item["reason"], item["at"]) for item in found)


def _rows(connection: Connection, query: Document) -> Iterator[Row]:
    found = connection.retry(lambda: list(connection["fireworks"].find(query).sort("fw_id")))
    for item in found:
        entry = of(item.get("spec"))
        if isinstance(entry, Entry):
            yield _row(entry, item)


def _number(document: Document) -> int:
    number = document.get("fw_id")
    return number if isinstance(number, int) else 0


def _row(entry: Entry, document: Document) -> Row:
    noted = document.get("failure")
    failure = noted if isinstance(noted, Mapping) else {}
    return Row(
        fragment_id=entry.fragment_id,
        fragment_class=entry.fragment_class,
        formula=entry.formula,
        n_atoms=entry.n_atoms,
        tags=entry.tags,
        workflow=entry.workflow,
        key=entry.key,
        stage=entry.stage,
        position=entry.position,
        level_id=entry.level_id,
        state=stage_state(document.get("state")),
        attempts=entry.attempts,
        source=entry.source,
        updated=_time(document.get("updated_on")),
        reason=str(failure.get("reason", "")),
        remedy=str(failure.get("remedy", "")),
    )


def _time(text: object) -> datetime:
    """Time as FireWorks wrote it; the beginning of all times when it did not."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _running(entry: Entry, lease: Lease) -> Running:
    return Running(
        fragment_id=entry.fragment_id,
        key=entry.key,
        stage=entry.stage,
        number=lease.number,
        rung=lease.rung,
        worker=lease.worker,
        claimed=lease.claimed,
        lease_ends=lease.expires,
        ahead=Ahead(entry.stage, entry.level_id, entry.formula, entry.n_atoms),
    )


def _stages(connection: Connection, contents: Contents, fragment_id: str) -> dict[str, Stage]:
    query = {"spec.qfarm.fragment_id": fragment_id}
    found = connection.retry(lambda: list(connection["fireworks"].find(query, {"spec.qfarm": 1})))
    entries = [of(item.get("spec")) for item in found]
    return dict(_staged(contents, [entry for entry in entries if isinstance(entry, Entry)]))


def _staged(contents: Contents, entries: Sequence[Entry]) -> Iterator[tuple[str, Stage]]:
    for entry in entries:
        stage = contents.stage(entry.stage_ids[entry.position])
        if isinstance(stage, Stage):
            yield entry.key, stage
