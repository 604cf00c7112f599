"""Users of a farm's database, one for each role, on the tests' MongoDB."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pymongo import MongoClient

from qfarm.store import users
from qfarm.store.roles import ROLES

PASSWORD = "s3cret of the test"


@pytest.fixture
def addresses(mongo_uri: str, database: str) -> Iterator[Mapping[str, str]]:
    """Role -> address of a user who has it; the users are called like their roles."""
    users.apply(mongo_uri, database)
    names = [role.name for role in ROLES]
    for name in names:
        users.give(mongo_uri, database, name, [name], PASSWORD)
    yield {name: users.address_of(mongo_uri, database, name, PASSWORD) for name in names}
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client[database].command("dropAllUsersFromDatabase")
        client[database].command("dropAllRolesFromDatabase")
