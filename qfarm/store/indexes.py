"""The collections and their indexes."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from qfarm.errors import StoreError
from qfarm.store.connection import Connection
from qfarm.store.roles import NotAllowedError

_HAS_KEY: Final = {"spec.qfarm.key": {"$exists": True}}  # with $type queries would not use it
_HAS_WORKFLOW_KEY: Final = {"metadata.key": {"$exists": True}}

INDEXES: Final = {
    "fireworks": [
        IndexModel("fw_id", unique=True),
        IndexModel("spec.qfarm.key", unique=True, partialFilterExpression=_HAS_KEY),
        IndexModel(
            [
                ("state", ASCENDING),
                ("spec._category", ASCENDING),
                ("spec._priority", DESCENDING),
                ("fw_id", ASCENDING),
            ],
            name="claim",
        ),
        IndexModel(
            [
                ("spec.qfarm.stage", ASCENDING),
                ("state", ASCENDING),
                ("spec._category", ASCENDING),
                ("spec._priority", DESCENDING),
                ("fw_id", ASCENDING),
                ("spec.qfarm.position", ASCENDING),  # for `Store.counts`, which reads it alone
            ],
            name="stages",
        ),
        IndexModel([("spec.qfarm.workflow", ASCENDING), ("fw_id", ASCENDING)]),
        IndexModel([("spec.qfarm.fragment_id", ASCENDING), ("fw_id", ASCENDING)]),
    ],
    "workflows": [
        IndexModel("metadata.key", unique=True, partialFilterExpression=_HAS_WORKFLOW_KEY),
        IndexModel("nodes"),
        IndexModel("state"),
        IndexModel("locked", sparse=True),
    ],
    "launches": [IndexModel("launch_id", unique=True), IndexModel("fw_id")],
    "attempts": [
        IndexModel([("key", ASCENDING), ("number", ASCENDING)], unique=True),
        IndexModel(
            [("outcome.kind", ASCENDING), ("finished", ASCENDING)],
            name="failures",
            partialFilterExpression={"outcome.kind": {"$exists": True}},
        ),
    ],
    "jobs": [IndexModel([("partition", ASCENDING), ("ended", ASCENDING)])],
    "records": [
        IndexModel([("store.workflow", ASCENDING), ("store.fw_id", ASCENDING)]),
        IndexModel("arrays", sparse=True),
    ],
}
"""By collection. FireWorks' own, which `lpad admin tuneup` makes, come on top if one wants."""

_FIRST_IDS: Final = {"next_fw_id": 1, "next_launch_id": 1}


def ensure(connection: Connection) -> None:
    """Make what is missing; safe to repeat, and cheap when all is there.

    Only administrators may make indexes. Who may not goes on without those that only save time.

    Raises
    ------
    StoreError
        An index that keeps two from doing the same is missing, and the user may not make it.
    """
    for name in INDEXES:
        if lacking := _lacking(connection, name):
            _make(connection, name, lacking)
    try:
        connection.retry(lambda: _ensure_ids(connection))
    except NotAllowedError as error:
        raise _not_set_up(connection, "the counters in 'fw_id_assigner'", error) from None


def _lacking(connection: Connection, name: str) -> list[IndexModel]:
    listed = connection.retry(lambda: list(connection[name].list_indexes()))
    there = {index["name"]: index for index in listed}
    return [
        model
        for model in INDEXES[name]
        if not _is_as(model.document, there.get(model.document["name"], {}))
    ]


def _is_as(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether an index is there with all its options; the order of its fields counts."""
    same = all(found.get(option) == value for option, value in wanted.items())
    return same and list(found["key"]) == list(wanted["key"])


def _make(connection: Connection, name: str, models: list[IndexModel]) -> None:
    try:
        connection.retry(partial(connection[name].create_indexes, models))
    except NotAllowedError as error:
        unique = [model.document["name"] for model in models if model.document.get("unique")]
        if unique:
            what = f"the unique index {unique[0]!r} of {name!r}"
            raise _not_set_up(connection, what, error) from None


def _not_set_up(connection: Connection, lacks: str, error: NotAllowedError) -> StoreError:
    return StoreError(
        f"the database {connection.database.name!r} at {connection.where} is not set up for a "
        f"farm: {lacks} is missing ({error.what})",
        "Ask its administrator to run `qfarm roles apply` once, or correct `mongo.database`.",
    )


def _ensure_ids(connection: Connection) -> None:
    """FireWorks' counters, in the one document that ``lpad reset`` would make."""
    counters = connection["fw_id_assigner"]
    if counters.find_one({}, {"_id": 1}) is None:
        counters.update_one({"_id": -1}, {"$setOnInsert": _FIRST_IDS}, upsert=True)
