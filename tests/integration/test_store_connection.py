"""Connecting: what the user is told, and that outages are waited out."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import BulkWriteError, DuplicateKeyError, InvalidOperation, OperationFailure

from qfarm.errors import LeaseLostError, StoreError
from qfarm.store import connection, open_store, server
from qfarm.store.mongo import MongoStore
from qfarm.store.mongod import find_mongod
from qfarm.store.protocol import Claim, Selection, Store
from support.mongo import has_mongod
from support.needs import need
from support.work import LEASE, finish, plans, states, take, worker

SECRET = "s3cret-w0rd"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_ANSWER_MS", 300)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def explained(uri: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        MongoStore.connect(uri, "qfarm")
    text = f"{caught.value!r} {caught.value}"
    assert SECRET not in text
    assert caught.value.remedy
    return caught.value


@pytest.mark.usefixtures("hasty")
def test_nobody_there() -> None:
    error = explained(f"mongodb://me:{SECRET}@127.0.0.1:{free_port()}/")
    assert "does not answer" in error.what
    assert "127.0.0.1" in error.what
    assert "qfarm up" in error.remedy


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://me:{SECRET}@/x",
        f"mongodb://me:{SECRET}@127.0.0.1:port/",
        f"http://me:{SECRET}@127.0.0.1/",
        f"mongodb://me:{SECRET}@x@127.0.0.1/",
        f"mongodb://me:{SECRET}@127.0.0.1/?authMechanism=NONSENSE",
        "",
    ],
)
def test_a_wrong_address(uri: str) -> None:
    assert "address" in explained(uri).what


def test_a_wrong_password(mongo_uri: str) -> None:
    host = mongo_uri.split("@")[1]
    error = explained(f"mongodb://qfarm:{SECRET}@{host}")
    assert "refuses" in error.what
    assert "password" in error.remedy


def test_no_password(mongo_uri: str) -> None:
    assert "refuses" in explained(f"mongodb://{mongo_uri.split('@')[1]}").what


@pytest.mark.usefixtures("hasty")
def test_another_replica_set(mongo_uri: str) -> None:
    assert "does not answer" in explained(mongo_uri.replace("replicaSet=", "replicaSet=x")).what


@contextmanager
def standalone(folder: Path) -> Iterator[str]:
    """A mongod that is no replica set, as people have it."""
    need(has_mongod(), "mongod")
    port = free_port()
    where = ["--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1"]
    socket_free = ["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
    process = subprocess.Popen(
        [find_mongod(), *where, *socket_free], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        yield f"mongodb://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


def test_a_standalone_server_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with standalone(tmp_path) as uri:
        client: MongoClient[dict[str, Any]] = MongoClient(uri, serverSelectionTimeoutMS=60_000)
        with client:
            client.admin.command("ping")
            error = explained(uri)
            assert "qfarm" not in client.list_database_names()
    assert "standalone" in error.what
    assert "--replSet" in error.remedy


def test_a_second_connection_finds_everything(store: Store, mongo_uri: str, database: str) -> None:
    store.add(plans(2))
    with open_store(mongo_uri, database) as other:
        assert states(other) == states(store)
        finish(other, take(other))
    assert states(store)["preopt", "done"] == 1


def test_indexes_carry_the_claim_the_counts_and_the_keys(store: Store, mongo_uri: str) -> None:
    assert isinstance(store, MongoStore)
    store.add(plans(30))
    work = store._connection["fireworks"]
    query = {"state": "READY", "spec._category": {"$in": [None, "local"]}}
    plan = work.find(query).sort([("spec._priority", -1), ("fw_id", 1)]).limit(1).explain()
    assert "'SORT'" not in str(plan["queryPlanner"]["winningPlan"])
    assert plan["executionStats"]["totalDocsExamined"] <= 2
    for field in ("spec.qfarm.key", "spec.qfarm.workflow", "spec.qfarm.fragment_id"):
        plan = work.find({field: "x"}).explain()
        assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[server.Server]:
    """A server of the test's own, to be killed."""
    need(has_mongod(), "mongod")
    yield server.up(tmp_path)
    server.down(tmp_path, force=True)


def test_a_killed_mongod_loses_nothing_and_work_goes_on(
    mongod: server.Server, tmp_path: Path
) -> None:
    """Workers notice a pause, nothing else: kill -9 in the middle of claims and commits."""
    with open_store(mongod.uri, "qfarm") as store, ThreadPoolExecutor(1) as pool:
        store.add(plans(60))
        work = pool.submit(_work_through, store)
        process = psutil.Process(mongod.pid)
        for reached in (10, 60):
            while len(list(store.records(Selection()))) < reached:
                assert not work.done()
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            process = psutil.Process(server.up(tmp_path).pid)
        keys = work.result(120)
        assert len(keys) == len(set(keys)) == 120
        assert len(list(store.records(Selection()))) == 120
        assert store.workflow_counts() == {"COMPLETED": 60}


def _work_through(store: Store) -> list[str]:
    """Work off as a worker does, which drops a claim that the crash has undone."""
    keys = []
    while isinstance(claim := store.claim(worker(), LEASE), Claim):
        with suppress(LeaseLostError):
            finish(store, claim)
            keys.append(claim.key)
    return keys


def test_patience_ends_with_an_explanation(
    mongod: server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_ANSWER_MS", 300)
    store = MongoStore.connect(mongod.uri, "qfarm", patience=0.1)
    server.down(tmp_path, force=True)
    with pytest.raises(StoreError, match="mongod runs"):
        store.add(plans(1))
    store.close()


def test_whatever_mongod_refuses_is_an_error_of_the_store(mongo_uri: str, database: str) -> None:
    """Who waits for the store waits through it; what is written twice, its callers know."""
    with closing(connection.Connection.open(mongo_uri, database, 5)) as opened:
        odd = [{"$nonsense": 1}]
        with pytest.raises(StoreError, match=r"refuses what was asked for: .*nonsense") as caught:
            opened.retry(lambda: opened["fireworks"].aggregate(odd))
        assert isinstance(caught.value.__cause__, OperationFailure)
        assert "full error" not in caught.value.what
        assert caught.value.remedy
        twice = [{"_id": 1}, {"_id": 1}]
        with pytest.raises(BulkWriteError):
            opened.retry(lambda: opened["doctor"].insert_many(twice))
        with pytest.raises(DuplicateKeyError):
            opened.transact(lambda t: opened["doctor"].insert_one({"_id": 1}, session=t.session))
    with pytest.raises(InvalidOperation):  # broken code
        opened.retry(lambda: opened["doctor"].find_one({}))
