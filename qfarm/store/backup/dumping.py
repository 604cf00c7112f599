"""Dump: every document of a database as it is at one moment, while workers go on.

All reads are of one cluster time (read concern "snapshot"). MongoDB keeps the past for 300 s only
(`minSnapshotHistoryWindowInSeconds`), too short for a large farm. qfarm's own server is told to
keep it for as long as the backup lasts, and set back afterwards.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as installed
from operator import itemgetter
from typing import Any, BinaryIO, Final, NamedTuple

from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from pymongo.client_session import ClientSession
from pymongo.errors import ConnectionFailure, OperationFailure

from qfarm.store import version
from qfarm.store.backup.archive import (
    Manifest,
    Report,
    Saved,
    Step,
    Tally,
    Writer,
    count,
)
from qfarm.store.backup.trust import BackupError
from qfarm.store.connection import Connection, Document
from qfarm.store.upkeep import LOCK

PARTIAL: Final = "restoring."
"""Beginning of the names of collections that a restore still writes."""

MANY: Final = 2**20
"""Documents that are read at once: as many as go into the 16 MB of an answer."""

OF_LAUNCHERS: Final = ("jobs", "partitions")
"""Collections about the batch jobs of this moment: the launcher of a copy must not take them for
its own."""

_WINDOW: Final = "minSnapshotHistoryWindowInSeconds"
_LONG: Final = 7 * 24 * 3600  # s
_USUAL: Final = 300  # s; MongoDB's default
_TRIES: Final = 5
_TOO_OLD: Final = 239
_UNAVAILABLE: Final = 246  # a collection or an index was made after the moment that is read
_CURSOR_LOST: Final = 43


class _Moment(NamedTuple):
    """The moment that is read, and the database at it."""

    session: ClientSession
    time: Any
    collections: list[Document]
    left_out: tuple[str, ...]
    schema_version: int


def dump(connection: Connection, file: BinaryIO, report: Report, own_server: bool) -> Manifest:
    """Write a backup of the whole database to an empty file.

    Parameters
    ----------
    connection : Connection
        The database; a user who may only read will do.
    file : BinaryIO
        Where to write.
    report : callable
        Told how far it is.
    own_server : bool
        Whether the server is qfarm's private one, whose parameters may be changed.

    Raises
    ------
    BackupError
        The moment slipped away, or MongoDB did.
    StoreError
        The database is not a whole farm of a version that this qfarm knows.
    """
    taken = datetime.now(UTC)
    with (
        _explained(connection),
        _long_past(connection, own_server),
        _moment(connection) as moment,
        Writer(file, connection.database.name) as writer,
    ):
        saved = [_save(connection, writer, moment, item, report) for item in moment.collections]
        manifest = Manifest(
            schema_version=moment.schema_version,
            qfarm_version=installed("qfarm"),
            server_version=connection.database.client.server_info()["version"],
            database=connection.database.name,
            cluster_time=(moment.time.time, moment.time.inc),
            taken=taken,
            collections=tuple(saved),
            left_out=moment.left_out,
        )
        writer.close(manifest)
    return manifest


@contextmanager
def _long_past(connection: Connection, own_server: bool) -> Iterator[None]:
    """Have qfarm's own server keep the past; after a kill it does so until it is restarted."""
    if not own_server:
        yield
        return
    admin = connection.database.client.admin
    admin.command({"setParameter": 1, _WINDOW: _LONG})
    try:
        yield
    finally:
        admin.command({"setParameter": 1, _WINDOW: _USUAL})


@contextmanager
def _moment(connection: Connection) -> Iterator[_Moment]:
    """Fix a moment of which every collection can be read.

    One that was made just now cannot be read as of a moment before: then a later one is tried.
    """
    for attempt in range(1, _TRIES + 1):
        with connection.database.client.start_session(snapshot=True) as session:
            try:
                found = _fix(connection, session)
            except OperationFailure as error:
                if error.code == _UNAVAILABLE and attempt < _TRIES:
                    continue
                raise
            yield found
            return


def _fix(connection: Connection, session: ClientSession) -> _Moment:
    """Read one document, which fixes the moment, then see that all collections can be read."""
    database = connection.database
    time = _first_read(connection, session)
    every = _collections(connection)
    plain = [item for item in every if _is_plain(item)]
    for item in plain:
        database[item["name"]].find_one({}, {"_id": 1}, session=session)
    return _Moment(
        session=session,
        time=time,
        collections=plain,
        left_out=tuple(item["name"] for item in every if item not in plain),
        schema_version=_version(connection, session),
    )


