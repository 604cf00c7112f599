"""The stores that the conformance suite holds to the protocol; now there is one."""

from collections.abc import Iterator

import pytest

from qfarm.store import open_store
from qfarm.store.protocol import Store


@pytest.fixture
def store(mongo_uri: str, database: str) -> Iterator[Store]:
    """An empty store."""
    with open_store(mongo_uri, database) as opened:
        yield opened
