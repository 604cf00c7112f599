"""Migrations: how documents of an older layout are brought to the current one.

Each leads from one version to the next. It must be idempotent and may be cut off anywhere: then
the database keeps saying the old version, no store opens it, and the next `qfarm migrate` runs the
migration again.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version as installed
from typing import Final, NamedTuple

from qfarm.errors import StoreError
from qfarm.store import indexes, version
from qfarm.store.connection import Connection, Document
from qfarm.store.upkeep import Upkeep, upkeep


class Migration(NamedTuple):
    """A step from one version to the next: what it does, in words, and how."""

    what: str
    run: Callable[[Connection], None]


Migrations = Mapping[int, Migration]


def _without_holds(connection: Connection) -> None:
    """Version 1 claimed in two steps, and kept a hold on a stage between them."""
    fireworks = connection["fireworks"]
    held = {"hold": {"$exists": True}}
    connection.retry(lambda: fireworks.update_many(held, {"$unset": {"hold": ""}}))
    if _HOLDS in connection.retry(fireworks.index_information):
        connection.retry(lambda: fireworks.drop_index(_HOLDS))


_HOLDS: Final = "hold.token_1"


def _index_of_stages(connection: Connection) -> None:
    """Version 2 had an index for counts alone; now it also serves claims of certain stages."""
    indexes.ensure(connection)
    fireworks = connection["fireworks"]
    if _COUNTS in connection.retry(fireworks.index_information):
        connection.retry(lambda: fireworks.drop_index(_COUNTS))


_COUNTS: Final = "counts"

MIGRATIONS: Final[Migrations] = {
    1: Migration("claims in one step, large arrays in a collection of their own", _without_holds),
    2: Migration("claims of certain stages by an index of their own", _index_of_stages),
}
"""By the version that a migration starts from; one for each below `version.CURRENT`."""


def migrate(
    uri: str,
    database: str,
    dry_run: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """Bring a database to the current layout; what was done, or with `dry_run` would be.

    Parameters
    ----------
    uri, database : str
        As for `open_store`.
    dry_run : bool
        Change nothing.
    report : callable
        Told what begins.

    Raises
    ------
    StoreError
        Stages run, another process restores or migrates, or the documents are of a later version.
    """
    connection = Connection.open(uri, database, socket_ms=None)  # one update may take long
    try:
        return bring(connection, MIGRATIONS, version.CURRENT, dry_run, report)
    finally:
        connection.close()


def bring(
    connection: Connection,
    migrations: Migrations,
    current: int,
    dry_run: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """See `migrate`; with a table and a version of the caller's."""
    if dry_run:
        return _names(migrations, _steps(connection, current))
    with upkeep(connection, "qfarm migrate") as lock:
        steps = _steps(connection, current)  # read under the lock: it may have been done meanwhile
        for step in steps:
            report(_name(migrations, step))
            _one(connection, lock, migrations[step], step)
        if not steps:
            version.check(connection, current)  # an empty or unmarked database gets its mark
    return _names(migrations, steps)


def _steps(connection: Connection, current: int) -> range:
    """Versions that a migration must start from."""
    found = version.read(connection)
    if found is None:
        number = version.presumed(connection, current)
    else:
        number = version.whole(connection, found)
    version.refuse_newer(connection, number, current)
    return range(number, current)


def _one(connection: Connection, lock: Upkeep, migration: Migration, step: int) -> None:
    """Run one migration; its version is written only if no worker was at work at either end."""
    refuse_running(connection)
    migration.run(connection)
    refuse_running(connection)
    lock.check()
    fields = {"version": step + 1, "written_by": installed("qfarm")}
    mark = {"_id": version.VERSION}
    write = partial(connection[version.SCHEMA].update_one, mark, {"$set": fields}, upsert=True)
    connection.retry(write)


def refuse_running(connection: Connection) -> None:
    """Refuse to touch documents that workers are about to change.

    Raises
    ------
    StoreError
        A stage runs, or is held, under a lease that is not over.
    """
    live: list[Document] = [
        {"$expr": {"$gt": ["$lease.expires", "$$NOW"]}},
        {"$expr": {"$gt": ["$hold.until", "$$NOW"]}},
    ]
    fireworks = connection["fireworks"]
    count = connection.retry(lambda: fireworks.count_documents({"$or": live}))
    if count:
        raise StoreError(
            f"workers are at work on {version.place(connection)}: {count} stages are under way",
            "Stop all workers (Ctrl+C in `qfarm run`), wait a few minutes if they were killed, "
            "and run `qfarm migrate` again.",
        )


def _names(migrations: Migrations, steps: range) -> tuple[str, ...]:
    return tuple(_name(migrations, step) for step in steps)


def _name(migrations: Migrations, step: int) -> str:
    return f"version {step} -> {step + 1}: {migrations[step].what}"
