"""The local pool: nobody else may use its processes, and it gives up when none will start."""

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import Client
from distributed.security import Security

from qfarm.errors import UserError
from qfarm.plan import Plan, workflow_key
from qfarm.store import open_store
from qfarm.store.protocol import Selection, Store
from qfarm_launchers import local
from qfarm_launchers.local import LocalPool, Place
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.attempt import Attempt
from qfarm_schemas.config import Partition, Policy
from qfarm_schemas.failure import FailureKind
from qfarm_workers.identity import gone, this_process
from support import build, steps
from support.engines import look_up
from support.wait import until

ONE = Partition(slots=1)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path / ".qfarm", "run-1")


@pytest.fixture
def taken_port() -> Iterator[None]:
    """The port that Dask's web server would like is taken."""
    with socket.socket() as other:
        with suppress(OSError):  # by someone else already: just as well
            other.bind(("127.0.0.1", 8787))
            other.listen()
        yield


@pytest.fixture
def pool(place: Place, taken_port: None) -> Iterator[LocalPool]:
    """A pool without work; warnings are errors in these tests."""
    with LocalPool(place, ONE, look_up) as started:
        yield started


def stranger(address: str, security: Any, marker: Path) -> None:
    """Connect and have a file made."""
    with Client(address, security=security, timeout=5) as client:  # type: ignore[no-untyped-call]
        client.submit(marker.touch).result(timeout=5)


def listeners() -> set[tuple[str, int]]:
    """Where this process and its children listen."""
    me = psutil.Process()
    found = [at for one in (me, *me.children(recursive=True)) for at in one.net_connections("tcp")]
    return {(at.laddr.ip, at.laddr.port) for at in found if at.status == psutil.CONN_LISTEN}


def test_strangers_are_refused(pool: LocalPool, tmp_path: Path) -> None:
    """Whoever gets in may run code as the farm's user."""
    address = pool._cluster.scheduler_address
    assert address.startswith("tls://127.0.0.1:")
    marker = tmp_path / "ran"
    bare = address.replace("tls://", "tcp://")
    attempts: list[tuple[str, Any]] = [(bare, None), (address, Security.temporary())]
    for where, security in attempts:
        with pytest.raises(OSError, match=r"TLS|reset|closed|connect"):
            stranger(where, security, marker)
    assert not marker.exists()
    ours = pool._client.submit(os.getpid).result(timeout=20)
    assert ours != os.getpid()


def test_every_port_is_closed_to_strangers_and_none_is_open_to_the_network(
    pool: LocalPool,
) -> None:
    assert {host for host, _ in listeners()} <= {"127.0.0.1"}
    for _, port in listeners():
        with suppress(OSError, ssl.SSLError), socket.create_connection(("127.0.0.1", port), 1) as s:
            s.sendall(b"GET /info/main/workers.html HTTP/1.0\r\n\r\n")
            s.settimeout(1)
            said = s.recv(4000)
            assert not said or b"404" in said.split(b"\r\n")[0], (port, said)


class Deadly:
    """Kills whatever process unpickles it, but for this one."""

    def __init__(self) -> None:
        self.spared = os.getpid()

    def __call__(self, name: str) -> Any:
        return look_up(name)

    def __reduce__(self) -> Any:
        return _die_elsewhere, (self.spared,)


def _die_elsewhere(spared: int) -> Deadly:
    if os.getpid() != spared:
        os._exit(1)
    return Deadly()


def test_it_gives_up_when_processes_die_at_every_start(place: Place) -> None:
    with LocalPool(place, ONE, Deadly()) as pool, pytest.raises(UserError, match="in a row died"):
        until(lambda: not pool.tend(), 100)


class Future:
    """Ended by the death of its process."""

    status = "pending"


