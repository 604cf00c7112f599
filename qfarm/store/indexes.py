"""The collections and their indexes."""

from functools import partial
from typing import Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from qfarm.store.connection import Connection

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
                ("spec.qfarm.position", ASCENDING),
                ("state", ASCENDING),
            ],
            name="counts",
        ),
        IndexModel("hold.token", sparse=True),
        IndexModel([("spec.qfarm.workflow", ASCENDING), ("fw_id", ASCENDING)]),
        IndexModel([("spec.qfarm.fragment_id", ASCENDING), ("fw_id", ASCENDING)]),
    ],
    "workflows": [
        IndexModel("metadata.key", unique=True, partialFilterExpression=_HAS_WORKFLOW_KEY),
        IndexModel("nodes"),
        IndexModel("state"),
    ],
    "launches": [IndexModel("launch_id", unique=True), IndexModel("fw_id")],
    "attempts": [IndexModel([("key", ASCENDING), ("number", ASCENDING)], unique=True)],
    "records": [IndexModel([("store.workflow", ASCENDING), ("store.fw_id", ASCENDING)])],
}
"""By collection. FireWorks' own, which `lpad admin tuneup` makes, come on top if one wants."""

_FIRST_IDS: Final = {"next_fw_id": 1, "next_launch_id": 1}


def ensure(connection: Connection) -> None:
    """Make what is missing; safe to repeat, and cheap when all is there."""
    for name, models in INDEXES.items():
        connection.retry(partial(connection[name].create_indexes, models))
    connection.retry(lambda: _ensure_ids(connection))


def _ensure_ids(connection: Connection) -> None:
    """FireWorks' counters, in the one document that ``lpad reset`` would make."""
    counters = connection["fw_id_assigner"]
    if counters.find_one({}, {"_id": 1}) is None:
        counters.update_one({"_id": -1}, {"$setOnInsert": _FIRST_IDS}, upsert=True)
