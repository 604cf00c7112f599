"""Attempts and records: one document an attempt, one a stage that is done."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, TypeVar

from qfarm.store import arrays
from qfarm.store.codec import UnreadableError, decode, encode
from qfarm.store.connection import Connection, Document
from qfarm_schemas.attempt import Attempt, Success
from qfarm_schemas.base import Model
from qfarm_schemas.record import Record

__all__ = [
    "ATTEMPTS",
    "OWN",
    "RECORDS",
    "UnreadableError",
    "accepted",
    "attempt_document",
    "attempt_id",
    "attempts_of",
    "read_attempt",
    "read_record",
    "record_document",
    "records_of",
]

ATTEMPTS: Final = "attempts"
RECORDS: Final = "records"

OWN: Final = ("_id", "store", arrays.USED)
"""Fields of the store itself: `store` holds the token and launch of an attempt, and what a record
is selected and ordered by; `arrays` the hashes of what it keeps outside."""

_WRITERS: Final = "It was changed by other hands: restore it, or see who writes to this database."

_History = TypeVar("_History", bound=Model)


def attempt_id(key: str, number: int) -> str:
    """Id of an attempt's document."""
    return f"{key}:{number}"


def attempt_document(attempt: Attempt, token: str, launch: int) -> Document:
    """Document of an attempt."""
    own = {"_id": attempt_id(attempt.key, attempt.number)}
    return own | encode(attempt) | {"store": {"token": token, "launch": launch}}


def record_document(record: Record, head: Document, level_id: str, now: datetime) -> Document:
    """Document of a record that has all its arrays inside, without its id; see `committed`."""
    return encode(record) | committed(head, level_id, now)


def committed(head: Document, level_id: str, now: datetime) -> Document:
    """What a record is selected and ordered by, beside its content.

    Parameters
    ----------
    head : dict
        Its firework, as `transitions.HEAD` shows it.
    level_id : str
        Level of the stage, which the record's own may differ from after a basis fallback.
    now : datetime
        When it was committed, by the database's clock.
    """
    workflow = head["spec"]["qfarm"]["workflow"]
    own = {"workflow": workflow, "fw_id": head["fw_id"], "level_id": level_id, "committed": now}
    return {"store": own}


def read_attempt(document: Document) -> Attempt:
    """Attempt of its document.

    Raises
    ------
    UnreadableError
        It is none.
    """
    return _read(Attempt, ATTEMPTS, document)


def read_record(document: Document) -> Record:
    """Record of its document, whose arrays are all inside (`arrays.fill`).

    Raises
    ------
    UnreadableError
        It is none.
    """
    return _read(Record, RECORDS, document)


def attempts_of(connection: Connection, keys: Sequence[str]) -> tuple[Attempt, ...]:
    """All attempts at some stages, each stage's oldest first.

    Raises
    ------
    UnreadableError
        The document of one was changed.
    """
    found = connection.retry(
        lambda: list(
            connection[ATTEMPTS].find({"key": {"$in": list(keys)}}).sort(["key", "number"])
        )
    )
    return tuple(map(read_attempt, found))


def records_of(connection: Connection, query: Document) -> Iterator[Record]:
    """Whole records, in order of submission; each is read with its arrays when its turn comes.

    Raises
    ------
    UnreadableError
        One was changed, or lacks an array.
    """
    found = connection.retry(lambda: list(connection[RECORDS].find(query).sort("store.fw_id")))
    return map(read_record, arrays.filled(connection, found))


def accepted(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that gave the record, if there is one."""
    return next((item for item in attempts if isinstance(item.outcome, Success)), None)


def _read(kind: type[_History], collection: str, document: Document) -> _History:
    content = {name: value for name, value in document.items() if name not in OWN}
    try:
        return decode(kind, content)
    except ValueError as error:
        where = f"{document.get('_id')!r} in the collection {collection!r}"
        said = " ".join(str(error).split())[:200]
        raise UnreadableError(f"document {where} cannot be read: {said}", _WRITERS) from error
