"""Restore: whole or not at all, also when it or mongod is killed; the farm goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo import MongoClient

from qfarm.errors import StoreError
from qfarm.store import backup, connection, open_store, server, upkeep
from qfarm.store.backup import BackupError, loading
from qfarm.store.protocol import Store
from support.backups import Raw, documents, other, save, some_of_all
from support.lpad import check_consistent, raw
from support.mongo import has_mongod
from support.needs import need
from support.work import fail, plans, states, work_off, worker

__all__ = ["other", "raw"]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a second server, which never saw the farm."""
    need(has_mongod(), "mongod")
    folder = tmp_path_factory.mktemp("fresh") / "mongo"
    yield server.up(folder).uri
    server.down(folder, timeout=0, force=True)


def test_restored_on_a_fresh_server_the_farm_goes_on(
    store: Store, raw: Raw, mongo_uri: str, database: str, fresh: str, tmp_path: Path
) -> None:
    some_of_all(store)
    raw["fireworks"].create_index("updated_on", name="users_own")
    saved = save(mongo_uri, database, tmp_path / "farm.backup")
    assert backup.restore(fresh, "again", tmp_path / "farm.backup") == saved
    with (
        MongoClient[dict[str, Any]](fresh, tz_aware=True) as client,
        LaunchPad(host=fresh, name="again", uri_mode=True, strm_lvl="ERROR").connection,
    ):
        found = client["again"]
        assert documents(found) == documents(raw)
        for name in documents(raw):
            assert found[name].index_information() == raw[name].index_information(), name
        with open_store(fresh, "again") as again:
            assert states(again) == states(store)
            lost = [c for _ in range(3) for c in again.take_over(lambda _: False, worker("reaper"))]
            assert [claim.taken_from for claim in lost] == [worker("w1")]
            fail(again, lost[0])
            work_off(again)
            assert states(again) == {("preopt", "done"): 4, ("single_point", "done"): 4}
            assert again.add(plans(4)).known == 4
        pad = LaunchPad(host=fresh, name="again", uri_mode=True, strm_lvl="ERROR")
        check_consistent(found, pad)
        pad.connection.close()


