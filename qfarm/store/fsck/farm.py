"""What concerns the farm as a whole: FireWorks' counters, unique indexes, arrays nobody uses."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from pymongo import UpdateOne
from pymongo.errors import OperationFailure

from qfarm.store import arrays, indexes
from qfarm.store.connection import Connection, Document, RefusedError
from qfarm.store.fsck.model import Found, integer
from qfarm.store.histories import RECORDS
from qfarm.store.sweep import sweep

COUNTERS: Final = "fw_id_assigner"


def highest(connection: Connection, collection: str, name: str) -> int:
    """The highest id that documents bear."""
    query = {name: {"$type": "number"}}
    found = connection.retry(
        lambda: connection[collection].find_one(query, {name: 1}, sort=[(name, -1)])
    )
    return 0 if found is None else integer(found[name])


def counters(connection: Connection, used: Document) -> Iterator[Found]:
    """Counters that would give ids that are in use.

    Parameters
    ----------
    connection : Connection
        The database.
    used : dict
        Counter -> highest id in use, as read before.
    """
    there = connection.retry(lambda: list(connection[COUNTERS].find()))
    if len(there) != 1:
        yield Found(COUNTERS, f"holds {len(there)} documents in place of one")
    for name, number in used.items():
        said = min((integer(item.get(name)) for item in there), default=0)
        if there and said <= number:
            yield Found(name, f"gives {said} next, but {number} is in use")


def count_on(connection: Connection, used: Document) -> None:
    """Make one document whose counters lie above all that is in use and was ever given."""
    there = connection.retry(lambda: list(connection[COUNTERS].find()))
    above = {
        name: max(number + 1, *(integer(item.get(name)) for item in there), 1)
        for name, number in used.items()
    }
    keep = there[0]["_id"] if there else -1
    update = UpdateOne(
        {"_id": keep}, [{"$set": {n: _at_least(n, v) for n, v in above.items()}}], upsert=True
    )
    connection.retry(lambda: connection[COUNTERS].bulk_write([update]))
    extra = [item["_id"] for item in there[1:]]
    connection.retry(lambda: connection[COUNTERS].delete_many({"_id": {"$in": extra}}))


def _at_least(name: str, number: int) -> Document:
    """The counter, or the number if it is none or lower."""
    usable = {"$isNumber": f"${name}"}
    return {"$cond": [usable, {"$max": [f"${name}", number]}, number]}


def unique(connection: Connection) -> Iterator[Found]:
    """Unique indexes that are missing."""
    for collection, models in indexes.INDEXES.items():
        found = connection.retry(
            partial(lambda name: list(connection[name].list_indexes()), collection)
        )
        there = {item["name"] for item in found if item.get("unique")}
        for model in models:
            name = model.document["name"]
            if model.document.get("unique") and name not in there:
                yield Found(f"{collection}.{name}", "the index is missing, or not unique")


def unique_indexes() -> int:
    """How many indexes must be unique."""
    every = (model for models in indexes.INDEXES.values() for model in models)
    return sum(bool(model.document.get("unique")) for model in every)


def index_again(connection: Connection) -> None:
    """Make the indexes, as far as no twins stand in the way."""
    with suppress(OperationFailure, RefusedError):
        indexes.ensure(connection)


def unused_arrays(connection: Connection) -> int | None:
    """How many chunks of arrays no record uses; None while a worker may be about to use one."""
    if under_way(connection):
        return None
    return sum(1 for _ in arrays.orphans(connection, RECORDS))


def sweep_arrays(connection: Connection) -> int:
    """Remove chunks of arrays that no record uses, unless a stage runs; how many."""
    return sweep(connection, RECORDS, lambda: under_way(connection))


def under_way(connection: Connection) -> bool:
    """Whether any stage runs."""
    query = {"state": "RUNNING"}
    found = connection.retry(lambda: connection["fireworks"].find_one(query, {"_id": 1}))
    return found is not None
