"""Probe: does the farm's MongoDB do what the farm needs? For `qfarm doctor`."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from qfarm.errors import StoreError
from qfarm.store.connection import Connection, Transaction

PATIENCE: Final = 10.0
"""s: how long an answer may take."""

_NOTE: Final = "doctor"
"""Collection of one document that is written anew each time."""


@dataclass(frozen=True)
class Answer:
    """What MongoDB said.

    Attributes
    ----------
    where : str
        Host and port.
    version : str
        Of the server.
    replica_set : str
        Name.
    seconds : float
        Time of a durable transaction and of reading its result back.
    """

    where: str
    version: str
    replica_set: str
    seconds: float


def probe(uri: str, database: str) -> Answer:
    """Write in a transaction and read back.

    Raises
    ------
    StoreError
        The server does not answer, refuses the user, is no replica set or loses the write.
    """
    connection = Connection.open(uri, database, PATIENCE)
    try:
        client = connection[_NOTE].database.client
        hello = connection.retry(lambda: client.admin.command("hello"))
        version = connection.retry(lambda: client.server_info()["version"])
        seconds = _round_trip(connection)
    finally:
        connection.close()
    return Answer(connection.where, str(version), str(hello["setName"]), seconds)


def _round_trip(connection: Connection) -> float:
    now, begun = datetime.now(UTC).isoformat(), time.monotonic()

    def write(transaction: Transaction) -> None:
        change = {"$set": {"at": now}}
        notes = connection[_NOTE]
        notes.update_one({"_id": _NOTE}, change, upsert=True, session=transaction.session)

    connection.transact(write)
    read = connection.retry(lambda: connection[_NOTE].find_one({"_id": _NOTE}))
    if read is None or read.get("at") != now:
        raise StoreError(
            f"MongoDB at {connection.where} did not give back what was just written",
            "See that `mongo.uri` names the whole replica set and no single secondary member.",
        )
    return time.monotonic() - begun
