"""The connection to MongoDB: opened once, all-or-nothing transactions, outages waited out."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from bson.binary import Binary
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WriteError,
)
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from qfarm.errors import StoreError
from qfarm.store.roles import Person, held_in, not_allowed
from qfarm.store.unreachable import unreachable

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
_ENDED: Final = (290, 11_601)
"""What an operation is told that was under way when its transaction got too old, or when
`end_session` ended it for someone who took us for dead; MongoDB gives these no label."""

_DUPLICATE: Final = 11_000
_NOT_ALLOWED: Final = 13
_NOT_SIGNED_IN: Final = "requires authentication"
_NO_RIGHTS: Final = (_NOT_ALLOWED, 18)
_CREDENTIALS: Final = "Check user and password in `mongo.uri`, and the user's role on the database"

_T = TypeVar("_T")


_AS_THEY_ARE: Final = (WriteError, BulkWriteError, ExecutionTimeout, InvalidOperation)
"""Of what is written, of a limit that was set, or of the code: callers know what to do."""

_LOOK: Final = (
    "See what its log says, and mend that; where nothing is wrong with the server, it is a fault "
    "of qfarm: please report it"
)


class RefusedError(StoreError):
    """MongoDB does not do what was asked for, and says why."""


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
        self._free: list[ClientSession] = []  # of no transaction now, the last used at the end

    @classmethod
    def open(
        cls,
        uri: str,
        database: str,
        patience: float = PATIENCE,
        socket_ms: int | None = _SOCKET_MS,
    ) -> Self:
        """Connect, and see that the server answers and can do transactions.

        An answer is waited for `socket_ms`; with None for ever, as for building an index.

        Raises
        ------
        StoreError
            The address is wrong, nobody answers, the user is refused, or it is no replica set.
            Messages never hold the password.
        NotAllowedError
            The user may not read the farm.
        """
        where = _hosts(uri)
        client: MongoClient[Document] = MongoClient(
            uri,
            appname="qfarm",
            tz_aware=True,
            datetime_conversion="DATETIME_AUTO",  # other hands may write years beyond 9999
            serverSelectionTimeoutMS=_ANSWER_MS,
            connectTimeoutMS=_ANSWER_MS,
            socketTimeoutMS=socket_ms,
        )
        try:
            _greet(client, database, where, _asks_for_tls(uri))
        except BaseException:
            client.close()
            raise
        return cls(client, database, where, patience)

    @property
    def database(self) -> Database[Document]:
        """The database itself, for backups and the like."""
        return self._db

    def __getitem__(self, collection: str) -> Documents:
        return self._db[collection]

    def volatile(self, collection: str) -> Documents:
        """The collection with faster writes, the last of which a crash of mongod may undo."""
        return self._db[collection].with_options(write_concern=WriteConcern(1, j=False))

    @property
    def session_id(self) -> UUID:
        """Id of the session that the next transaction runs in, unless threads begin several."""
        identity: Binary = self._session.session_id["id"]
        return identity.as_uuid()

    def end_session(self, identity: UUID) -> None:
        """Undo what a process that is gone has begun in a session, as far as this user may.

        mongod would keep the transaction of a killed process, and every document it wrote to,
        locked for a minute (transactionLifetimeLimitSeconds).
        """
        session = {"id": Binary.from_uuid(identity)}
        with suppress(PyMongoError):  # another user's: then it ends by itself, after that minute
            self._client.admin.command("killSessions", [session])

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

    def command(self, name: str, value: str, **fields: Any) -> Document:
        """Answer to a command of MongoDB on the farm's database."""
        return self.retry(lambda: dict(self._db.command(name, value, **fields)))

    def close(self) -> None:
        """Close all sockets."""
        self._client.close()

    def _once(self, work: Callable[[Transaction], _T], waited: float) -> _T:
        with (
            self._borrowed() as session,
            session.start_transaction(ReadConcern("snapshot"), _MAJORITY),
        ):
            return work(Transaction(session, waited))

    @property
    def _session(self) -> ClientSession:
        """The one that is borrowed next."""
        with self._borrowed() as session:
            return session

    @contextmanager
    def _borrowed(self) -> Iterator[ClientSession]:
        """A session for one transaction.

        It is always the same one unless several threads are within transactions at once, so that
        others can tell whose transaction it is, and threads that end leave none behind.
        """
        try:
            session = self._free.pop()
        except IndexError:
            session = self._client.start_session()
        try:
            yield session
        finally:
            self._free.append(session)

    def _persist(self, work: Callable[[float], _T]) -> _T:
        begun = time.monotonic()
        try:
            return work(0.0)
        except (PyMongoError, WorkflowLockedError) as error:
            if not _passes(error):
                raise self._explain(error) from error
        return self._again(work, begun)

    def _again(self, work: Callable[[float], _T], begun: float) -> _T:
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
            return _refused(error, self._client, self._db.name, self.where)
        if _passes(error):
            return StoreError(
                f"MongoDB at {self.where} did not do what was asked for {self.patience:.0f} s: "
                f"{error}",
                "See whether mongod runs (`qfarm up` starts the private one) and what its log says",
            )
        return error if isinstance(error, _AS_THEY_ARE) else _told(error, self.where)


