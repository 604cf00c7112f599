"""Large arrays outside the documents that hold them: stored once under the hash of their bytes.

An array of more than `LARGEST_INSIDE` bytes in a record is replaced by a reference ::

    {"dtype": "<f8", "shape": [310, 310], "form": "lower", "sha256": ..., "bytes": 385640,
     "chunks": 1}

and its bytes stand in the collection `arrays`, in documents ``{"_id": "<sha256>:<n>", "data":
...}`` of at most `CHUNK` bytes. They are inserted before the transaction that commits the record,
and never changed: a chunk that is there already is the same chunk. So a commit can be cut off and
repeated at any instruction; what an upload without a commit leaves is unused, and `orphans` finds
it. ``form`` is "lower" for matrices that are symmetric to the last bit, of which one triangle is
kept, and "full" for others (`qfarm_schemas.arrays.pack`).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby, islice
from typing import Any, Final, NamedTuple

import numpy as np
from pymongo.errors import BulkWriteError

from qfarm.store.codec import UnreadableError, is_array
from qfarm.store.connection import Connection, Document, Documents, is_duplicate
from qfarm_schemas.arrays import pack, packed_size, unpack

ARRAYS: Final = "arrays"
USED: Final = "arrays"
"""Field of a record's document that lists the hashes of its arrays outside."""

LARGEST_INSIDE: Final = 262_144
"""Bytes: a larger array goes outside."""

CHUNK: Final = 4 * 2**20
"""Bytes in one document of `arrays`, far from MongoDB's 16 MB."""

_SENT: Final = 4  # chunks in one insert
_LOOKED_UP: Final = 1000  # hashes that are looked up at a time
_REFERENCE: Final = frozenset({"dtype", "shape", "form", "sha256", "bytes", "chunks"})
_RESTORE: Final = (
    "Delete what was changed of it in the collection 'arrays', then bring that collection back "
    "from a backup (`unzip`, then mongorestore of arrays.bson, which leaves what is there as it "
    "is); and see who else writes to this database."
)
_RESTORE_RECORD: Final = (
    "It was changed by other hands: restore it, or see who writes to this database."
)


Read = Callable[[Sequence[str]], Mapping[str, Any]]


class Blob(NamedTuple):
    """Bytes of one array.

    Attributes
    ----------
    sha256 : str
        Their hash.
    data : bytes
        The bytes.
    """

    sha256: str
    data: bytes


class Reference(NamedTuple):
    """Where an array of a document stands.

    Attributes
    ----------
    path : str
        Of the array in its document, for instance ``result.matrices.fock``.
    sha256 : str
        Hash of its bytes.
    size : int
        Bytes.
    chunks : int
        Documents of `arrays`.
    """

    path: str
    sha256: str
    size: int
    chunks: int

    @property
    def ids(self) -> list[str]:
        """Ids of its chunks, in order."""
        return [f"{self.sha256}:{number}" for number in range(self.chunks)]


def outside(document: Document) -> tuple[Document, tuple[Blob, ...]]:
    """Take the large arrays out of a document that `codec.encode` made. Pure.

    Parameters
    ----------
    document : dict
        Unchanged.

    Returns
    -------
    dict
        The document with references, and their hashes in its field `USED`.
    tuple of Blob
        What `save` must store before the document; each once, most documents have none.
    """
    if not _any_large(document):  # as in nearly all
        return document, ()
    blobs: dict[str, Blob] = {}
    moved: Document = _moved(document, blobs)
    return moved | {USED: sorted(blobs)}, tuple(blobs.values())


def save(connection: Connection, blobs: Iterable[Blob]) -> None:
    """Store bytes, unless they are there; safe to cut off and to repeat.

    Not for use in a transaction: what it writes must outlive one that is given up.
    """
    for blob in blobs:
        ids = [f"{blob.sha256}:{number}" for number in range(_count(len(blob.data)))]
        there = connection.retry(partial(_present, connection, ids))
        for batch in _batches(number for number, id_ in enumerate(ids) if id_ not in there):
            documents = [_chunk(blob, number) for number in batch]
            connection.retry(partial(insert_new, connection[ARRAYS], documents))


