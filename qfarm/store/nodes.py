"""Nodes: those that are left alone for a while, and the failures that tell which.

One document a node: ``nodes: {_id: host, until, why, fragments, cleared}``. The failures are read
from the attempts, by an index that holds failures alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pymongo import DESCENDING

from qfarm.store.connection import Connection, Document
from qfarm.store.documents import iso
from qfarm.store.expressions import by_database, literal
from qfarm.store.fleet import NodeFailure, NodeNote
from qfarm.store.histories import ATTEMPTS, RECORDS
from qfarm.store.loose import part, put, text, time
from qfarm_schemas.failure import Budget, FailureKind

NODES: Final = "nodes"

KINDS: Final = tuple(kind.value for kind in FailureKind if kind.budget is Budget.NODE)
"""Kinds of failure that a node may be to blame for."""

_MOST: Final = 5_000
"""Failures that are read at most, the last ones: enough to tell which node it is."""

_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)

_FIELDS: Final = ("key", "fragment_id", "worker.host", "outcome.kind", "finished")


def suspect(connection: Connection, note: NodeNote) -> None:
    """See `Fleet.suspect`."""
    until = by_database(note.until)
    stays: Document = {"$gte": ["$until", until]}  # one that is missing comes before all times
    fields: Document = {
        "until": until,
        "why": literal(note.why),
        "fragments": literal(list(note.fragments)),
    }
    changes = {name: {"$cond": [stays, f"${name}", value]} for name, value in fields.items()}
    collection = connection[NODES]
    connection.retry(lambda: put(collection, note.host, [{"$set": changes}]))


def suspects(connection: Connection, over: bool) -> tuple[NodeNote, ...]:
    """See `Fleet.suspects`; by name."""
    query: Document = {} if over else {"$expr": {"$gt": ["$until", "$$NOW"]}}
    found = connection.retry(lambda: list(connection[NODES].find(query).sort("_id")))
    return tuple(_note(item) for item in found if isinstance(item.get("until"), datetime))


def clear(connection: Connection, host: str) -> None:
    """See `Fleet.clear`."""
    changes = {"until": "$$NOW", "cleared": "$$NOW"}
    connection.retry(lambda: put(connection[NODES], host, [{"$set": changes}]))


def failures(connection: Connection, hours: float) -> tuple[NodeFailure, ...]:
    """See `Fleet.node_failures`."""
    now = connection.command("hello", "1")["localTime"]
    query = {
        "outcome.kind": {"$in": list(KINDS)},
        "finished": {"$gte": iso(now - timedelta(hours=hours))},
    }
    last = [("finished", DESCENDING)]
    attempts = connection[ATTEMPTS]
    found = connection.retry(lambda: list(attempts.find(query, _FIELDS, sort=last, limit=_MOST)))
    failed = [one for item in reversed(found) if (one := _failure(item)) is not None]
    cleared = _cleared(connection)
    counting = [one for one in failed if one.finished > cleared.get(one.host, _LONG_AGO)]
    return _with_successes(connection, counting)


def _with_successes(
    connection: Connection, failed: Sequence[NodeFailure]
) -> tuple[NodeFailure, ...]:
    """The same with the hosts that the accepted records of their stages came from."""
    query = {"_id": {"$in": sorted({one.key for one in failed})}}
    records, fields = connection[RECORDS], {"provenance.host": 1}
    found = connection.retry(lambda: list(records.find(query, fields))) if failed else []
    hosts = {item["_id"]: text(part(item, "provenance"), "host") for item in found}
    return tuple(replace(one, succeeded_on=hosts.get(one.key, "")) for one in failed)


def _cleared(connection: Connection) -> dict[str, datetime]:
    """When nodes were last put to use again by hand."""
    query = {"cleared": {"$type": "date"}}
    found = connection.retry(lambda: list(connection[NODES].find(query, {"cleared": 1})))
    return {item["_id"]: item["cleared"] for item in found}


def _failure(document: Mapping[str, Any]) -> NodeFailure | None:
    """Failure of the document of an attempt; None where others changed it."""
    try:
        finished = datetime.fromisoformat(text(document, "finished"))
    except ValueError:
        return None
    if finished.tzinfo is None:
        return None
    return NodeFailure(
        host=text(part(document, "worker"), "host"),
        key=text(document, "key"),
        fragment_id=text(document, "fragment_id"),
        kind=text(part(document, "outcome"), "kind"),
        finished=finished,
    )


def _note(document: Mapping[str, Any]) -> NodeNote:
    listed = document.get("fragments")
    fragments = listed if isinstance(listed, list) else []
    return NodeNote(
        host=str(document["_id"]),
        until=time(document, "until") or _LONG_AGO,
        why=text(document, "why"),
        fragments=tuple(item for item in fragments if isinstance(item, str)),
    )
