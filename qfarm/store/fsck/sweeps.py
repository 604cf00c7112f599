"""Sweeps: what belongs to nothing, found by going through indexes side by side.

Indexes in the same order are read like sorted lists, a stretch of all of them at a time, so that no
document is looked up and memory stays small. What looks lost is a suspicion: workers write
meanwhile.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from qfarm.store.connection import Connection
from qfarm.store.contents import FRAGMENTS, STAGES
from qfarm.store.histories import ATTEMPTS, RECORDS

_STRETCH: Final = 20_000


class Index(NamedTuple):
    """Texts that an index holds in order."""

    collection: str
    path: str
    pick: Callable[[Any], str]


STAGE_KEYS: Final = Index("fireworks", "spec.qfarm.key", lambda d: d["spec"]["qfarm"]["key"])
FRAGMENT_IDS: Final = Index(
    "fireworks", "spec.qfarm.fragment_id", lambda d: d["spec"]["qfarm"]["fragment_id"]
)
ATTEMPT_KEYS: Final = Index(ATTEMPTS, "key", lambda d: d["key"])
RECORD_KEYS: Final = Index(RECORDS, "_id", lambda d: d["_id"])
FRAGMENT_KEYS: Final = Index(FRAGMENTS, "_id", lambda d: d["_id"])
STAGE_IDS: Final = Index(STAGES, "_id", lambda d: d["_id"])

Read = Callable[[Index, str, int], list[str]]


def stretches(
    read: Read, indexes: Sequence[Index], size: int = _STRETCH
) -> Iterator[list[list[str]]]:
    """Texts of several indexes, sorted, a stretch at a time; each text is in one stretch only.

    Parameters
    ----------
    read : callable
        Index, a text and a number -> so many texts after that one, in order; fewer at the end.
    indexes : sequence of Index
        What to read side by side.
    size : int
        Texts read at a time from each.
    """
    waiting: list[list[str]] = [[] for _ in indexes]
    ended = [False] * len(indexes)
    last = [""] * len(indexes)
    while not all(ended) or any(waiting):
        for place, index in enumerate(indexes):
            if len(waiting[place]) < size and not ended[place]:
                batch = read(index, last[place], size)
                ended[place] = len(batch) < size
                waiting[place] += batch
                last[place] = batch[-1] if batch else last[place]
        until = min((last[place] for place in range(len(indexes)) if not ended[place]), default="")
        cuts = [bisect_right(texts, until) if until else len(texts) for texts in waiting]
        yield [texts[:cut] for texts, cut in zip(waiting, cuts, strict=True)]
        waiting = [texts[cut:] for texts, cut in zip(waiting, cuts, strict=True)]


def reader(connection: Connection) -> Read:
    """Read from MongoDB, from indexes alone."""
    return partial(_texts, connection)


def _texts(connection: Connection, index: Index, after: str, size: int) -> list[str]:
    """Texts after one; where one fills a batch, it is not repeated in the next."""
    fields = {index.path: 1} if index.path == "_id" else {"_id": 0, index.path: 1}
    found = connection[index.collection].find({index.path: {"$gt": after}}, fields)
    ordered = found.sort(index.path).limit(size).batch_size(size)
    return list(map(index.pick, connection.retry(lambda: ordered.clone().to_list())))
