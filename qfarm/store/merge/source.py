"""Source: fragments, stages and arrays of another farm, from the index of its backup."""

from collections.abc import Callable, Iterator
from typing import Final, Self, TypeVar, cast

from qfarm.store import contents
from qfarm.store.connection import Connection, Document
from qfarm.store.contents import FRAGMENTS, STAGES
from qfarm.store.entry import Foreign
from qfarm.store.merge.index import Index
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment

_KEPT: Final = 10_000  # stages; a farm has some ten, a forged file as many as it likes

_T = TypeVar("_T")


class Source:
    """What workflows refer to, checked at each reading.

    Attributes
    ----------
    arrays : Connection
        Reads the arrays of the backup, as `qfarm.store.arrays` would those of a database.
    largest : int
        Bytes that all arrays of the backup have together.
    """

    def __init__(self, index: Index, largest: int) -> None:
        self.arrays = cast(Connection, _Reading(index))
        self.largest = largest
        self._index = index
        self._stages: dict[str, Stage] = {}

    def fragment(self, identity: str) -> Fragment | Foreign:
        """The fragment, with the labels of its first submission there."""
        return contents.intact(Fragment, identity, self._index.content(FRAGMENTS, identity))

    def stage(self, identity: str) -> Stage | Foreign:
        """The stage."""
        if identity not in self._stages:
            found = contents.intact(Stage, identity, self._index.content(STAGES, identity))
            if isinstance(found, Foreign) or len(self._stages) >= _KEPT:
                return found
            self._stages[identity] = found
        return self._stages[identity]


class _Reading:
    """The two things that `qfarm.store.arrays` asks of a connection to read from it."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._collection = ""

    def __getitem__(self, collection: str) -> Self:
        made = type(self)(self._index)
        made._collection = collection
        return made

    def retry(self, work: Callable[[], _T]) -> _T:
        return work()

    def find(self, query: Document) -> Iterator[Document]:
        for identity in query["_id"]["$in"]:
            found = self._index.content(self._collection, identity)
            if found is not None:
                yield found
