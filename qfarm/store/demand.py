"""Demand: what waits for a partition, and what such work has cost before."""

from collections.abc import Iterable, Mapping
from random import SystemRandom
from typing import Any, Final

from pydantic import JsonValue

from qfarm.store.codec import decode
from qfarm.store.connection import Connection, Document
from qfarm.store.expressions import literal
from qfarm.store.fleet import Demand, Sample
from qfarm.store.histories import RECORDS
from qfarm.store.loose import number, part, put, text
from qfarm.store.planned import hill
from qfarm.store.ready import ORDER, SEEN, ahead, ready
from qfarm.store.wish import Wish
from qfarm_schemas.arrays import Numbers
from qfarm_schemas.base import Model

COSTS: Final = "costs"
_LAST: Final = "last"

_OF_SAMPLE: Final[Document] = {
    "stage": 1,
    "store.level_id": 1,
    "provenance.partition": 1,
    "provenance.cost": 1,
    "provenance.rung.basis": 1,
    "result.numbers": 1,
}


class _Atoms(Model):
    """What a sample needs of a record's result."""

    numbers: Numbers


def demand(
    connection: Connection,
    partition: str,
    wish: Wish,
    limit: int,
    sample: int,
    spread: bool = False,
) -> Demand:
    """See `Fleet.demand`."""
    query = ready(partition, wish)
    first = limit if wish.fits is not None or spread else sample
    drawn = sample if spread and wish.fits is None else first
    found = _first(connection, query, first, drawn) if first and drawn else []
    seen = [one for item in found if (one := ahead(item)) is not None]
    fit = [one for one in seen if wish.fits is None or wish.fits(one)]
    count = len(fit) if wish.fits is not None else _count(connection, query, limit)
    if spread:
        fit = SystemRandom().sample(fit, len(fit))
    return Demand(count, tuple(fit[:sample]), _running(connection, partition))


def samples(connection: Connection, size: int) -> tuple[Sample, ...]:
    """See `Fleet.samples`."""
    pipeline: list[Document] = [{"$sample": {"size": size}}, {"$project": _OF_SAMPLE}]
    records = connection[RECORDS]
    found = connection.retry(lambda: list(records.aggregate(pipeline)))
    return tuple(_samples(found))


def keep_costs(connection: Connection, document: Mapping[str, JsonValue]) -> None:
    """See `Fleet.keep_costs`."""
    changes: Document = {"content": literal(dict(document)), "kept": "$$NOW"}
    connection.retry(lambda: put(connection.volatile(COSTS), _LAST, [{"$set": changes}]))


def costs(connection: Connection) -> Mapping[str, JsonValue]:
    """See `Fleet.costs`."""
    found = connection.retry(lambda: connection[COSTS].find_one({"_id": _LAST}))
    return part(found, "content")


def _first(connection: Connection, query: Document, first: int, drawn: int) -> list[Document]:
    """Of the first of the queue, all or as many as are drawn."""
    fireworks = connection["fireworks"]
    if drawn >= first:
        return connection.retry(lambda: list(fireworks.find(query, SEEN, sort=ORDER, limit=first)))
    pipeline: list[Document] = [
        {"$match": query},
        {"$sort": dict(ORDER)},
        {"$limit": first},
        {"$project": SEEN},
        {"$sample": {"size": drawn}},
    ]
    return connection.retry(lambda: list(fireworks.aggregate(pipeline)))


def _count(connection: Connection, query: Document, limit: int) -> int:
    fireworks = connection["fireworks"]
    return connection.retry(lambda: fireworks.count_documents(query, limit=limit)) if limit else 0


def _running(connection: Connection, partition: str) -> int:
    query = {"state": "RUNNING", "lease.worker.partition": partition}
    return connection.retry(lambda: connection["fireworks"].count_documents(query))


def _samples(found: Iterable[Mapping[str, Any]]) -> Iterable[Sample]:
    for item in found:
        provenance = part(item, "provenance")
        cost = part(provenance, "cost")
        if text(part(provenance, "rung"), "basis"):
            continue  # of a smaller basis than the level that was asked for has
        try:
            numbers = decode(_Atoms, {"numbers": part(item, "result").get("numbers")}).numbers
        except ValueError:  # changed by other hands
            continue
        yield Sample(
            partition=text(provenance, "partition"),
            stage=text(item, "stage"),
            level_id=text(part(item, "store"), "level_id"),
            formula=hill(tuple(sorted(numbers.tolist()))),
            n_atoms=len(numbers),
            wall_seconds=number(cost, "wall_seconds"),
            peak_memory_mb=number(cost, "peak_memory_mb"),
        )