def test_database_must_be_empty(
    store: Store, raw: Raw, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    """What qfarm writes when it only looks is no content; whatever else there is stays."""
    store.add(plans(1))
    save(mongo_uri, database, tmp_path / "x")
    before = documents(raw)
    with pytest.raises(BackupError, match=r"not empty.*fireworks") as caught:
        backup.restore(mongo_uri, database, tmp_path / "x", drop_partial=True)
    assert "--database" in caught.value.remedy
    assert documents(raw) == before
    with open_store(mongo_uri, other):
        pass
    backup.restore(mongo_uri, other, tmp_path / "x")
    assert documents(raw.client[other]) == before


def test_damaged_file_writes_nothing(
    store: Store, raw: Raw, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    store.add(plans(1))
    save(mongo_uri, database, tmp_path / "x")
    data = bytearray((tmp_path / "x").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BackupError, match="damaged"):
        backup.restore(mongo_uri, other, tmp_path / "x")
    assert other not in raw.client.list_database_names()


KILLED = """
import os, sys, pathlib
from qfarm.store import backup, upkeep
from qfarm.store.backup import loading as load
load.load.__defaults__ = (1.0,)
point, uri, database, path = sys.argv[1:]
def die(*_, **__): os.kill(os.getpid(), 9)
if point == "rename":
    before, load._names, seen = load._names, None, []
    def names(connection):
        seen.append(1)
        return die() if len(seen) == 5 else before(connection)
    load._names = names
else:
    setattr(load, point, die)
backup.restore(uri, database, pathlib.Path(path))
"""


@pytest.mark.parametrize("point", ["_index", "_compare", "_finish", "rename"])
def test_killed_restore_is_no_farm(
    store: Store, raw: Raw, mongo_uri: str, database: str, other: str, tmp_path: Path, point: str
) -> None:
    """Nobody takes it for one; the next restore begins again, or ends what is left."""
    some_of_all(store)
    path = tmp_path / "x"
    save(mongo_uri, database, path)
    words = [sys.executable, "-c", KILLED, point, mongo_uri, other, str(path)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert raw.client[other]["fireworks"].find_one() is None, "it could be claimed"
    with pytest.raises(StoreError, match="restore"), open_store(mongo_uri, other):
        pass
    with pytest.raises(StoreError, match="restore"):
        save(mongo_uri, other, tmp_path / "y")
    if point in {"_index", "_compare"}:
        with pytest.raises(StoreError, match="part of a backup") as caught:
            backup.restore(mongo_uri, other, path)
        assert "--drop-partial" in caught.value.remedy
        backup.restore(mongo_uri, other, path, drop_partial=True)
    else:
        backup.restore(mongo_uri, other, path)
    assert documents(raw.client[other]) == documents(raw)
    with open_store(mongo_uri, other) as again:
        assert states(again) == states(store)


def test_mongod_killed_during_a_restore(
    store: Store,
    mongo_uri: str,
    database: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_ANSWER_MS", 250)
    monkeypatch.setattr(loading.load, "__defaults__", (1.0,))
    store.add(plans(3))
    save(mongo_uri, database, tmp_path / "x")
    folder = tmp_path_factory.mktemp("killed") / "mongo"
    started = server.up(folder)

    def kill(step: backup.Step) -> None:
        if step.what == "reading back fireworks":
            os.kill(started.pid, signal.SIGKILL)

    try:
        with pytest.raises(BackupError, match="went away") as caught:
            backup.restore(started.uri, "again", tmp_path / "x", report=kill)
        assert "--drop-partial" in caught.value.remedy
        uri = server.up(folder).uri
        with pytest.raises(StoreError, match="part of a backup"), open_store(uri, "again"):
            pass
        backup.restore(uri, "again", tmp_path / "x", drop_partial=True)
        with open_store(uri, "again") as again:
            assert states(again) == states(store)
    finally:
        server.down(folder, timeout=0, force=True)


def test_two_restores_at_once(
    store: Store, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    store.add(plans(2))
    save(mongo_uri, database, tmp_path / "x")
    caught: list[StoreError] = []

    def meddle(step: backup.Step) -> None:
        if step.what == "restoring fireworks" and not caught:
            with pytest.raises(StoreError, match=f"locked.*process {os.getpid()}") as error:
                backup.restore(mongo_uri, other, tmp_path / "x", drop_partial=True)
            caught.append(error.value)

    with backup.opened(tmp_path / "x") as whole:
        target = backup.Connection.open(mongo_uri, other)
        loading.load(target, whole, False, meddle, lease=1.0)
        target.close()
    assert caught


def test_what_others_write_meanwhile_is_noticed(
    store: Store, raw: Raw, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    store.add(plans(2))
    save(mongo_uri, database, tmp_path / "x")
    target = raw.client[other]

    def meddle(step: backup.Step) -> None:
        if step.what == "reading back fireworks":
            target["restoring.records"].insert_one({"_id": "mine"})

    with pytest.raises(BackupError, match="other documents in 'records'"):
        backup.restore(mongo_uri, other, tmp_path / "x", report=meddle)

    def submit(step: backup.Step) -> None:
        if step.what == "reading back fireworks":
            target["fireworks"].insert_one({"_id": "mine"})

    with pytest.raises(BackupError, match="wrote to 'fireworks'"):
        backup.restore(mongo_uri, other, tmp_path / "x", drop_partial=True, report=submit)
    assert target["fireworks"].find_one() == {"_id": "mine"}


def test_process_that_slept_before_the_last_step_does_not_go_on(
    store: Store, raw: Raw, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    """Another took the lock and copies anew: its parts must not be renamed by the first."""
    store.add(plans(2))
    save(mongo_uri, database, tmp_path / "x")
    before, target = loading._enter_renaming, raw.client[other]

    def sleep(*arguments: Any) -> None:
        target["schema"].update_one({"_id": upkeep.LOCK}, {"$set": {"token": "another"}})
        before(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_enter_renaming", sleep)
        with pytest.raises(StoreError, match=r"lock .* was lost"):
            backup.restore(mongo_uri, other, tmp_path / "x")
    assert target["schema"].find_one({"_id": "version"})["restoring"]["phase"] == "copying"
    assert "fireworks" not in target.list_collection_names()


def test_part_that_vanished_is_no_farm(
    store: Store, raw: Raw, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    store.add(plans(2))
    save(mongo_uri, database, tmp_path / "x")
    before = loading._enter_renaming

    def drop(*arguments: Any) -> None:
        before(*arguments)
        raw.client[other].drop_collection("restoring.stages")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_enter_renaming", drop)
        with pytest.raises(BackupError, match="stages vanished"):
            backup.restore(mongo_uri, other, tmp_path / "x")
    with pytest.raises(StoreError, match="restore"), open_store(mongo_uri, other):
        pass


def test_index_that_deletes_is_refused_before_anything_is_written(
    store: Store, raw: Raw, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    store.add(plans(1))
    raw["records"].create_index("done", expireAfterSeconds=1)
    save(mongo_uri, database, tmp_path / "x")
    with pytest.raises(BackupError, match="expireAfterSeconds"):
        backup.restore(mongo_uri, other, tmp_path / "x")
    assert other not in raw.client.list_database_names()


@pytest.mark.parametrize("name", ["a.b", "", "admin", "local", "config"])
def test_name_that_is_no_farms(name: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="database"):
        backup.restore("mongodb://nowhere", name, tmp_path / "x")
