"""Trust: what a backup may ask of MongoDB.

The sum of a backup tells damage, not forgery. So nothing of a file that comes from elsewhere may
make MongoDB do more than hold documents: an index that lets documents expire, for one, would
delete records long after the restore.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from bson.errors import BSONError
from bson.json_util import loads

from qfarm.errors import UserError

OPTIONS: Final = frozenset({"collation"})
"""Options of a collection that only say how its texts are sorted."""

INDEX: Final = frozenset(
    {
        "v",
        "key",
        "name",
        "unique",
        "sparse",
        "partialFilterExpression",
        "collation",
        "background",
    }
)
"""Fields of an index that neither change nor delete a document."""

RESERVED: Final = ("system.", "restoring.")
"""Beginnings of names that MongoDB and a restore keep for themselves."""

_SERVERS_OWN: Final = ("admin", "local", "config")
_NOT_IN_NAMES: Final = frozenset('/\\. "$*<>:|?\0')  # MongoDB's, those of Windows among them
_LONGEST: Final = 63  # bytes; MongoDB's limit for names of databases


class BackupError(UserError):
    """A backup cannot be written, is damaged, or does not fit where it shall go."""


class Metadata(NamedTuple):
    """Options and indexes of a collection; not that of `_id`, which MongoDB builds by itself."""

    options: dict[str, Any]
    indexes: list[dict[str, Any]]


def metadata(text: str, name: str) -> Metadata:
    """Read options and indexes as `mongodump` writes them.

    Raises
    ------
    BackupError
        It is something else, or asks for more than to hold documents and to find them.
    """
    try:
        found = loads(text)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, BSONError) as error:
        raise _unreadable(name, type(error).__name__) from None
    if not isinstance(found, dict):
        raise _unreadable(name, "no object")
    options, indexes = found.get("options", {}), found.get("indexes", [])
    if not isinstance(options, dict) or not isinstance(indexes, list):
        raise _unreadable(name, "options or indexes are of another kind")
    read = Metadata(options, [_index(item, name) for item in indexes])
    _refuse_unknown(name, "the collection", options, OPTIONS)
    for index in read.indexes:
        _refuse_unknown(name, f"its index {index['name']!r}", index, INDEX)
    return Metadata(options, [index for index in read.indexes if index["name"] != "_id_"])


def _index(item: object, name: str) -> dict[str, Any]:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise _unreadable(name, "an index without a name")
    if not isinstance(item.get("key"), dict):
        raise _unreadable(name, f"index {item['name']!r} without a key")
    return {field: value for field, value in item.items() if field != "ns"}  # of older servers


def _refuse_unknown(name: str, what: str, fields: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(fields) - known)
    if unknown:
        raise BackupError(
            f"{name!r}: {what} has {', '.join(unknown)}, which qfarm never sets and does not "
            "restore (it may delete or change documents)",
            "See who set it. Drop it in the farm, and back it up again; or, if you trust the file, "
            "restore without qfarm: `unzip FILE -d dump; mongorestore dump`.",
        )


def _unreadable(name: str, said: str) -> BackupError:
    return BackupError(
        f"options and indexes of {name!r} in the backup cannot be read: {said}",
        "Use another backup; this one cannot be trusted in any part.",
    )


def refuse_names(names: list[str]) -> None:
    """Refuse collections that stand twice in a manifest, or whose names are not for farms.

    Raises
    ------
    BackupError
        One is there.
    """
    for name, times in Counter(names).items():
        if times > 1 or not name or set(name) & {"$", "\0"} or name.startswith(RESERVED):
            why = "stands there twice" if times > 1 else "is no name of a farm's collection"
            raise BackupError(
                f"the backup's manifest names a collection {name!r}, which {why}",
                "qfarm did not write it so: use another backup.",
            )


def refuse_database(name: str) -> None:
    """Refuse a name that no database, or no farm, can have.

    Raises
    ------
    BackupError
        It is one.
    """
    if name in _SERVERS_OWN:
        raise BackupError(f"{name!r} is a database of MongoDB itself", "Name another one.")
    if not name or set(name) & _NOT_IN_NAMES or len(name.encode()) > _LONGEST:
        raise BackupError(
            f"{name!r} cannot be the name of a database",
            f"Use up to {_LONGEST} letters, digits, - and _.",
        )


def version_document(found: Mapping[str, Any] | None, expected: int) -> dict[str, Any]:
    """The document that says the version; farms of version 1 may lack it.

    Raises
    ------
    BackupError
        It says another version than the manifest, or that the database is but a part.
    """
    if found is None:
        return {"_id": "version", "version": expected}
    number = found.get("version")
    if type(number) is bool or not isinstance(number, int) or number != expected:
        raise BackupError(
            f"the backup holds documents of version {number!r}, but its manifest says {expected}",
            "qfarm did not write it so: use another backup.",
        )
    if "restoring" in found:
        raise BackupError(
            "the backup is of a database that was itself being restored", "Use another backup."
        )
    return dict(found)