def fill(connection: Connection, document: Document) -> Document:
    """The document with all its arrays inside, as `codec.encode` made it.

    Raises
    ------
    UnreadableError
        Bytes are missing, or not those that were stored.
    """
    return whole(document, partial(_read, connection))


def whole(document: Document, read: Read) -> Document:
    """`fill`, from wherever chunks are kept.

    Parameters
    ----------
    document : dict
        A document with references.
    read : callable
        Ids of chunks -> id and ``data`` of those that there are.

    Raises
    ------
    UnreadableError
        Bytes are missing, or not those that were stored.
    """
    found = references(document)
    if not found:
        return document
    data = {reference.sha256: _joined(reference, read, document) for reference in found}
    with _explained(document):
        inside: Document = _inside({k: v for k, v in document.items() if k != USED}, data)
    return inside


def filled(connection: Connection, documents: Iterable[Document]) -> Iterator[Document]:
    """`fill` for many: arrays are read when their document's turn comes, so memory stays small."""
    return (fill(connection, document) for document in documents)


def references(document: Document) -> tuple[Reference, ...]:
    """Arrays of a document that stand outside. Pure.

    Raises
    ------
    UnreadableError
        They are not as `outside` makes them.
    """
    with _explained(document):
        return tuple(_references(document, ""))


def copy(source: Connection, target: Connection, document: Document) -> None:
    """Bring the arrays of a document from one database to another, before the document itself.

    Raises
    ------
    UnreadableError
        They are damaged in the first.
    """
    for reference in references(document):
        data = _joined(reference, partial(_read, source), document)
        save(target, (Blob(reference.sha256, data),))


def orphans(connection: Connection, collection: str) -> Iterator[str]:
    """Ids of chunks that no document of a collection uses: left by uploads without a commit.

    One of a worker that is just about to commit looks the same: only `sweep` may remove any.
    """
    found = connection[ARRAYS].find({}, {"_id": 1}).sort("_id", 1)
    for page in _pages(item["_id"] for item in found):
        hashes = sorted({id_.partition(":")[0] for id_ in page})
        used = in_use(connection, collection, hashes)
        yield from (id_ for id_ in page if id_.partition(":")[0] not in used)


def incomplete(connection: Connection, collection: str) -> Iterator[tuple[str, str]]:
    """Documents that lack chunks of their arrays: their ids, and what is wrong.

    Only presence is looked at; reading a record checks the hashes.
    """
    for document in connection[collection].find({USED: {"$exists": True}}):
        try:
            for reference in references(document):
                _refuse_missing(connection, document, reference)
        except UnreadableError as error:
            yield str(document["_id"]), error.what


