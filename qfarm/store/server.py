"""The farm's private MongoDB server: start it, find it, stop it.

All it owns is in one folder::

    mongo/keyfile           secret of the replica set, 0600
    mongo/connection.json   address and generated credentials, 0600
    mongo/data/             the database; data/mongod.lock holds the pid, written by mongod itself
    mongo/mongod.log        its log; mongod.out is what it printed at the last start
    mongo/lock              held by whoever starts or stops the server

Whether the server runs is read from the process table alone: the pid in ``mongod.lock`` counts
only if that process is a mongod on this very data folder. So nothing can go stale, and `up` may
be killed at any instruction and called again.
"""

import fcntl
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from pymongo.errors import PyMongoError

from qfarm.errors import StoreError
from qfarm.store.credentials import (
    Credentials,
    read_credentials,
    write_credentials,
    write_private,
)
from qfarm.store.mongod import HOST, command_line, explain, find_mongod
from qfarm.store.replica import make_ready, said

USER = "qfarm"
START_SECONDS = 120.0
STOP_SECONDS = 60.0
MINIMUM_FREE = 300_000_000  # bytes; mongod preallocates its journal and stops on a full disk
MAXIMUM_LOG = 20_000_000  # bytes; a longer log is put aside at the next start
_PORT_ATTEMPTS = 5
_PORT_PATIENCE = 5.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Server:
    """A private server that is ready.

    Attributes
    ----------
    pid : int
        Process.
    credentials : Credentials
        Port on 127.0.0.1 and credentials.
    data, log : Path
        Data folder and log file.
    started : bool
        Whether this call started it; False: it ran already.
    seconds : float
        How long the call took.
    """

    pid: int
    credentials: Credentials
    data: Path
    log: Path
    started: bool
    seconds: float

    @property
    def uri(self) -> str:
        """Address with credentials."""
        return self.credentials.uri


def up(folder: Path, mongod: str | None = None, port: int | None = None) -> Server:
    """Start the server unless it runs, and wait until it is primary and lets the farm's user in.

    Parameters
    ----------
    folder : Path
        Folder that holds all of the server's files; made when missing.
    mongod : str or None
        Executable; None: the wheel's, else that on PATH.
    port : int or None
        Port on 127.0.0.1; None: the last one if it is free, else any free one.

    Raises
    ------
    StoreError
        No mongod, a library or the port is missing, the data cannot be used, ...
    """
    begun = time.monotonic()
    folder = folder.resolve()
    _prepare(folder)
    with _alone(folder):
        _write_key(folder)
        process = running(folder)
        started = process is None
        process = process or _start(folder, find_mongod(mongod), port)
        settled = _settle(folder, port_of(process))
    return Server(
        pid=process.pid,
        credentials=settled,
        data=folder / "data",
        log=folder / "mongod.log",
        started=started,
        seconds=time.monotonic() - begun,
    )


