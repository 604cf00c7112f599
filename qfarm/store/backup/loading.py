"""Load: a backup into an empty database, whole or not at all.

The documents go into collections named ``restoring.*``, which no worker looks at; they are read
back and compared with the backup, byte by byte, and get their indexes. Only then are the
collections renamed, FireWorks' queue last, and the database is marked as a farm. Killed before the
renaming, a restore leaves the mark of a part, which no store opens; killed during it, the next
restore ends it.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from typing import Any, Final, NamedTuple

import bson
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from qfarm.store import version
from qfarm.store.backup.archive import Backup, Report, Saved, Step, Tally, count
from qfarm.store.backup.dumping import MANY, PARTIAL
from qfarm.store.backup.trust import BackupError, Metadata, metadata, version_document
from qfarm.store.connection import Connection, Document, RefusedError, Transaction
from qfarm.store.upkeep import LEASE, LOCK, Upkeep, upkeep
from qfarm.store.version import RENAMING, RESTORING, SCHEMA, VERSION

_BATCH: Final = 8 * 2**20  # bytes of documents that are sent at once
_QUEUE: Final = "fireworks"  # nothing can be claimed before it is there
_UNAUTHORISED: Final = 13
_RIGHTS: Final = "The user of `mongo.uri` needs the role `readWrite` on the database."
_LOOK: Final = "See what its log says, and mend that."
_ONCE_MORE: Final = " Then run `qfarm restore FILE --drop-partial`."
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
        The database is not empty, MongoDB went away, or does not give back what was written; or
        the backup asks for more than to hold documents.
    StoreError
        Part of a restore is there, or another process restores or migrates.
    """
    _refuse_newer(backup)
    plan = _plan(backup)  # all that can be refused is, before anything is written
    with _explained(connection), upkeep(connection, "qfarm restore", lease) as lock:
        mark = version.read(connection) or {}
        if mark.get(RESTORING, {}).get("phase") == RENAMING:
            _finish(connection, lock, mark[RESTORING], backup, plan)
            return
        if RESTORING in mark and not drop_partial:
            raise version.unfinished(connection, mark)
        _begin(connection, backup, mark)
        for saved in plan.parts:
            _copy(connection, lock, backup, plan, saved, report)
        for saved in plan.parts:
            _compare(connection, lock, saved, report)
            _index(connection, plan, saved)
        _enter_renaming(connection, lock, backup)
        _finish(connection, lock, {"taken": str(backup.manifest.taken)}, backup, plan)


class _Plan(NamedTuple):
    """What is to be written: the collections, what goes with each, and the version's document."""

    parts: list[Saved]
    metadata: dict[str, Metadata]
    final: Document


def _plan(backup: Backup) -> _Plan:
    """Read what the backup asks of MongoDB, and refuse what no backup of qfarm does."""
    parts = [saved for saved in backup.manifest.collections if saved.name != SCHEMA]
    read = {saved.name: metadata(backup.metadata(saved), saved.name) for saved in parts}
    return _Plan(parts, read, saved_version(backup))


def _enter_renaming(connection: Connection, lock: Upkeep, backup: Backup) -> None:
    """Begin the last step, unless another process has begun anew on what was copied here."""

    def mark(transaction: Transaction) -> None:
        lock.hold(transaction.session)
        _mark(connection, RENAMING, backup, transaction.session)

    connection.transact(mark)


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


def _mark(
    connection: Connection, phase: str, backup: Backup, session: ClientSession | None = None
) -> None:
    fields = {RESTORING: {"phase": phase, "taken": str(backup.manifest.taken)}}
    change = {"$set": fields}
    connection[SCHEMA].update_one({"_id": VERSION}, change, upsert=True, session=session)


def _unmark(connection: Connection, before: Document) -> None:
    if before:
        connection[SCHEMA].replace_one({"_id": VERSION}, before)
    else:
        connection[SCHEMA].delete_one({"_id": VERSION})


def _copy(
    connection: Connection,
    lock: Upkeep,
    backup: Backup,
    plan: _Plan,
    saved: Saved,
    report: Report,
) -> None:
    """Write the documents of one collection."""
    options = plan.metadata[saved.name].options
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


def _index(connection: Connection, plan: _Plan, saved: Saved) -> None:
    indexes = plan.metadata[saved.name].indexes
    if indexes:
        connection.database.command("createIndexes", PARTIAL + saved.name, indexes=indexes)


def _finish(
    connection: Connection, lock: Upkeep, restoring: Document, backup: Backup, plan: _Plan
) -> None:
    """Give all parts their names, then make the database a farm; safe to repeat."""
    if restoring["taken"] != str(backup.manifest.taken):
        raise BackupError(
            f"{version.place(connection)} holds a restore of another backup, in its last step",
            f"Run `qfarm restore` with the backup that was taken at {restoring['taken']}.",
        )
    there = set(connection.database.list_collection_names())
    names = [saved.name for saved in plan.parts if PARTIAL + saved.name in there]
    for name in sorted(names, key=lambda name: name == _QUEUE):
        lock.hold()
        if name in _names(connection) and _has_content(connection, name):
            raise BackupError(
                f"another program wrote to {name!r} in {version.place(connection)} meanwhile",
                f"Rename that collection, and run the same `qfarm restore` again. Or: {_ANOTHER}",
            )
        connection.database[PARTIAL + name].rename(name, dropTarget=True)
    _refuse_missing(connection, plan)
    _make_farm(connection, lock, plan)


def _refuse_missing(connection: Connection, plan: _Plan) -> None:
    missing = sorted({saved.name for saved in plan.parts} - set(_names(connection)))
    if missing:
        raise BackupError(
            f"{', '.join(missing)} vanished from {version.place(connection)} during the restore",
            f"Another program dropped it. {_ANOTHER}",
        )


def _make_farm(connection: Connection, lock: Upkeep, plan: _Plan) -> None:
    """Take the mark of a part away; from now on stores open the database."""

    def replace(transaction: Transaction) -> None:
        lock.hold(transaction.session)
        schema, one = connection[SCHEMA], {"_id": VERSION}
        schema.replace_one(one, plan.final, upsert=True, session=transaction.session)

    connection.transact(replace)


def saved_version(backup: Backup) -> Document:
    """The document that says the version, as it was."""
    saved = (item for item in backup.manifest.collections if item.name == SCHEMA)
    every = itertools.chain.from_iterable(map(backup.documents, saved))
    try:
        found = [item for item in map(bson.decode, every) if item.get("_id") == VERSION]
    except BSONError as error:
        raise _no_bson(error) from None
    return version_document(found[0] if found else None, backup.manifest.schema_version)


def _no_bson(error: BSONError) -> BackupError:
    return BackupError(
        f"the backup holds what is no document of MongoDB: {error}",
        "qfarm did not write it so: use another backup.",
    )


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
    except BSONError as error:
        raise _no_bson(error) from error
    except RefusedError as error:
        raise BackupError(error.what, _LOOK + _ONCE_MORE) from error
    except PyMongoError as error:
        raise BackupError(
            f"MongoDB at {connection.where} refuses to restore: {_said(error)}",
            (_RIGHTS if getattr(error, "code", None) == _UNAUTHORISED else _LOOK) + _ONCE_MORE,
        ) from error


def _said(error: PyMongoError) -> str:
    """MongoDB's own words, without the whole of its answer."""
    details = error.details if isinstance(error, OperationFailure) else None
    found = details or {}
    first: Document = next(iter(found.get("writeErrors", [])), {})
    return str(found.get("errmsg") or first.get("errmsg") or error)[:300]