@contextmanager
def _explained(document: Document) -> Iterator[None]:
    """Turn what NumPy says of a type, size or shape that it cannot have into what to do."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, SyntaxError) as error:
        what = f"the references to arrays of the record {document.get('_id')!r} were changed"
        raise UnreadableError(f"{what}: {error}", _RESTORE_RECORD) from error


def _count(size: int) -> int:
    return -(-size // CHUNK)


def _any_large(value: Any) -> bool:
    kind = type(value)
    if kind is list:
        return any(map(_any_large, value))
    if kind is not dict:
        return False
    if is_array(value):
        return len(value["data"]) > LARGEST_INSIDE
    return any(map(_any_large, value.values()))


def _moved(value: Any, blobs: dict[str, Blob]) -> Any:
    if is_array(value):
        return _reference(value, blobs) if len(value["data"]) > LARGEST_INSIDE else value
    if isinstance(value, Mapping):
        return {key: _moved(item, blobs) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, blobs) for item in value]
    return value


def _reference(value: Mapping[str, Any], blobs: dict[str, Blob]) -> Document:
    array = np.frombuffer(value["data"], np.dtype(value["dtype"])).reshape(value["shape"])
    form, data = pack(array)
    blob = Blob(hashlib.sha256(data).hexdigest(), data)
    blobs[blob.sha256] = blob
    return {
        "dtype": value["dtype"],
        "shape": value["shape"],
        "form": form,
        "sha256": blob.sha256,
        "bytes": len(data),
        "chunks": _count(len(data)),
    }


def _is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == _REFERENCE


def _references(value: Any, path: str) -> Iterator[Reference]:
    if _is_reference(value):
        yield _sound(Reference(path, value["sha256"], value["bytes"], value["chunks"]), value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _references(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _references(item, f"{path}.{number}")


def _sound(reference: Reference, value: Mapping[str, Any]) -> Reference:
    """The reference, if its sizes fit together."""
    size = packed_size(value["form"], value["dtype"], value["shape"])
    if (reference.size, reference.chunks) != (size, _count(size)):
        raise ValueError(f"{reference.path!r} has {reference.size} bytes, not {size}")
    return reference


def _inside(value: Any, data: Mapping[str, bytes]) -> Any:
    if _is_reference(value):
        array = unpack(value["form"], data[value["sha256"]], value["dtype"], value["shape"])
        return {"dtype": value["dtype"], "shape": value["shape"], "data": array.tobytes()}
    if isinstance(value, Mapping):
        return {key: _inside(item, data) for key, item in value.items()}
    if isinstance(value, list):
        return [_inside(item, data) for item in value]
    return value


def _present(connection: Connection, ids: Sequence[str]) -> set[str]:
    found = connection[ARRAYS].find({"_id": {"$in": list(ids)}}, {"_id": 1})
    return {item["_id"] for item in found}


def _refuse_missing(connection: Connection, document: Document, reference: Reference) -> None:
    there = connection.retry(partial(_present, connection, reference.ids))
    missing = [id_ for id_ in reference.ids if id_ not in there]
    if missing:
        raise _lacks(reference, document, missing[0])


def insert_new(target: Documents, documents: Sequence[Document]) -> None:
    """Insert chunks, but for those that are there."""
    try:
        target.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        if not is_duplicate(error) or error.details.get("writeConcernErrors"):
            raise


def _chunk(blob: Blob, number: int) -> Document:
    start = number * CHUNK
    return {"_id": f"{blob.sha256}:{number}", "data": blob.data[start : start + CHUNK]}


def _read(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    query = {"_id": {"$in": list(ids)}}
    found = connection.retry(lambda: list(connection[ARRAYS].find(query)))
    return {item["_id"]: item.get("data") for item in found}


def _joined(reference: Reference, read: Read, document: Document) -> bytes:
    """Bytes of an array, checked."""
    chunks = read(reference.ids)
    missing = [id_ for id_ in reference.ids if not isinstance(chunks.get(id_), bytes)]
    if missing:
        raise _lacks(reference, document, missing[0])
    data = b"".join(chunks[id_] for id_ in reference.ids)
    if len(data) != reference.size or hashlib.sha256(data).hexdigest() != reference.sha256:
        raise _unreadable(reference, document, f"chunks of {reference.sha256!r} were changed")
    return data


def _lacks(reference: Reference, document: Document, id_: str) -> UnreadableError:
    return _unreadable(reference, document, f"{id_!r} is not in the collection 'arrays'")


def _unreadable(reference: Reference, document: Document, what: str) -> UnreadableError:
    whole = f"array {reference.path!r} of the record {document.get('_id')!r}"
    return UnreadableError(f"{whole} cannot be read: {what}", _RESTORE)


def in_use(connection: Connection, collection: str, hashes: Sequence[str]) -> set[str]:
    """Those of the hashes that some document of a collection uses."""
    query = {USED: {"$in": list(hashes)}}
    return set(connection.retry(partial(connection[collection].distinct, USED, query)))


def _batches(numbers: Iterable[int]) -> Iterator[list[int]]:
    for _, batch in groupby(enumerate(numbers), key=lambda pair: pair[0] // _SENT):
        yield [number for _, number in batch]


def _pages(ids: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(ids)
    while page := list(islice(remaining, _LOOKED_UP)):
        yield page
