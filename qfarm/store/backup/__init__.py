"""Backup and restore of a whole database: see `archive` for the file, `dumping` and `loading`."""

from pathlib import Path
from typing import BinaryIO

from qfarm.store.backup.archive import Manifest, Report, Saved, Step, check, opened
from qfarm.store.backup.dumping import dump
from qfarm.store.backup.loading import load
from qfarm.store.backup.trust import BackupError, refuse_database
from qfarm.store.connection import Connection

__all__ = ["BackupError", "Manifest", "Saved", "Step", "check", "restore", "save"]


def save(
    uri: str,
    database: str,
    file: BinaryIO,
    own_server: bool = False,
    report: Report = lambda _: None,
) -> Manifest:
    """Write a backup of a database as it is now to an empty file; workers may go on.

    Parameters
    ----------
    uri, database : str
        As for `qfarm.store.open_store`; a user who may only read will do.
    file : BinaryIO
        Where to write.
    own_server : bool
        Whether it is qfarm's private server, which is told to keep the past for long enough.
    report : callable
        Told how far it is.
    """
    connection = Connection.open(uri, database)
    try:
        return dump(connection, file, report, own_server)
    finally:
        connection.close()


def restore(
    uri: str,
    database: str,
    path: Path,
    drop_partial: bool = False,
    report: Report = lambda _: None,
) -> Manifest:
    """Verify a backup, then write it into an empty database.

    Parameters
    ----------
    uri, database : str
        Where to.
    path : Path
        The backup.
    drop_partial : bool
        Drop what a restore that was cut off has left there.
    report : callable
        Told how far it is.
    """
    refuse_database(database)
    with opened(path, report) as backup:
        connection = Connection.open(uri, database, socket_ms=None)  # an index may take minutes
        try:
            load(connection, backup, drop_partial, report)
        finally:
            connection.close()
        return backup.manifest
