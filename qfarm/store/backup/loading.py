"""Load: a backup into an empty database, whole or not at all.

The documents go into collections named ``restoring.*``, which no worker looks at; they are read
back and compared with the backup, byte by byte, and get their indexes. Only then are the
collections renamed, FireWorks' queue last, and the database is marked as a farm. Killed before the
renaming, a restore leaves the mark of a part, which no store opens; killed during it, the next
restore ends it.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version as installed
from typing import Any, Final

import bson
from bson.json_util import loads
from bson.raw_bson import RawBSONDocument
from pymongo.errors import ConnectionFailure, PyMongoError

from qfarm.store import version
from qfarm.store.backup.archive import Backup, BackupError, Report, Saved, Step, Tally, count
from qfarm.store.backup.dumping import MANY, PARTIAL
from qfarm.store.connection import Connection, Document
from qfarm.store.upkeep import LEASE, LOCK, Upkeep, upkeep
from qfarm.store.version import RENAMING, RESTORING, SCHEMA, VERSION

_BATCH: Final = 8 * 2**20  # bytes of documents that are sent at once
_QUEUE: Final = "fireworks"  # nothing can be claimed before it is there
_ANOTHER: Final = "Name a database that is empty with --database."

_NO_FARM: Final = {
    SCHEMA: {"_id": {"$nin": [VERSION, LOCK]}},
    "fw_id_assigner": {"$nor": [{"next_fw_id": 1, "next_launch_id": 1}]},
    "doctor": {"_id": {"$ne": "doctor"}},
}
"""What is more than qfarm puts into an empty database as soon as it looks at it."""


def load(
    connection: Connection,
    backup: Backup,
    drop_partial: bool,
    report: Report,
    lease: float = LEASE,
) -> None:
    """Write a backup into an empty database.

    Parameters
    ----------
    connection : Connection
        The database.
    backup : Backup
        A verified backup.
    drop_partial : bool
        Drop what a restore that was cut off has left.
    report : callable
        Told how far it is.
    lease : float
        Seconds after which others may follow when this process is killed.

    Raises
    ------
    BackupError
        The database is not empty, MongoDB went away, or does not give back what was written.
    StoreError
        Part of a restore is there, or another process restores or migrates.
    """
    _refuse_newer(backup)
    with _explained(connection), upkeep(connection, "qfarm restore", lease) as lock:
        mark = version.read(connection) or {}
        if mark.get(RESTORING, {}).get("phase") == RENAMING:
            _finish(connection, mark[RESTORING], backup)
            return
        if RESTORING in mark and not drop_partial:
            raise version.unfinished(connection, mark)
        _begin(connection, backup, mark)
        parts = [saved for saved in backup.manifest.collections if saved.name != SCHEMA]
        for saved in parts:
            _copy(connection, lock, backup, saved, report)
        for saved in parts:
            _compare(connection, lock, saved, report)
            _index(connection, backup, saved)
        lock.check()
        _mark(connection, RENAMING, backup)
        _finish(connection, {"taken": str(backup.manifest.taken)}, backup)


def _refuse_newer(backup: Backup) -> None:
    found = backup.manifest.schema_version
    if found > version.CURRENT:
        raise BackupError(
            f"the backup was made by qfarm {backup.manifest.qfarm_version} and holds documents of "
            f"version {found}; this qfarm ({installed('qfarm')}) knows {version.CURRENT}",
            "Upgrade qfarm, then restore.",
        )


def _begin(connection: Connection, backup: Backup, mark: Document) -> None:
    """Mark the database as a part, see that nothing else is in it, and drop older parts."""
    _refuse_full(connection)
    _mark(connection, "copying", backup)
    try:
        _refuse_full(connection)  # again: from now on no store opens it
    except BaseException:
        if RESTORING not in mark:
            _unmark(connection, mark)
        raise
    for name in connection.database.list_collection_names():
        if name.startswith(PARTIAL):
            connection.database.drop_collection(name)


def _refuse_full(connection: Connection) -> None:
    full = [name for name in _names(connection) if _has_content(connection, name)]
    if full:
        raise BackupError(
            f"{version.place(connection)} is not empty: there are documents in {', '.join(full)}",
            _ANOTHER,
        )


def _has_content(connection: Connection, name: str) -> bool:
    return connection[name].find_one(_NO_FARM.get(name, {}), {"_id": 1}) is not None


def _names(connection: Connection) -> list[str]:
    """Collections that are no part of a restore."""
    names = sorted(connection.database.list_collection_names())
    return [name for name in names if not name.startswith(("system.", PARTIAL))]


def _mark(connection: Connection, phase: str, backup: Backup) -> None:
    fields = {RESTORING: {"phase": phase, "taken": str(backup.manifest.taken)}}
    connection[SCHEMA].update_one({"_id": VERSION}, {"$set": fields}, upsert=True)


def _unmark(connection: Connection, before: Document) -> None:
    if before:
        connection[SCHEMA].replace_one({"_id": VERSION}, before)
    else:
        connection[SCHEMA].delete_one({"_id": VERSION})


def _copy(
    connection: Connection, lock: Upkeep, backup: Backup, saved: Saved, report: Report
) -> None:
    """Write the documents of one collection."""
    options = loads(backup.metadata(saved))["options"]
    target = connection.database.create_collection(PARTIAL + saved.name, **options)
    done, what = 0, f"restoring {saved.name}"
    for batch in _batches(backup.documents(saved)):
        lock.check()
        target.insert_many([RawBSONDocument(document) for document in batch])
        done += len(batch)
        report(Step(what, done, saved.documents))
    report(Step(what, done, saved.documents))


def _batches(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _compare(connection: Connection, lock: Upkeep, saved: Saved, report: Report) -> None:
    """Read a collection back: MongoDB gives its documents in the order they were written."""
    tally, what = Tally(), f"reading back {saved.name}"
    batches: Iterable[Any] = connection[PARTIAL + saved.name].find_raw_batches(batch_size=MANY)
    for batch in batches:
        lock.check()
        tally.add(batch, count(batch))
        report(Step(what, tally.documents, saved.documents))
    if not tally.fits(saved):
        raise BackupError(
            f"MongoDB at {connection.where} gives back other documents in {saved.name!r} than "
            f"were written ({tally.documents} of {saved.documents}, SHA-256 differs)",
            "See that no other program writes to the database, and that its disk is sound; then "
            "run `qfarm restore FILE --drop-partial`.",
        )


def _index(connection: Connection, backup: Backup, saved: Saved) -> None:
    indexes = [
        {name: value for name, value in index.items() if name != "ns"}
        for index in loads(backup.metadata(saved))["indexes"]
        if index["name"] != "_id_"
    ]
    if indexes:
        connection.database.command("createIndexes", PARTIAL + saved.name, indexes=indexes)


def _finish(connection: Connection, restoring: Document, backup: Backup) -> None:
    """Give all parts their names, then make the database a farm; safe to repeat."""
    if restoring["taken"] != str(backup.manifest.taken):
        raise BackupError(
            f"{version.place(connection)} holds a restore of another backup, in its last step",
            f"Run `qfarm restore` with the backup that was taken at {restoring['taken']}.",
        )
    parts = (n for n in connection.database.list_collection_names() if n.startswith(PARTIAL))
    for part in sorted(parts, key=lambda name: name == PARTIAL + _QUEUE):
        name = part.removeprefix(PARTIAL)
        if name in _names(connection) and _has_content(connection, name):
            raise BackupError(
                f"another program wrote to {name!r} in {version.place(connection)} meanwhile",
                f"Rename that collection, and run the same `qfarm restore` again. Or: {_ANOTHER}",
            )
        connection.database[part].rename(name, dropTarget=True)
    final = _version_document(backup)
    replace = partial(connection[SCHEMA].replace_one, {"_id": VERSION}, final, upsert=True)
    connection.retry(replace)


def _version_document(backup: Backup) -> Document:
    """The document that says the version, as it was; farms of version 1 may lack it."""
    saved = (item for item in backup.manifest.collections if item.name == SCHEMA)
    every = itertools.chain.from_iterable(map(backup.documents, saved))
    found = [item for item in map(bson.decode, every) if item["_id"] == VERSION]
    presumed = {"_id": VERSION, "version": backup.manifest.schema_version}
    return found[0] if found else presumed


@contextmanager
def _explained(connection: Connection) -> Iterator[None]:
    """Turn what MongoDB says into what to do."""
    try:
        yield
    except ConnectionFailure as error:
        raise BackupError(
            f"MongoDB at {connection.where} went away during the restore",
            "See that it runs (`qfarm up`), and run `qfarm restore FILE --drop-partial`.",
        ) from error
    except PyMongoError as error:
        said = json.dumps(str(error))[:300]
        raise BackupError(
            f"MongoDB at {connection.where} refuses to restore: {said}",
            "The user of `mongo.uri` needs the role `readWrite` on the database. Then run "
            "`qfarm restore FILE --drop-partial`.",
        ) from error
