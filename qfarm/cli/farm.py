"""The farm of the current folder, with its store opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from qfarm import config
from qfarm.store import open_store
from qfarm.store.protocol import Store


class OpenFarm(NamedTuple):
    """Configuration and store of one farm."""

    farm: config.Farm
    store: Store


@contextmanager
def open_farm() -> Iterator[OpenFarm]:
    """Read the configuration and connect to the farm's MongoDB.

    Raises
    ------
    ConfigError
        The configuration is wrong.
    StoreError
        There is no MongoDB, or it does not answer.
    """
    farm = config.load()
    with open_store(config.mongo_uri(farm), farm.config.mongo.database) as store:
        yield OpenFarm(farm, store)
