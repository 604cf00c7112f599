"""Upkeep: the lock that lets one process at a time restore or migrate a database.

The lock is a lease by the database's clock, prolonged by a thread. One that is left by a process
that was killed ends by itself, after `LEASE` seconds.
"""

import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Final

from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from qfarm.errors import StoreError
from qfarm.store.connection import Connection, Document
from qfarm.store.expressions import from_now
from qfarm.store.version import SCHEMA, place

LEASE: Final = 20.0
"""s: how long the lock of a killed process stays."""

LOCK: Final = "lock"
_POLL: Final = 0.2  # s
_TAKEN: Final = "another process took it over"


class Upkeep:
    """The lock, held."""

    def __init__(self, connection: Connection, token: str, lease: float) -> None:
        self._connection = connection
        self._token = token
        self._lease = lease
        self._lost: str | None = None
        self._ended = Event()

    def check(self) -> None:
        """Go on only while the lock is held.

        Raises
        ------
        StoreError
            It was lost: this process was stopped, or MongoDB was away, for too long.
        """
        if self._lost is not None:
            raise StoreError(
                f"the lock on {place(self._connection)} was lost: {self._lost}",
                "Nothing was finished. See that no other process works on it, and run this again.",
            )

    def hold(self, session: ClientSession | None = None) -> None:
        """Prolong the lock now, and go on only if it is still held.

        Within a transaction this is a fence: a process that takes the lock over meanwhile writes
        the same document, so that one of the two fails. `check` only knows what the thread saw.

        Raises
        ------
        StoreError
            It was lost.
        """
        change = [{"$set": {"expires": from_now(self._lease)}}]
        done = self._connection[SCHEMA].update_one(self._own, change, session=session)
        if done.matched_count != 1:
            self._lost = _TAKEN
        self.check()

    def keep(self) -> None:
        """Prolong the lock until `release`; runs in a thread."""
        change = [{"$set": {"expires": from_now(self._lease)}}]
        while not self._ended.wait(self._lease / 4):
            try:
                done = self._connection[SCHEMA].update_one(self._own, change)
                if not done.matched_count:
                    self._lost = _TAKEN
            except Exception as error:  # noqa: BLE001  told to whoever calls `check`
                self._lost = f"it could not be prolonged ({type(error).__name__})"
            if self._lost:
                return

    def release(self, keeper: Thread) -> None:
        """Give the lock back; without MongoDB it ends by itself."""
        self._ended.set()
        keeper.join()
        with suppress(PyMongoError):
            self._connection[SCHEMA].delete_one(self._own)

    @property
    def _own(self) -> Document:
        return {"_id": LOCK, "token": self._token}


@contextmanager
def upkeep(connection: Connection, what: str, lease: float = LEASE) -> Iterator[Upkeep]:
    """Hold the lock of a database.

    Parameters
    ----------
    connection : Connection
        The database.
    what : str
        What it is held for, in words that others are told.
    lease : float
        Seconds that it stays after a sign of life.

    Raises
    ------
    StoreError
        A process that lives holds it.
    """
    lock = Upkeep(connection, _take(connection, what, lease), lease)
    keeper = Thread(target=lock.keep, name="qfarm-upkeep", daemon=True)
    keeper.start()
    try:
        yield lock
    finally:
        lock.release(keeper)


def _take(connection: Connection, what: str, lease: float) -> str:
    """Token of the lock. What a dead process left is waited for; a living one prolongs it."""
    token, seen = secrets.token_hex(8), None
    while True:
        found = _try(connection, token, what, lease)
        if found.get("token") == token:
            return token
        sign = (found["token"], found["expires"])
        if seen not in (None, sign):
            raise StoreError(
                f"{place(connection)} is locked by `{found['what']}` ({found['who']})",
                "Wait until it has ended, then run this again.",
            )
        seen = sign
        time.sleep(_POLL)


def _try(connection: Connection, token: str, what: str, lease: float) -> Document:
    """Take the lock if it is free or over; its document as it is then."""
    who = f"process {os.getpid()} on {platform.node()}"
    texts = {"_id": LOCK, "token": token, "what": what, "who": who}
    mine: Document = {name: {"$literal": text} for name, text in texts.items()}
    mine["expires"] = from_now(lease)
    free = {"$lt": ["$expires", "$$NOW"]}  # a field that is missing comes before every date
    change = [{"$replaceWith": {"$cond": [free, mine, "$$ROOT"]}}]
    after = ReturnDocument.AFTER
    found = connection.retry(
        lambda: connection[SCHEMA].find_one_and_update(
            {"_id": LOCK}, change, upsert=True, return_document=after
        )
    )
    return found or {}