def down(folder: Path, timeout: float = STOP_SECONDS, force: bool = False) -> int | None:
    """Stop the server cleanly; its pid, or None when it did not run.

    Parameters
    ----------
    folder : Path
        As for `up`.
    timeout : float
        Seconds it may take.
    force : bool
        Kill it (SIGKILL) when it takes longer; acknowledged writes survive that.

    Raises
    ------
    StoreError
        It did not end in time and `force` was not given.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        return None
    with _alone(folder):
        process = running(folder)
        if process is None:
            return None
        process.terminate()
        if not _ends(process, timeout):
            if not force:
                raise StoreError(
                    f"mongod (pid {process.pid}) was asked to stop and has not within "
                    f"{timeout:.0f} s; it may still do so",
                    "Run `qfarm down` again to wait longer, or `qfarm down --force` to kill it.",
                )
            process.kill()
            _ends(process, timeout)
        return int(process.pid)


def running(folder: Path) -> psutil.Process | None:
    """The process of the server that owns this folder, if it runs."""
    data = folder.resolve() / "data"
    try:
        process = psutil.Process(int((data / "mongod.lock").read_text()))
        words = process.cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return process if _follows(words, "--dbpath") == str(data) else None


def port_of(process: psutil.Process) -> int:
    """Port that a running server was told to listen on."""
    return int(_follows(process.cmdline(), "--port") or 0)


def _follows(words: list[str], option: str) -> str | None:
    return words[words.index(option) + 1] if option in words[:-1] else None


def _prepare(folder: Path) -> None:
    with _writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / "data").mkdir(exist_ok=True)
        (folder / "lock").touch(0o600)
        free = shutil.disk_usage(folder).free
    if free < MINIMUM_FREE:
        raise StoreError(
            f"only {free // 10**6} MB are free on the disk that holds {folder}",
            "Free some space, or set `folder` in qfarm.toml to a folder on another disk.",
        )


def _write_key(folder: Path) -> None:
    """Make the secret of the replica set once: a running server knows the first one only."""
    with _writing(folder):
        if not (folder / "keyfile").exists():
            write_private(folder / "keyfile", secrets.token_hex(64))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write the MongoDB folder {folder}: {error.strerror}",
            "Set `folder` in qfarm.toml to a folder that you may write.",
        ) from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server of a folder; others wait."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(folder: Path, binary: Path, configured: int | None) -> psutil.Process:
    _put_long_log_aside(folder / "mongod.log")
    for port in _ports(folder, configured):
        output = _launch(folder, binary, port)
        process = running(folder)
        if process is not None:
            return process
        # Another program may have taken the free port meanwhile: then the next one.
        if configured is not None or "Address already in use" not in output:
            break
    raise explain(output, binary, folder / "data", port, folder / "mongod.log")


def _ports(folder: Path, configured: int | None) -> Iterator[int]:
    """Ports to try: the configured one alone, or the last one if free and then free ones.

    Running workers know the last one, and a mongod that was just killed gives its socket back a
    moment later, so it is worth a short wait.
    """
    if configured is not None:
        yield configured
        return
    last = read_credentials(folder)
    if last is not None and _becomes_free(last.port):
        yield last.port
    for _ in range(_PORT_ATTEMPTS):
        yield _free_port()


def _launch(folder: Path, binary: Path, port: int) -> str:
    """Run mongod until it is in the background, or has failed; what it printed and logged."""
    log, printed = folder / "mongod.log", folder / "mongod.out"
    logged = log.stat().st_size if log.exists() else 0
    words = command_line(binary, folder / "data", port, folder / "keyfile", log)
    try:
        with printed.open("wb") as out:
            subprocess.run(  # returns as soon as the server listens: --fork
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                timeout=START_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return f"it was not ready within {START_SECONDS:.0f} s"
    except OSError as error:
        raise StoreError(
            f"{binary} cannot be run: {error.strerror}",
            "Set mongo.mongod in qfarm.toml to a mongod for this machine.",
        ) from None
    return printed.read_text(errors="replace") + _errors_since(log, logged)


def _errors_since(log: Path, position: int) -> str:
    """Lines of severity E (error) and F (fatal) that were logged after `position`."""
    if not log.exists():
        return ""
    with log.open(errors="replace") as file:
        file.seek(position)
        return "".join(line for line in file if '"s":"E"' in line or '"s":"F"' in line)


def _settle(folder: Path, port: int) -> Credentials:
    """Bring credentials, replica set and user to where they must be."""
    known = read_credentials(folder)
    wanted = Credentials(port, USER, known.password if known else secrets.token_hex(24))
    if wanted != known:
        write_credentials(folder, wanted)
    key = (folder / "keyfile").read_text()
    try:
        make_ready(port, key, wanted.uri, wanted.username, wanted.password)
    except PyMongoError as error:
        raise StoreError(
            f"mongod on port {port} runs but does not become ready: {said(error)}",
            f"Read the log {folder / 'mongod.log'}; `qfarm down` and `qfarm up` start it afresh.",
        ) from None
    return wanted


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _becomes_free(port: int) -> bool:
    """Wait a little for a port to be free."""
    deadline = time.monotonic() + _PORT_PATIENCE
    while not _is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _ends(process: psutil.Process, timeout: float) -> bool:
    """Wait for the end of a process that is not a child."""
    deadline = time.monotonic() + timeout
    while not _ended(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only waits for its parent to notice.

    While a zombie has threads left, these may still hold the port and the data folder.
    """
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return not process.is_running()
        return bool(process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def _put_long_log_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > MAXIMUM_LOG:
        log.replace(log.with_name("mongod.log.1"))
