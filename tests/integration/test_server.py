"""The private mongod: it keeps data, survives kills, and is closed to everyone else."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from qfarm.errors import StoreError
from qfarm.store import server
from qfarm.store.server import Server
from support.mongo import has_mongod
from support.needs import need

Client = MongoClient[dict[str, Any]]

UP = "import sys, pathlib; from qfarm.store import server; "


@pytest.fixture(autouse=True, scope="module")
def _needs_mongod() -> None:
    need(has_mongod(), "mongod")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Folder for a server of its own, killed afterwards."""
    path = tmp_path / "farm folder" / "mongo"
    yield path
    server.down(path, timeout=0, force=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """One running server for tests that only look at it."""
    path = tmp_path_factory.mktemp("shared") / "mongo"
    yield server.up(path), path
    server.down(path, timeout=0, force=True)


def connect(uri: str) -> Client:
    return MongoClient(uri, serverSelectionTimeoutMS=10_000)


def write(uri: str, value: int) -> None:
    with connect(uri) as client:
        client.kept.values.insert_one({"value": value})


def values(uri: str) -> list[int]:
    with connect(uri) as client:
        return sorted(document["value"] for document in client.kept.values.find())


def kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    assert server._ends(process, 10)


def up_in_another_process(folder: Path, before: str = "") -> subprocess.Popen[str]:
    code = (
        f"{UP}{before or 'pass'}; s = server.up(pathlib.Path(sys.argv[1])); print(s.pid, s.started)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], text=True, stdout=subprocess.PIPE
    )


def test_down_and_up_keep_data_port_and_password(folder: Path) -> None:
    first = server.up(folder)
    write(first.uri, 1)
    assert server.down(folder) == first.pid
    assert not psutil.pid_exists(first.pid) or _is_zombie(first.pid)
    second = server.up(folder)
    assert (first.started, second.started) == (True, True)
    assert second.uri == first.uri
    assert values(second.uri) == [1]


def test_up_twice_finds_the_running_server(shared: tuple[Server, Path]) -> None:
    first, folder = shared
    again = server.up(folder)
    assert (again.pid, again.uri, again.started) == (first.pid, first.uri, False)
    assert again.seconds < 5


def test_down_is_idempotent(folder: Path, tmp_path: Path) -> None:
    assert server.down(tmp_path / "never") is None
    assert not (tmp_path / "never").exists()
    server.up(folder)
    assert server.down(folder) is not None
    assert server.down(folder) is None


def test_acknowledged_writes_survive_kill(folder: Path) -> None:
    for value in range(3):
        started = server.up(folder)
        write(started.uri, value)
        kill(started.pid)
    again = server.up(folder)
    assert again.started
    assert again.seconds < 30
    assert values(again.uri) == [0, 1, 2]


def test_two_at_once_start_one_server(folder: Path) -> None:
    both = [up_in_another_process(folder) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0].split() for process in both]
    pids = {pid for pid, _ in answers}
    assert len(pids) == 1
    assert sorted(started for _, started in answers) == ["False", "True"]
    assert [int(pid) for pid in pids] == _mongods_on(folder)


def test_pid_of_a_stranger_is_neither_trusted_nor_killed(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "mongod.lock").write_text(f"{stranger.pid}\n")
        assert server.running(folder) is None
        assert server.down(folder) is None
        assert server.up(folder).started
        assert server.down(folder) != stranger.pid
        (folder / "data" / "mongod.lock").write_text(f"{stranger.pid}\n")
        assert server.down(folder, timeout=0, force=True) is None
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize(
    "point",
    [
        "server._launch",
        "server._settle",
        "server.write_credentials",
        "server.make_ready",
        "replica._make_member",
        "replica._write_user",
    ],
)
def test_first_start_may_be_killed_anywhere(folder: Path, point: str) -> None:
    """`up` gets SIGKILL as it enters `point`; the next one finishes the work."""
    die = (
        "from qfarm.store import replica; import os; "
        f"{point} = lambda *a, **k: os.kill(os.getpid(), 9)"
    )
    with up_in_another_process(folder, die) as process:
        assert process.wait(60) == -signal.SIGKILL
    again = server.up(folder)
    write(again.uri, 1)
    assert values(again.uri) == [1]
    assert _mongods_on(folder) == [again.pid]


@pytest.mark.parametrize("damage", ["", "{", '{"port": 1}'])
def test_lost_credentials_are_made_anew(folder: Path, damage: str) -> None:
    first = server.up(folder)
    write(first.uri, 1)
    (folder / "connection.json").write_text(damage)
    again = server.up(folder)
    assert again.credentials.password != first.credentials.password
    assert values(again.uri) == [1]
    with pytest.raises(OperationFailure):
        values(first.uri)


