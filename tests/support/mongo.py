"""A real mongod for the tests: one for the session, a fresh database for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from qfarm.errors import StoreError
from qfarm.store import server
from qfarm.store.mongod import find_mongod
from support.needs import need


def has_mongod() -> bool:
    try:
        return find_mongod().is_file()
    except StoreError:
        return False


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a private one-node replica set with authentication."""
    need(has_mongod(), "mongod")
    folder: Path = tmp_path_factory.mktemp("mongo")
    try:
        yield server.up(folder).uri
    finally:
        server.down(folder, timeout=20, force=True)
        shutil.rmtree(folder)


@pytest.fixture
def database(mongo_uri: str) -> Iterator[str]:
    """Name of a database that no other test uses; dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    yield name
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client.drop_database(name)
