"""The files that say where the farm's MongoDB is and how to sign in: ours, and FireWorks' own."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qfarm.store.mongod import HOST, REPLICA_SET

_LAUNCHPAD_COMMON: dict[str, Any] = {
    "logdir": None,
    "strm_lvl": "WARNING",
    "user_indices": [],
    "wf_user_indices": [],
}


@dataclass(frozen=True)
class Credentials:
    """Content of ``connection.json``: port on 127.0.0.1, user, password."""

    port: int
    username: str
    password: str = field(repr=False)

    @property
    def uri(self) -> str:
        """Address for pymongo: journalled majority writes, password included."""
        options = f"authSource=admin&replicaSet={REPLICA_SET}&w=majority&journal=true"
        return f"mongodb://{self.username}:{self.password}@{HOST}:{self.port}/?{options}"


def read_credentials(folder: Path) -> Credentials | None:
    """Read the file in `folder`; None when it is absent or damaged, for it can be made anew."""
    try:
        found = json.loads((folder / "connection.json").read_text(encoding="utf-8"))
        return Credentials(int(found["port"]), found["username"], found["password"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_credentials(folder: Path, credentials: Credentials) -> None:
    """Write the file into `folder`."""
    content = {
        "uri": credentials.uri,
        "host": HOST,
        "port": credentials.port,
        "username": credentials.username,
        "password": credentials.password,
        "replica_set": REPLICA_SET,
    }
    write_private(folder / "connection.json", json.dumps(content, indent=2))


def private_launchpad(credentials: Credentials, database: str) -> dict[str, Any]:
    """Fields of a FireWorks launchpad file for the private server."""
    return {
        "host": HOST,
        "port": credentials.port,
        "name": database,
        "username": credentials.username,
        "password": credentials.password,
        "authsource": "admin",
        "mongoclient_kwargs": {"replicaSet": REPLICA_SET, "w": "majority", "journal": True},
    }


def uri_launchpad(uri: str, database: str) -> dict[str, Any]:
    """Fields of a FireWorks launchpad file for a MongoDB that the configuration names."""
    return {"host": uri, "uri_mode": True, "name": database}


def write_launchpad(path: Path, fields: dict[str, Any]) -> None:
    """Write what FireWorks' own commands take: ``lpad -l my_launchpad.yaml get_wflows``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, launchpad_text(fields))


def launchpad_text(fields: dict[str, Any]) -> str:
    """Text of a launchpad file."""
    every = fields | _LAUNCHPAD_COMMON
    # A JSON value is a YAML value too.
    lines = [f"{name}: {json.dumps(value)}" for name, value in every.items()]
    return "\n".join(["# written by `qfarm up`", *lines, ""])


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all or nothing."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
