"""Partitions: who launches one, under which lease, and what the user wants of it.

One document a partition::

    partitions: {_id: name, gate, since, refused, launcher: {token, worker, expires}, look, looked}

The lease goes by the database's clock. Whoever has its token is the launcher; a process that was
stopped and goes on finds the token changed, and ends.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from pydantic import JsonValue
from pymongo import ReturnDocument

from qfarm.store.codec import encode
from qfarm.store.connection import Connection, Document
from qfarm.store.expressions import from_now, literal
from qfarm.store.fleet import Gate, Standing
from qfarm.store.loose import part, put, text, time, worker
from qfarm_schemas.attempt import Worker

PARTITIONS: Final = "partitions"

_LATELY: Final = timedelta(days=1)
"""Jobs of a launcher that has ended pull on for about so long; few walltimes are longer."""

_NOW: Final[Document] = {"now": "$$NOW"}
_ALIVE: Final[Document] = {"$gt": ["$launcher.expires", "$$NOW"]}
"""Whether the lease of a launcher has not ended; a field that is missing comes before all times."""


def take(
    connection: Connection, partition: str, launcher: Worker, seconds: float, free: bool
) -> str:
    """See `Fleet.take`."""
    token = uuid4().hex
    mine: Document = {
        "token": token,
        "worker": literal(encode(launcher)),
        "expires": from_now(seconds),
    }
    others: Document = literal(False) if free else {"$and": [_ALIVE, _HELD]}
    own = {"$eq": ["$launcher.token", token]}  # the acknowledgement was lost: it was taken
    stays = {"$or": [others, own]}
    change: list[Document] = [{"$set": {"launcher": {"$cond": [stays, "$launcher", mine]}}}]
    collection = connection[PARTITIONS]
    found = connection.retry(lambda: put(collection, partition, change))
    return token if text(part(found, "launcher"), "token") == token else ""


_HELD: Final[Document] = {"$eq": [{"$type": "$launcher.token"}, "string"]}


def keep(
    connection: Connection,
    partition: str,
    token: str,
    seconds: float,
    look: Mapping[str, JsonValue],
) -> Standing | None:
    """See `Fleet.keep`."""
    changes: Document = {
        "launcher.expires": from_now(seconds),
        "look": literal(dict(look)),
        "looked": "$$NOW",
    }
    collection = connection.volatile(PARTITIONS)
    found = connection.retry(
        lambda: collection.find_one_and_update(
            _own(partition, token),
            [{"$set": changes}],
            return_document=ReturnDocument.AFTER,
        )
    )
    return None if found is None else _standing(found | {"now": found["looked"]})


def leave(connection: Connection, partition: str, token: str, gate: Gate | None) -> None:
    """See `Fleet.leave`."""
    changes: Document = {"launcher.expires": "$$NOW"}
    if gate is not None:
        changes |= _moved(gate)
    pipeline: list[Document] = [{"$set": changes}, {"$unset": "launcher.token"}]
    collection = connection[PARTITIONS]
    connection.retry(lambda: collection.update_one(_own(partition, token), pipeline))


def ask(connection: Connection, partition: str, gate: Gate) -> None:
    """See `Fleet.ask`."""
    collection = connection[PARTITIONS]
    connection.retry(lambda: put(collection, partition, [{"$set": _moved(gate)}]))


def refuse(connection: Connection, partition: str, why: str) -> None:
    """See `Fleet.refuse`."""
    collection = connection[PARTITIONS]
    connection.retry(lambda: put(collection, partition, [{"$set": {"refused": literal(why)}}]))


def standing(connection: Connection, partition: str) -> Standing:
    """See `Fleet.standing`."""
    collection = connection[PARTITIONS]
    found = connection.retry(lambda: collection.find_one({"_id": partition}, _WITH_NOW))
    return Standing(partition) if found is None else _standing(found)


def standings(connection: Connection) -> tuple[Standing, ...]:
    """See `Fleet.standings`; by name."""
    collection = connection[PARTITIONS]
    found = connection.retry(lambda: list(collection.find({}, _WITH_NOW).sort("_id")))
    return tuple(_standing(item) for item in found if isinstance(item["_id"], str))


_WITH_NOW: Final[Document] = (
    dict.fromkeys(("gate", "since", "refused", "launcher", "look", "looked"), 1) | _NOW
)


def _own(partition: str, token: str) -> Document:
    return {"_id": partition, "launcher.token": token}


def _moved(gate: Gate) -> Document:
    """Changes that put the gate there, at the time when it was first wanted there."""
    stays = {"$eq": ["$gate", gate.value]}
    return {"gate": gate.value, "since": {"$cond": [stays, "$since", "$$NOW"]}}


def _standing(document: Mapping[str, Any]) -> Standing:
    launcher = part(document, "launcher")
    expires, now = time(launcher, "expires"), time(document, "now")
    named, looked = text(document, "gate"), time(document, "looked")
    alive = bool(text(launcher, "token") and expires and now and expires > now)
    return Standing(
        name=str(document["_id"]),
        gate=Gate(named) if named in set(Gate) else Gate.OPEN,
        refused=text(document, "refused"),
        launcher=worker(launcher.get("worker")),
        alive=alive,
        lost=bool(text(launcher, "token")) and not alive,
        lately=bool(looked and now and now - looked < _LATELY),
        since=time(document, "since"),
        look=part(document, "look"),
        looked=looked,
    )