def test_deaths_of_processes_that_had_begun_are_the_ladders_business(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of({1}, place, monkeypatch)
    slot = local._Slot(Future(), local.Event())
    for _ in range(local.MOST_DEATHS - 1):
        pool._settle(slot)
    pool._check()
    begun = local._Slot(Future(), local.Event())
    begun.begun.set()
    for _ in range(3 * local.MOST_DEATHS):
        pool._settle(begun)
        pool._check()
    for _ in range(local.MOST_DEATHS):
        pool._settle(slot)
    with pytest.raises(UserError):
        pool._check()


def test_it_gives_up_when_processes_die_before_they_connect(place: Place, tmp_path: Path) -> None:
    """Dask starts them again and again, several a second."""
    deadly, marker = tmp_path / "deadly.py", tmp_path / "marker"
    lines = (
        "import os",
        "def dask_setup(worker):",
        f"    os.path.exists({str(marker)!r}) and die()",
    )
    deadly.write_text("\n".join((*lines, "def die():", "    os._exit(1)")))
    with (
        dask.config.set({"distributed.worker.preload": [str(deadly)]}),
        LocalPool(place, ONE, look_up) as pool,
    ):
        marker.touch()
        for pid in pool._pids():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(UserError, match="as soon as they are started"):
            until(lambda: not pool.tend(), local.START_SECONDS / 2)


def pool_of(pids: set[int], place: Place, monkeypatch: pytest.MonkeyPatch) -> LocalPool:
    monkeypatch.setattr(LocalPool, "_pids", lambda _: pids)
    return LocalPool(place, ONE, look_up)


def test_it_does_not_wait_for_a_process_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "START_SECONDS", 0.0)
    pool = pool_of({1}, place, monkeypatch)
    pool._slots["tls://there"] = local._Slot(Future(), local.Event())
    pool._check()
    assert pool._owed == 0, "it goes on with the processes that it has"
    pool = pool_of({1}, place, monkeypatch)
    with pytest.raises(UserError, match="has come up"):
        pool._check()


@pytest.fixture
def short_lived(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Store, LocalPool]]:
    """A farm whose workers live for 2.4 s, and its pool."""
    monkeypatch.setenv("QFARM_MONGO__URI", mongo_uri)
    monkeypatch.setenv("QFARM_MONGO__DATABASE", database)
    (tmp_path / "qfarm.toml").write_text("[[partitions]]\nwalltime = 2.4\nslots = 1\n")
    place = Place(tmp_path, tmp_path / ".qfarm", "run-1")
    with open_store(mongo_uri, database) as store, LocalPool(place, ONE, steps.look_up) as pool:
        yield store, pool


def test_loops_follow_each_other_until_the_work_is_done(
    short_lived: tuple[Store, LocalPool], tmp_path: Path
) -> None:
    """As a chain of batch jobs would; what the first leaves, the second goes on from."""
    store, pool = short_lived
    submit(store, 15)
    until(lambda: not pool.tend())
    assert kinds(store) == [FailureKind.WALLTIME, None]
    assert [attempt.worker.name for attempt in attempts(store)] == ["run-1.1", "run-1.2"]
    assert not list((tmp_path / ".qfarm" / "restart").iterdir())


def test_a_worker_killed_in_a_chain_costs_its_own_attempt(
    short_lived: tuple[Store, LocalPool],
) -> None:
    store, pool = short_lived
    submit(store, 16)
    until(lambda: pool.tend() and [one for one in store.running() if one.number == 2])
    for pid in pool._pids():
        os.kill(pid, signal.SIGKILL)
    reaper = Reaper(store, this_process("reaper"), steps.look_up, 10)
    until(lambda: reaper.reap(gone))
    until(lambda: not pool.tend())
    assert kinds(store) == [FailureKind.WALLTIME, FailureKind.LOST_WORKER, None]
    (record,) = store.records(Selection())
    assert record.result.engine_version.startswith("from ")
    assert int(record.result.engine_version.removeprefix("from ")) > 3


def submit(store: Store, count: int) -> None:
    """Submit a stage of so many steps; an SCF that does not converge would end it."""
    stages = (steps.stage(count, policy=Policy(chemistry=1, node=1)),)
    store.add([Plan(workflow_key(build.WATER, stages), build.WATER, stages)])


def attempts(store: Store) -> tuple[Attempt, ...]:
    (only,) = store.view(build.WATER.id).attempts.values()
    return only


def kinds(store: Store) -> list[FailureKind | None]:
    return [getattr(attempt.outcome, "kind", None) for attempt in attempts(store)]
