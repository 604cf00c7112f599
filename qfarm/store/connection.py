"""The connection to MongoDB: opened once, all-or-nothing transactions, outages waited out."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from qfarm.errors import StoreError

Document = dict[str, Any]
Documents = Collection[Document]

PATIENCE: Final = 120.0
"""s: how long a call goes on through an outage; mongod is back about 1 s after a SIGKILL."""

_ANSWER_MS: Final = 5_000
_SOCKET_MS: Final = 60_000
_FIRST_WAIT: Final = 0.005  # s; a write conflict is over in milliseconds
_LONGEST_WAIT: Final = 1.0  # s
_MAJORITY: Final = WriteConcern("majority")
_LABELS: Final = (
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
    "RetryableWriteError",
)
_CURSOR_LOST: Final = 43
_NO_RIGHTS: Final = (13, 18)
_CREDENTIALS: Final = "Check user and password in `mongo.uri`, and the user's role on the database"

_T = TypeVar("_T")


class WorkflowLockedError(Exception):
    """An `lpad` command is changing the workflow; try again in a moment."""


@dataclass(frozen=True)
class Transaction:
    """A transaction under way.

    Attributes
    ----------
    session : ClientSession
        To be passed to every operation.
    waited : float
        Seconds since the first try.
    """

    session: ClientSession
    waited: float


class Connection:
    """A database on a replica set.

    Every callable that `transact` or `retry` gets must be idempotent even when it succeeded and
    its acknowledgement was lost, because then it runs again.
    """

    def __init__(
        self, client: MongoClient[Document], database: str, where: str, patience: float
    ) -> None:
        self.where = where
        self.patience = patience
        self._client = client
        self._db: Database[Document] = client.get_database(database, write_concern=_MAJORITY)

    @classmethod
    def open(cls, uri: str, database: str, patience: float = PATIENCE) -> Self:
        """Connect, and see that the server answers and can do transactions.

        Raises
        ------
        StoreError
            The address is wrong, nobody answers, the user is refused, or it is no replica set.
            Messages never hold the password.
        """
        where = _hosts(uri)
        client: MongoClient[Document] = MongoClient(
            uri,
            appname="qfarm",
            tz_aware=True,
            serverSelectionTimeoutMS=_ANSWER_MS,
            connectTimeoutMS=_ANSWER_MS,
            socketTimeoutMS=_SOCKET_MS,
        )
        try:
            _greet(client, database, where)
        except BaseException:
            client.close()
            raise
        return cls(client, database, where, patience)

    def __getitem__(self, collection: str) -> Documents:
        return self._db[collection]

    def volatile(self, collection: str) -> Documents:
        """The collection with faster writes, the last of which a crash of mongod may undo."""
        return self._db[collection].with_options(write_concern=WriteConcern(1, j=False))

    def transact(self, work: Callable[[Transaction], _T]) -> _T:
        """Run `work` in a transaction: all of its writes happen, durably, or none."""
        return self._persist(lambda waited: self._once(work, waited))

    def retry(self, work: Callable[[], _T]) -> _T:
        """Run `work`, and again while the server is away."""
        return self._persist(lambda _: work())

    def snapshot(self, collection: str, pipeline: list[Document]) -> list[Document]:
        """Result of an aggregation over one moment of a collection."""

        def read() -> list[Document]:
            with self._client.start_session(snapshot=True) as session:
                return list(self[collection].aggregate(pipeline, session=session))

        return self.retry(read)

    def close(self) -> None:
        """Close all sockets."""
        self._client.close()

    def _once(self, work: Callable[[Transaction], _T], waited: float) -> _T:
        with (
            self._client.start_session() as session,
            session.start_transaction(ReadConcern("snapshot"), _MAJORITY),
        ):
            return work(Transaction(session, waited))

    def _persist(self, work: Callable[[float], _T]) -> _T:
        begun = time.monotonic()
        tries = Retrying(
            retry=retry_if_exception(_passes),
            wait=wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
            stop=stop_after_delay(self.patience),
            reraise=True,
        )
        try:
            return tries(lambda: work(time.monotonic() - begun))
        except (PyMongoError, WorkflowLockedError) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, OperationFailure) and error.code in _NO_RIGHTS:
            return StoreError(f"MongoDB at {self.where} refuses: {_said(error)}", _CREDENTIALS)
        if not _passes(error):
            return error
        return StoreError(
            f"MongoDB at {self.where} did not do what was asked for {self.patience:.0f} s: {error}",
            "See whether mongod runs (`qfarm up` starts the private one) and what its log says",
        )


def _passes(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    if isinstance(error, WorkflowLockedError | ConnectionFailure):
        return True
    if isinstance(error, OperationFailure) and error.code == _CURSOR_LOST:
        return True
    return isinstance(error, PyMongoError) and any(map(error.has_error_label, _LABELS))


def _hosts(uri: str) -> str:
    try:
        nodes = parse_uri(uri)["nodelist"]
    except (InvalidURI, ConfigurationError, ValueError):
        raise StoreError(
            "the MongoDB address is not valid (it is not shown, as it may hold a password)",
            "Write `mongo.uri` as mongodb://USER:PASSWORD@HOST:PORT/?replicaSet=NAME, with "
            "special characters of the password percent-encoded",
        ) from None
    return ", ".join(f"{host}:{port}" for host, port in nodes)


def _greet(client: MongoClient[Document], database: str, where: str) -> None:
    try:
        hello = client.admin.command("hello")
        if "setName" not in hello:
            raise StoreError(
                f"MongoDB at {where} is a standalone server; qfarm needs transactions, which only "
                "replica sets have",
                "Start mongod with --replSet rs0 and run rs.initiate() in mongosh once; one node "
                "is enough (`qfarm up` does this for its private server)",
            )
        client[database]["fireworks"].find_one({}, {"_id": 1})
    except OperationFailure as error:
        if error.code not in _NO_RIGHTS:
            raise
        raise StoreError(f"MongoDB at {where} refuses: {_said(error)}", _CREDENTIALS) from None
    except ConnectionFailure as error:
        raise StoreError(
            f"MongoDB at {where} does not answer",
            "Start it (`qfarm up` starts the private one), or correct `mongo.uri` (host, port, "
            "replicaSet)",
        ) from error


def _said(error: OperationFailure) -> str:
    return str((error.details or {}).get("errmsg", "not authorised"))
