"""Initiate a new mongod's replica set and make its first user, whose address goes into a file.

    python first_admin.py db.example.org:27017 --keyfile keyfile --ca ca.pem --write root.uri

Run it where the key file is, once mongod runs: it signs in by that, as members of a replica set
do, so there is no moment in which MongoDB lets anyone in without a password. It may be repeated;
a user that is there is left alone. No password is shown or asked for.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

USER = "root"
WAIT_MS = 30_000
_NOT_INITIATED = 94

Client = MongoClient[dict[str, Any]]


def main(arguments: list[str] | None = None) -> None:
    """Do what is missing."""
    asked = _parse(arguments)
    if asked.write.exists():
        sys.exit(f"error: {asked.write} is there already. Name another file, or remove this one.")
    tls = {"tlsCAFile": str(asked.ca)} if asked.ca else {}
    if asked.certificate:
        tls["tlsCertificateKeyFile"] = str(asked.certificate)
    try:
        key = "".join(asked.keyfile.read_text().split())  # mongod, too, skips line ends
        with _member(asked.host, key, directConnection=True, **_options(tls)) as direct:
            name = _initiate(direct, asked.host, asked.replica_set)
        with _member(asked.host, key, replicaSet=name, **_options(tls)) as primary:
            _first_user(primary, asked.write, _address(asked.host, name, tls))
    except (OSError, ValueError, PyMongoError) as error:
        sys.exit(f"error: {str(error)[:500]}\nSee that mongod runs, and the key file is its own.")
    print(f"{asked.write}: address of the user {USER!r}, who may do everything; keep it safe")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host", help="HOST:PORT, as all clients will name it")
    parser.add_argument("--keyfile", type=Path, required=True, help="mongod's security.keyFile")
    parser.add_argument("--ca", type=Path, help="ca.pem, when mongod asks for TLS")
    parser.add_argument("--certificate", type=Path, help="client-NAME.pem, when it asks for that")
    parser.add_argument("--replica-set", default="qfarm", help="mongod's replSetName")
    parser.add_argument("--write", type=Path, required=True, help="file for the address")
    return parser.parse_args(arguments)


def _options(tls: dict[str, str]) -> dict[str, Any]:
    return {"tls": True, **tls} if tls else {}


def _member(host: str, key: str, **options: Any) -> Client:
    """Sign in as a member of the replica set."""
    return MongoClient(
        host,
        username="__system",
        password=key,
        authSource="local",
        authMechanism="SCRAM-SHA-256",
        serverSelectionTimeoutMS=WAIT_MS,
        **options,
    )


def _initiate(direct: Client, host: str, wanted: str) -> str:
    """Name of the replica set, which is initiated unless it is."""
    try:
        return str(direct.admin.command("replSetGetConfig")["config"]["_id"])
    except OperationFailure as error:
        if error.code != _NOT_INITIATED:
            raise
    members = [{"_id": 0, "host": host}]
    direct.admin.command("replSetInitiate", {"_id": wanted, "members": members})
    return wanted


def _address(host: str, replica_set: str, tls: dict[str, str]) -> str:
    """The user's address, with the password left open."""
    given = [f"{option}={Path(path).resolve()}" for option, path in tls.items()]
    options = ["authSource=admin", f"replicaSet={replica_set}", *(["tls=true"] if tls else [])]
    return f"mongodb://{USER}:%s@{host}/?{'&'.join([*options, *given])}\n"


def _first_user(primary: Client, file: Path, address: str) -> None:
    """Make the user, with the address written first: a password that nobody knows is of no use."""
    if primary.admin.command("usersInfo", USER)["users"]:
        sys.exit(f"error: there is a user {USER!r} already; its password is not known here")
    password = secrets.token_urlsafe(24)
    _write(file, address % password)
    try:
        primary.admin.command("createUser", USER, pwd=password, roles=["root"])
    except PyMongoError:
        file.unlink()
        raise


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
