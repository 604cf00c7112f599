"""Attempts and records: one document an attempt, one a stage that is done."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeVar

from qfarm.errors import StoreError
from qfarm.store.codec import decode, encode
from qfarm.store.connection import Connection, Document
from qfarm_schemas.attempt import Attempt, Success
from qfarm_schemas.record import Record

ATTEMPTS: Final = "attempts"
RECORDS: Final = "records"

OWN: Final = ("_id", "store")
"""Fields of the store itself: `store` holds the token and launch of an attempt, and what a record
is selected and ordered by."""

_WRITERS: Final = "It was changed by other hands: restore it, or see who writes to this database."

_History = TypeVar("_History", Attempt, Record)


def attempt_id(key: str, number: int) -> str:
    """Id of an attempt's document."""
    return f"{key}:{number}"


def attempt_document(attempt: Attempt, token: str, launch: int) -> Document:
    """Document of an attempt."""
    own = {"_id": attempt_id(attempt.key, attempt.number)}
    return own | encode(attempt) | {"store": {"token": token, "launch": launch}}


def record_document(record: Record, head: Document, level_id: str, now: datetime) -> Document:
    """Document of a record, without its id.

    Parameters
    ----------
    record : Record
        The record.
    head : dict
        Its firework, as `transitions.HEAD` shows it.
    level_id : str
        Level of the stage, which the record's own may differ from after a basis fallback.
    now : datetime
        When it was committed, by the database's clock.
    """
    workflow = head["spec"]["qfarm"]["workflow"]
    own = {"workflow": workflow, "fw_id": head["fw_id"], "level_id": level_id, "committed": now}
    return encode(record) | {"store": own}


class UnreadableError(StoreError):
    """An attempt or a record is not what qfarm wrote."""


def read_attempt(document: Document) -> Attempt:
    """Attempt of its document.

    Raises
    ------
    UnreadableError
        It is none.
    """
    return _read(Attempt, ATTEMPTS, document)


def read_record(document: Document) -> Record:
    """Record of its document.

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
