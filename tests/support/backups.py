"""Backups of the tests' databases, and what is compared after a restore."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from qfarm.store import backup, upkeep
from qfarm.store.backup.dumping import OF_LAUNCHERS
from qfarm.store.protocol import Store
from support.work import fail, finish, plans, take, worker

Raw = Database[dict[str, Any]]
Documents = dict[str, list[dict[str, Any]]]


@pytest.fixture
def other(mongo_uri: str) -> Iterator[str]:
    """Name of an empty database beside the test's own."""
    name = f"test_{uuid4().hex[:12]}"
    yield name
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client.drop_database(name)


def save(uri: str, database: str, path: Path) -> backup.Manifest:
    with path.open("xb") as file:
        return backup.save(uri, database, file)


def documents(found: Raw) -> Documents:
    """All that a backup holds of a database: not the lock of upkeep, which comes and goes."""
    names = sorted(set(found.list_collection_names()) - set(OF_LAUNCHERS))
    query = {"_id": {"$ne": upkeep.LOCK}}
    return {name: list(found[name].find(query).sort("$natural", 1)) for name in names}


def some_of_all(store: Store) -> None:
    """A done, a failing, a running and a ready workflow."""
    store.add(plans(4))
    for step in (finish, fail):
        step(store, take(store, worker()))
    take(store, worker("w1"), 0.5)