def _first_read(connection: Connection, session: ClientSession) -> Any:
    """Cluster time of a first read, which must be of a collection that exists."""
    for item in filter(_is_plain, _collections(connection)):
        query = {"find": item["name"], "limit": 1, "projection": {"_id": 1}}
        return connection.database.command(query, session=session)["cursor"]["atClusterTime"]
    raise BackupError(
        f"{version.place(connection)} is empty: there is nothing to save",
        "See that `mongo.database` in qfarm.toml is the name of the farm's database.",
    )


def _collections(connection: Connection) -> list[Document]:
    found = sorted(map(dict, connection.database.list_collections()), key=itemgetter("name"))
    kept = (item for item in found if item["name"] not in OF_LAUNCHERS)
    return [item for item in kept if not item["name"].startswith(("system.", PARTIAL))]


def _version(connection: Connection, session: ClientSession) -> int:
    """Version of the documents; an older one may be saved, for that is wise before migrating."""
    found = version.read(connection, session)
    if found is None:
        return version.presumed(connection, version.CURRENT, session)
    number = version.whole(connection, found)
    version.refuse_newer(connection, number, version.CURRENT)
    return number


def _is_plain(item: Document) -> bool:
    """Whether it is no view, time series or capped collection: those have no past to read."""
    return item["type"] == "collection" and not item.get("options", {}).get("capped")


def _save(
    connection: Connection, writer: Writer, moment: _Moment, item: Document, report: Report
) -> Saved:
    """Write one collection."""
    name, tally = item["name"], Tally()
    path, metadata = writer.paths(name)
    collection = connection.database[name]
    total, what = collection.estimated_document_count(), f"saving {name}"
    query = {"_id": {"$ne": LOCK}} if name == version.SCHEMA else {}
    batches: Iterable[Any] = collection.find_raw_batches(
        query, session=moment.session, batch_size=MANY
    )
    with writer.member(path) as member:
        for batch in batches:
            tally.add(batch, count(batch))
            member.write(batch)
            report(Step(what, tally.documents, max(total, tally.documents)))
    report(Step(what, tally.documents, tally.documents))
    with writer.member(metadata) as member:
        member.write(_metadata(connection, item).encode())
    return Saved(
        name=name,
        file=path,
        metadata=metadata,
        documents=tally.documents,
        size=tally.size,
        sha256=tally.sha256,
    )


def _metadata(connection: Connection, item: Document) -> str:
    """Options and indexes in mongodump's words."""
    indexes = [dict(index) for index in connection.database[item["name"]].list_indexes()]
    content = {
        "collectionName": item["name"],
        "type": "collection",
        "options": item.get("options", {}),
        "indexes": indexes,
    }
    return dumps(content, json_options=CANONICAL_JSON_OPTIONS)


@contextmanager
def _explained(connection: Connection) -> Iterator[None]:
    """Turn what MongoDB says into what to do."""
    try:
        yield
    except OperationFailure as error:
        known = _REASONS.get(error.code or 0)
        if known is None:
            raise
        raise BackupError(f"{version.place(connection)} {known[0]}", known[1]) from error
    except ConnectionFailure as error:
        raise BackupError(
            f"MongoDB at {connection.where} went away during the backup",
            "Nothing was written. See that it runs (`qfarm up`), and run `qfarm backup` again.",
        ) from error


_CHANGED: Final = (
    "got new collections or indexes during the backup",
    "Nothing was written. Run `qfarm backup` again.",
)

_REASONS: Final = {
    13: ("may not be read by this user", "Give the user of `mongo.uri` the role `read` on it."),
    _TOO_OLD: (
        "no longer keeps the moment at which the backup began",
        "Nothing was written. Have its administrator raise the server parameter "
        f"{_WINDOW} (300 s unless told; 7200 is good for some million documents) and run "
        "`qfarm backup` again.",
    ),
    _UNAVAILABLE: _CHANGED,
    _CURSOR_LOST: (
        "closed the reading of a collection, as it was restarted or its past was cut",
        "Nothing was written. Run `qfarm backup` again.",
    ),
}
