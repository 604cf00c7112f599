"""The one-node replica set of a private mongod, and the farm's user in it.

Every step looks first and then does what is missing, so that it may be cut off anywhere and
repeated. It signs in with the key file, as the members of a replica set do (user ``__system`` of
the database ``local``): no time passes in which the server lets anyone in without a password.
"""

from typing import Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ConnectionFailure, OperationFailure, PyMongoError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from qfarm.store.mongod import HOST, REPLICA_SET

NOT_INITIATED = 94
AUTHENTICATION_FAILED = 18
_PASSING = (23, 109)  # already initialized: it still loads; configuration in progress

_WAIT_MS = 60_000  # a recovery from the journal may come first

Client = MongoClient[dict[str, Any]]


def make_ready(port: int, key: str, uri: str, user: str, password: str) -> None:
    """Wait until the server is primary and the farm's user can sign in.

    Raises
    ------
    pymongo.errors.PyMongoError
        The server does not answer in time, or the key is not its own.
    """
    with _insider(port, key, directConnection=True) as direct:
        for attempt in _while_it_moves():
            with attempt:
                _make_member(direct, port)
    if not _signs_in(uri):
        with _insider(port, key, replicaSet=REPLICA_SET) as primary:
            _write_user(primary, user, password)
        _ping(uri)


def said(error: PyMongoError) -> str:
    """What went wrong, in the server's words if it has any, without pymongo's own."""
    if isinstance(error, OperationFailure):
        return str((error.details or {}).get("errmsg", "it refuses"))
    return "it does not answer" if isinstance(error, ConnectionFailure) else str(error)


def _while_it_moves() -> Retrying:
    """Try again while the server still loads its old configuration or changes state.

    It loads for up to 30 s when a program that never answers listens on its last port.
    """
    return Retrying(
        retry=retry_if_exception(_is_passing),
        stop=stop_after_delay(_WAIT_MS / 1000),
        wait=wait_fixed(0.1),
        reraise=True,
    )


def _is_passing(error: BaseException) -> bool:
    code = error.code if isinstance(error, OperationFailure) else None
    return isinstance(error, AutoReconnect) or code in _PASSING


def _insider(port: int, key: str, **options: Any) -> Client:
    return MongoClient(
        HOST,
        port,
        username="__system",
        password=key,
        authSource="local",
        authMechanism="SCRAM-SHA-256",
        serverSelectionTimeoutMS=_WAIT_MS,
        **options,
    )


def _make_member(direct: Client, port: int) -> None:
    """Initiate the replica set, or tell it the port that its only member has now."""
    address = f"{HOST}:{port}"
    try:
        config = direct.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != NOT_INITIATED:
            raise
        members = [{"_id": 0, "host": address}]
        direct.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
        return
    if config["members"][0]["host"] != address:
        config["members"][0]["host"] = address
        config["version"] += 1
        direct.admin.command("replSetReconfig", config, force=True)


def _signs_in(uri: str) -> bool:
    try:
        _ping(uri)
    except OperationFailure as error:
        if error.code != AUTHENTICATION_FAILED:
            raise
        return False
    return True


def _ping(uri: str) -> None:
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=_WAIT_MS) as client:
        client.admin.command("ping")


def _write_user(primary: Client, user: str, password: str) -> None:
    known = primary.admin.command("usersInfo", user)["users"]
    verb = "updateUser" if known else "createUser"
    primary.admin.command(verb, user, pwd=password, roles=["root"])
