"""Sweep: remove chunks of arrays that no record uses, and none that one is about to use.

An upload finds that a chunk is there, leaves it at that, and commits later. A sweep that removed
the chunk in between would leave a record without its array. So chunks are moved aside, into
`SWEPT`, then it is looked whether a stage runs or a record uses them by now: an upload from before
the move belongs to a stage that runs, or to a record that is there. If so they are put back. What
a sweep that was killed has left aside, the next one puts back first.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from qfarm.store.arrays import ARRAYS, in_use, insert_new, orphans
from qfarm.store.connection import Connection, Document

SWEPT: Final = "arrays_swept"

_AT_ONCE: Final = 4  # chunks; up to 16 MB


def sweep(connection: Connection, collection: str, busy: Callable[[], bool]) -> int:
    """Remove the unused chunks; how many. Stops early as soon as anything runs.

    Parameters
    ----------
    connection : Connection
        The database.
    collection : str
        Where the documents are that use arrays.
    busy : callable
        Whether any stage runs.
    """
    put_back(connection)
    unused, removed = orphans(connection, collection), 0
    while not busy() and (page := list(islice(unused, _AT_ONCE))):
        removed += _move_aside(connection, collection, page, busy)
    return removed


def put_back(connection: Connection) -> None:
    """Put back what a sweep that was killed has moved aside."""
    for page in _pages(connection):
        _give_back(connection, page, page)


def _move_aside(
    connection: Connection, collection: str, ids: list[str], busy: Callable[[], bool]
) -> int:
    chunks = connection.retry(lambda: list(connection[ARRAYS].find({"_id": {"$in": ids}})))
    if not chunks:
        return 0
    connection.retry(partial(insert_new, connection[SWEPT], chunks))
    connection.retry(partial(connection[ARRAYS].delete_many, {"_id": {"$in": ids}}))
    hashes = sorted({_hash(chunk) for chunk in chunks})
    wanted = set(hashes) if busy() else in_use(connection, collection, hashes)
    kept = [chunk for chunk in chunks if _hash(chunk) in wanted]
    _give_back(connection, kept, chunks)
    return len(chunks) - len(kept)


def _give_back(connection: Connection, chunks: list[Document], aside: list[Document]) -> None:
    """Put some of the chunks that are aside back, then forget all of these."""
    if chunks:
        connection.retry(partial(insert_new, connection[ARRAYS], chunks))
    ids = [chunk["_id"] for chunk in aside]
    connection.retry(partial(connection[SWEPT].delete_many, {"_id": {"$in": ids}}))


def _pages(connection: Connection) -> Iterator[list[Document]]:
    first = partial(connection[SWEPT].find, limit=_AT_ONCE)
    while page := connection.retry(lambda: list(first())):
        yield page


def _hash(chunk: Document) -> str:
    return str(chunk["_id"]).partition(":")[0]
