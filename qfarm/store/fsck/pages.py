"""Read workflows: page by page as they were submitted, or whole ones in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

from pymongo.client_session import ClientSession

from qfarm.store.connection import Connection, Document
from qfarm.store.contents import FRAGMENTS, STAGES
from qfarm.store.entry import workflow_of
from qfarm.store.fsck.model import Raw, grouped, integer, nodes
from qfarm.store.histories import ATTEMPTS, RECORDS

_PAGE: Final = 2000
"""Fireworks read at a time; they and what belongs to them take some 10 MB."""

_BATCH: Final = 10_000

_FIREWORK: Final = {
    "fw_id": 1,
    "state": 1,
    "launches": 1,
    "archived_launches": 1,
    "failure.reason": 1,
    **{f"lease.{name}": 1 for name in ("token", "launch", "seconds", "claimed", "expires")},
    **{
        f"spec.qfarm.{name}": 1
        for name in (
            "key",
            "workflow",
            "fragment_id",
            "stage_ids",
            "position",
            "stage",
            "attempts",
            "since",
        )
    },
}
_WORKFLOW: Final = dict.fromkeys(
    ("nodes", "links", "state", "fw_states", "locked", "updated_on", "metadata.key"), 1
)
_LAUNCH: Final = {"launch_id": 1, "fw_id": 1, "state": 1}
_ATTEMPT: Final = {"key": 1, "number": 1, "outcome.status": 1}
_RECORD: Final = {"store.workflow": 1, "store.fw_id": 1, "provenance.attempt": 1}

_FIRST: Final = -(2**62)
_LAST: Final = 2**62


class Page(NamedTuple):
    """Documents of one page, and the time of the database before they were read."""

    raw: Raw
    now: datetime


def now(connection: Connection) -> datetime:
    """Time of the database's clock."""
    found: datetime = connection.command("hello", "1")["localTime"]
    return found.replace(tzinfo=UTC)


def pages(connection: Connection, size: int = _PAGE) -> Iterator[Page]:
    """All fireworks with what belongs to them, in order of their ids; the next is read ahead.

    Each collection is read at its own moment, so what looks wrong must be read again (`whole`).
    """
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(_page, connection, size, _FIRST)
        while True:
            page, last = coming.result()
            if last < _LAST:
                coming = reader.submit(_page, connection, size, last)
            yield page
            if last >= _LAST:
                return


def _page(connection: Connection, size: int, after: int) -> tuple[Page, int]:
    """The page after an id, and the last id that it covers."""
    clock = now(connection)
    read = partial(_read, connection)
    found = connection["fireworks"].find({"fw_id": {"$gt": after}}, _FIREWORK, batch_size=size)
    ordered = found.sort("fw_id").limit(size)
    fireworks = connection.retry(lambda: ordered.clone().to_list())
    last = _LAST
    if len(fireworks) == size:
        fireworks = _uncut(fireworks)
        last = fireworks[-1]["fw_id"]
    covered = {"$gt": after, "$lte": last}
    keys = [key for key in map(_key, fireworks) if key is not None]
    raw = {
        "fireworks": fireworks,
        "workflows": read("workflows", {"nodes": {"$elemMatch": covered}}, _WORKFLOW),
        "launches": read("launches", {"fw_id": covered}, _LAUNCH),
        ATTEMPTS: read(ATTEMPTS, {"key": {"$in": keys}}, _ATTEMPT) if keys else [],
        RECORDS: read(RECORDS, {"_id": {"$in": keys}}, _RECORD) if keys else [],
    }
    return Page(raw, clock), last


def _uncut(fireworks: list[Document]) -> list[Document]:
    """Leave the last workflow to the next page: it may go on there."""
    last = workflow_of(fireworks[-1].get("spec"))
    end = len(fireworks)
    while end > 0 and last is not None and workflow_of(fireworks[end - 1].get("spec")) == last:
        end -= 1
    return fireworks[:end] or fireworks


def whole(connection: Connection, session: ClientSession, fw_ids: Iterable[int]) -> Raw:
    """All documents of some workflows, complete, at one moment.

    Parameters
    ----------
    connection : Connection
        The database.
    session : ClientSession
        With a transaction under way.
    fw_ids : iterable of int
        Fireworks, there or not, of which the workflows are read.
    """
    read = partial(_read, connection, session=session)
    ids = set(fw_ids)
    workflows = read("workflows", {"nodes": {"$in": sorted(ids)}})
    ids |= {node for item in workflows for node in nodes(item)}
    fireworks = read("fireworks", {"fw_id": {"$in": sorted(ids)}})
    keys = {workflow_of(item.get("spec")) for item in fireworks} - {None}
    keys |= {_metadata_key(item) for item in workflows} - {None}
    every: Any = {"$in": sorted(map(str, keys))}
    fireworks = _both(fireworks, read("fireworks", {"spec.qfarm.workflow": every}))
    workflows = _both(workflows, read("workflows", {"metadata.key": every}))
    ids |= {node for item in workflows for node in nodes(item)}
    fireworks = _both(fireworks, read("fireworks", {"fw_id": {"$in": sorted(ids)}}))
    ids |= {number for item in fireworks if (number := integer(item.get("fw_id"))) >= 0}
    return {
        "workflows": workflows,
        "fireworks": fireworks,
        "launches": read("launches", {"fw_id": {"$in": sorted(ids)}}),
        ATTEMPTS: read(ATTEMPTS, _of_stages("key", every["$in"])),
        RECORDS: read(RECORDS, _of_stages("_id", every["$in"])),
    }


def _of_stages(name: str, workflows: Sequence[str]) -> Document:
    """Query of what belongs to any stage of workflows, also to one whose firework is lost."""
    ranges = [{name: {"$gte": f"{key}.", "$lt": f"{key}/"}} for key in workflows]
    return {"$or": ranges} if ranges else {name: {"$in": []}}


def there(
    connection: Connection, session: ClientSession, raw: Raw
) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of those stages and fragments that documents name and that are in the store."""
    entries = [stage.entry for group in grouped(raw).groups for stage in group.stages]
    stage_ids = {one for entry in entries for one in entry["stage_ids"]}
    fragment_ids = {entry["fragment_id"] for entry in entries}
    return (
        _present(connection, session, STAGES, stage_ids),
        _present(connection, session, FRAGMENTS, fragment_ids),
    )


def _present(
    connection: Connection, session: ClientSession, collection: str, ids: Iterable[str]
) -> frozenset[str]:
    query = {"_id": {"$in": sorted(ids)}}
    found = connection[collection].find(query, {"_id": 1}, session=session)
    return frozenset(str(item["_id"]) for item in found)


def _read(
    connection: Connection,
    collection: str,
    query: Document,
    fields: Document | None = None,
    session: ClientSession | None = None,
) -> list[Document]:
    if session is not None:  # the transaction as a whole is tried again
        return list(connection[collection].find(query, fields, session=session))
    found = connection[collection].find(query, fields, batch_size=_BATCH)
    return connection.retry(lambda: found.clone().to_list())


def _both(one: list[Document], other: list[Document]) -> list[Document]:
    return list({str(item["_id"]): item for item in (*one, *other)}.values())


def _key(firework: Document) -> str | None:
    spec = firework.get("spec")
    entry = spec.get("qfarm") if isinstance(spec, dict) else None
    key = entry.get("key") if isinstance(entry, dict) else None
    return key if isinstance(key, str) else None


def _metadata_key(workflow: Document) -> str | None:
    metadata = workflow.get("metadata")
    key = metadata.get("key") if isinstance(metadata, dict) else None
    return key if isinstance(key, str) else None