def _passes(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    if isinstance(error, WorkflowLockedError | ConnectionFailure):
        return True
    if isinstance(error, OperationFailure) and error.code in (_CURSOR_LOST, *_ENDED):
        return True
    return isinstance(error, PyMongoError) and any(map(error.has_error_label, _LABELS))


def is_duplicate(error: DuplicateKeyError | BulkWriteError) -> bool:
    """Whether all that went wrong is that there is one already."""
    if isinstance(error, DuplicateKeyError):
        return True
    return {item["code"] for item in error.details["writeErrors"]} == {_DUPLICATE}


def _hosts(uri: str) -> str:
    try:
        nodes = parse_uri(uri)["nodelist"]
    except (InvalidURI, ConfigurationError, ValueError):
        raise StoreError(
            "the MongoDB address is not valid (it is not shown, as it may hold a password)",
            "Write `mongo.uri` as mongodb://USER:PASSWORD@HOST:PORT/?replicaSet=NAME, with "
            "special characters of the password percent-encoded",
        ) from None
    except OSError as error:
        raise StoreError(
            f"{error.filename}, which the MongoDB address names, cannot be read: {error.strerror}",
            "Correct tlsCAFile or tlsCertificateKeyFile in `mongo.uri`, or make the file readable",
        ) from None
    return ", ".join(f"{host}:{port}" for host, port in nodes)


def _asks_for_tls(uri: str) -> bool:
    return bool(parse_uri(uri)["options"].get("tls"))


def _greet(client: MongoClient[Document], database: str, where: str, tls: bool) -> None:
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
            raise _told(error, where) from error
        raise _refused(error, client, database, where) from None
    except ConnectionFailure as error:
        raise unreachable(where, str(error), tls) from error


def _refused(
    error: OperationFailure, client: MongoClient[Document], database: str, where: str
) -> StoreError:
    """The error for someone whom MongoDB does not let in, or not do what was asked for."""
    said = _said(error)
    if error.code != _NOT_ALLOWED or _NOT_SIGNED_IN in said:
        return StoreError(f"MongoDB at {where} refuses: {said}", _CREDENTIALS)
    return not_allowed(said, _signed_in(client, database, where))


def _signed_in(client: MongoClient[Document], database: str, where: str) -> Person:
    """Who asks, as MongoDB knows them."""
    try:
        found = client.admin.command("connectionStatus")["authInfo"]
    except PyMongoError:
        return Person("", (), database, where)
    names = [str(user["user"]) for user in found["authenticatedUsers"]]
    roles = held_in(database, found["authenticatedUserRoles"])
    return Person(", ".join(names), roles, database, where)


def _told(error: Exception, where: str) -> RefusedError:
    """The error for what MongoDB refuses for any other reason."""
    details = error.details if isinstance(error, OperationFailure) else None
    said = str((details or {}).get("errmsg") or error)[:300]
    return RefusedError(f"MongoDB at {where} refuses what was asked for: {said}", _LOOK)


def _said(error: OperationFailure) -> str:
    return str((error.details or {}).get("errmsg", "not authorised"))