def test_secrets_are_for_the_owner_only(shared: tuple[Server, Path]) -> None:
    _, folder = shared
    for name in ("keyfile", "connection.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    command = psutil.Process(shared[0].pid).cmdline()
    assert shared[0].credentials.password not in " ".join(command)


def test_listens_on_loopback_only(shared: tuple[Server, Path]) -> None:
    started, folder = shared
    process = psutil.Process(started.pid)
    listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {(c.laddr.ip, c.laddr.port) for c in listening} == {
        ("127.0.0.1", started.credentials.port)
    }
    assert not [c for c in process.net_connections("unix") if c.laddr]
    assert not list(folder.rglob("*.sock"))


def test_nobody_gets_in_without_the_password(shared: tuple[Server, Path]) -> None:
    port = shared[0].credentials.port
    with MongoClient[dict[str, Any]]("127.0.0.1", port) as anonymous:
        for command in (
            {"listDatabases": 1},
            {"createUser": "me", "pwd": "x", "roles": ["root"]},
            {"shutdown": 1},
        ):
            with pytest.raises(OperationFailure) as caught:
                anonymous.admin.command(command)
            assert caught.value.code == 13, command
    wrong = re.sub(r":[0-9a-f]+@", ":wrong@", shared[0].uri)
    assert wrong != shared[0].uri
    with pytest.raises(OperationFailure) as caught, connect(wrong) as client:
        client.admin.command("ping")
    assert caught.value.code == 18


def test_writes_are_journalled_and_by_majority(shared: tuple[Server, Path]) -> None:
    with connect(shared[0].uri) as client:
        assert client.write_concern.document == {"w": "majority", "j": True}
        assert client.admin.command("hello")["setName"] == "qfarm"


def test_taken_configured_port_is_an_error(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StoreError, match=f"port {port} .*taken"):
            server.up(folder, port=port)
    assert server.up(folder, port=port).credentials.port == port


@pytest.mark.parametrize("just_taken", [False, True])
def test_taken_last_port_is_left_and_the_data_follow(
    folder: Path, monkeypatch: pytest.MonkeyPatch, just_taken: bool
) -> None:
    """Also when it was free a moment ago, so that only mongod finds it taken."""
    first = server.up(folder)
    write(first.uri, 1)
    server.down(folder)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first.credentials.port))
        # Not shared any more. It does not listen: a mute listener would cost mongod 30 s.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        if just_taken:
            monkeypatch.setattr(server, "_is_free", lambda _: True)
        second = server.up(folder)
    assert second.credentials.port != first.credentials.port
    write(second.uri, 2)
    assert values(second.uri) == [1, 2]


def test_server_that_does_not_stop(folder: Path) -> None:
    started = server.up(folder)
    os.kill(started.pid, signal.SIGSTOP)
    with pytest.raises(StoreError, match=str(started.pid)) as caught:
        server.down(folder, timeout=0.2)
    assert "was asked to stop" in caught.value.what
    assert "--force" in caught.value.remedy
    assert server.down(folder, timeout=0.2, force=True) == started.pid
    assert server.running(folder) is None


def test_data_of_another_version(folder: Path) -> None:
    server.up(folder)
    server.down(folder)
    turtle = folder / "data" / "WiredTiger.turtle"
    turtle.write_text(re.sub(r"major=\d+", "major=99", turtle.read_text()))
    with pytest.raises(StoreError, match="another version of MongoDB"):
        server.up(folder)


def test_missing_library(folder: Path, tmp_path: Path) -> None:
    binary = _program(
        tmp_path,
        'echo "$0: error while loading shared libraries: libcurl.so.4: cannot open shared object '
        'file: No such file or directory" >&2; exit 127',
    )
    with pytest.raises(StoreError) as caught:
        server.up(folder, str(binary))
    assert "libcurl.so.4" in caught.value.what
    assert "apt-get install libcurl4" in caught.value.remedy


def test_executable_for_another_machine(folder: Path, tmp_path: Path) -> None:
    binary = tmp_path / "mongod"
    binary.write_bytes(b"\x7fELF nonsense")
    binary.chmod(0o700)
    with pytest.raises(StoreError, match="cannot be run"):
        server.up(folder, str(binary))


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write") as caught:
        server.up(tmp_path / "file" / "mongo")
    assert "folder" in caught.value.remedy


def test_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MINIMUM_FREE", 10**18)
    with pytest.raises(StoreError, match="MB are free"):
        server.up(folder)


def test_connection_file_says_all(shared: tuple[Server, Path]) -> None:
    started, folder = shared
    content = json.loads((folder / "connection.json").read_text())
    assert content["uri"] == started.uri
    assert content["host"] == "127.0.0.1"


def _mongods_on(folder: Path) -> list[int]:
    """Pids of all mongod processes on the data folder."""
    data = str(folder.resolve() / "data")
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if data in (process.info["cmdline"] or [])
    ]


def _is_zombie(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def _program(folder: Path, script: str) -> Path:
    path = folder / "mongod"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path
