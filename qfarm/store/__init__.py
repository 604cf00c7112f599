"""The job database: the `Store` protocol and the FireWorks/MongoDB store behind it."""

from collections.abc import Iterator
from contextlib import contextmanager

from qfarm.store.protocol import Store


@contextmanager
def open_store(uri: str, database: str) -> Iterator[Store]:
    """Connect to the farm's MongoDB and close the connection at the end.

    Parameters
    ----------
    uri : str
        ``mongodb://`` address of a replica set (one node will do: transactions need it).
    database : str
        Database name.

    Raises
    ------
    StoreError
        The server does not answer, refuses the user, is no replica set, or holds documents of
        another version or an unfinished restore.
    """
    from qfarm.store.mongo import MongoStore

    store = MongoStore.connect(uri, database)
    try:
        yield store
    finally:
        store.close()
