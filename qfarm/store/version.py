"""The version of the documents' layout: kept in the database, checked whenever a farm is opened.

One document says it, in a collection of its own::

    schema: {_id: "version", version: 3, written_by: "0.1.0"}

While a backup is copied in, that document has a field `restoring` too, so that what is half there
is not taken for a farm.
"""

from functools import partial
from importlib.metadata import version as installed
from typing import Any, Final

from pymongo.errors import OperationFailure

from qfarm.errors import StoreError
from qfarm.store.connection import Connection, Document

CURRENT: Final = 3
"""Layout that this qfarm reads and writes; each step to a later one is in `migrations`."""

SCHEMA: Final = "schema"
VERSION: Final = "version"
RESTORING: Final = "restoring"
RENAMING: Final = "renaming"
"""Value of ``restoring.phase`` once all is copied and checked; before it is ``"copying"``."""

_WITHOUT_MARK: Final = 1  # farms of version 1 were begun before the version was written down
_OF_VERSION_1: Final = ("fragments", "stages")  # whoever submitted anything has documents there
_UNAUTHORISED: Final = 13


def check(connection: Connection, current: int = CURRENT) -> None:
    """Refuse a database that this qfarm must not work on; one read, if all is well.

    An empty database, and one of version 1 that does not say so yet, is given its version. Users
    who may only read are let in all the same.

    Raises
    ------
    StoreError
        The layout is older or newer, or a restore has not ended.
    """
    found = read(connection)
    if found is None:
        version = presumed(connection, current)
        connection.retry(partial(_write, connection, version))
    else:
        version = whole(connection, found)
    refuse_newer(connection, version, current)
    if version < current:
        raise StoreError(
            f"{place(connection)} has documents of version {version}; this qfarm needs version "
            f"{current}",
            "Stop all workers, keep a copy (`qfarm backup FILE`), then run `qfarm migrate`.",
        )


def read(connection: Connection, session: Any = None) -> Document | None:
    """The document that says the version."""
    schema = connection[SCHEMA]
    return connection.retry(lambda: schema.find_one({"_id": VERSION}, session=session))


def presumed(connection: Connection, current: int, session: Any = None) -> int:
    """Version of a database that says none: the first, or the current one if it is empty."""
    for name in _OF_VERSION_1:
        one = partial(connection[name].find_one, {}, {"_id": 1}, session=session)
        if connection.retry(one) is not None:
            return _WITHOUT_MARK
    return current


def whole(connection: Connection, found: Document) -> int:
    """Version that the document says.

    Raises
    ------
    StoreError
        A restore has not ended, or the document was changed by other hands.
    """
    if RESTORING in found:
        raise unfinished(connection, found)
    number = found.get("version")
    if not isinstance(number, int) or number < 1:
        raise StoreError(
            f"{place(connection)} says {number!r} as the version of its documents",
            f"It was changed by other hands: correct `version` in the collection {SCHEMA!r}.",
        )
    return number


def refuse_newer(connection: Connection, version: int, current: int) -> None:
    """Refuse what a later qfarm wrote.

    Raises
    ------
    StoreError
        It did.
    """
    if version > current:
        raise StoreError(
            f"{place(connection)} was written by a newer qfarm: its documents are of version "
            f"{version}, this qfarm ({installed('qfarm')}) knows {current}",
            "Upgrade qfarm here to the version that the other machines have.",
        )


def unfinished(connection: Connection, found: Document) -> StoreError:
    """Error that says how a restore that was cut off is ended."""
    if found[RESTORING].get("phase") == RENAMING:
        return StoreError(
            f"a restore into {place(connection)} was cut off in its last step, or still runs",
            "Run the same `qfarm restore FILE` again: it ends what is left.",
        )
    return StoreError(
        f"{place(connection)} holds part of a backup: a restore was cut off, or still runs",
        "Run `qfarm restore FILE --drop-partial`, which begins again; or use another database.",
    )


def place(connection: Connection) -> str:
    """The database in words."""
    return f"database {connection.database.name!r} on {connection.where}"


def _write(connection: Connection, version: int) -> None:
    """Write the version unless another process just did, or this user may not."""
    fields = {"version": version, "written_by": installed("qfarm")}
    try:
        connection[SCHEMA].update_one({"_id": VERSION}, {"$setOnInsert": fields}, upsert=True)
    except OperationFailure as error:
        if error.code != _UNAUTHORISED:
            raise
