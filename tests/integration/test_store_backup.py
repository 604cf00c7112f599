"""Backup of a real MongoDB: everything as it is at one moment, while workers go on."""

import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import bson
import pytest
from fireworks import LaunchPad
from pymongo import MongoClient

from qfarm.store import backup, open_store
from qfarm.store.backup import BackupError, dumping
from qfarm.store.fleet import Gate, JobNote
from qfarm.store.protocol import Claim, Selection, Store
from support.backups import Raw, documents, other, save, some_of_all
from support.farm import Desk, desk, qfarm
from support.lpad import check_consistent, raw
from support.work import LEASE, finish, plans, work_off, worker

__all__ = ["desk", "other", "raw"]


def test_backup_is_of_one_moment_while_workers_go_on(
    store: Store, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    """Each stage that is done has its record and attempt, each workflow its fireworks."""
    store.add(plans(30))
    stop, taken = Event(), []

    def work() -> None:
        first = 100
        with open_store(mongo_uri, database) as own:
            while not stop.is_set():
                own.add(plans(2, first=first))
                first += 2
                claim = own.claim(worker(), LEASE)
                if isinstance(claim, Claim):
                    finish(own, claim)

    with ThreadPoolExecutor(2) as pool:
        work_ = pool.submit(work)
        try:
            for number in range(3):
                path = tmp_path / f"{number}.backup"
                taken.append(save(mongo_uri, database, path))
        finally:
            stop.set()
        work_.result()
    assert taken[0].documents < taken[-1].documents
    backup.restore(mongo_uri, other, path)
    pad = LaunchPad(host=mongo_uri, name=other, uri_mode=True, strm_lvl="ERROR")
    with MongoClient[dict[str, Any]](mongo_uri) as client, open_store(mongo_uri, other) as again:
        found = client[other]
        check_consistent(found, pad)
        done = {row.key for row in again.rows(Selection()) if row.state == "done"}
        assert done == {record.key for record in again.records(Selection())}
        assert {item["key"] for item in found["attempts"].find()} == done
        nodes = [node for item in found["workflows"].find() for node in item["nodes"]]
        assert sorted(nodes) == sorted(item["fw_id"] for item in found["fireworks"].find())
        assert max(nodes) < found["fw_id_assigner"].find_one()["next_fw_id"]
    pad.connection.close()


def test_reads_after_the_moment_do_not_see_what_came_later(
    store: Store, raw: Raw, mongo_uri: str, database: str, tmp_path: Path
) -> None:
    """The first collection is read, then much changes, then the others are read."""
    some_of_all(store)
    before = documents(raw)

    def meddle(step: backup.Step) -> None:
        if step.what == "saving attempts" and step.done == step.total:
            work_off(store)
            store.add(plans(3, first=50))

    with (tmp_path / "x").open("xb") as file:
        backup.save(mongo_uri, database, file, report=meddle)
    assert len(documents(raw)["fireworks"]) == len(before["fireworks"]) + 6
    with zipfile.ZipFile(tmp_path / "x") as archive:
        for name, expected in before.items():
            data = archive.read(f"{database}/{name}.bson")
            options = bson.CodecOptions[dict[str, Any]](tz_aware=True)
            assert bson.decode_all(data, options) == expected, name


def test_collection_made_just_before_is_in_the_backup(
    raw: Raw, mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be read as of a moment before it: a later moment is taken."""
    first, moments = dumping._first_read, []
    raw["a"].insert_one({"_id": 1})

    def read(*arguments: Any) -> Any:
        moments.append(first(*arguments))
        raw["b"].update_one({"_id": 2}, {"$set": {"x": 1}}, upsert=True)
        return moments[-1]

    monkeypatch.setattr(dumping, "_first_read", read)
    saved = save(mongo_uri, database, tmp_path / "x")
    assert {item.name: item.documents for item in saved.collections} == {"a": 1, "b": 1}
    assert len(moments) == 2
    assert saved.cluster_time == (moments[1].time, moments[1].inc)


def test_nothing_to_save(mongo_uri: str, database: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="nothing to save") as caught:
        save(mongo_uri, database, tmp_path / "x")
    assert "mongo.database" in caught.value.remedy


def test_moment_that_is_too_old(
    store: Store, mongo_uri: str, database: str, tmp_path: Path, raw: Raw
) -> None:
    """With a window of no seconds; qfarm's own server gets a long one, for that time only."""
    name = "minSnapshotHistoryWindowInSeconds"
    store.add(plans(1))

    def grow_old(step: backup.Step) -> None:
        if step.what == "saving attempts":
            for number in range(3):
                raw["fireworks"].update_many({}, {"$set": {"touched": number}})
                raw.client.admin.command({"fsync": 1})

    def old(own_server: bool) -> None:
        path = tmp_path / f"{own_server}"
        with path.open("xb") as file:
            backup.save(mongo_uri, database, file, own_server, grow_old)
        assert backup.check(path).documents > 0

    admin = raw.client.admin
    try:
        admin.command({"setParameter": 1, name: 0})
        with pytest.raises(BackupError, match="no longer keeps the moment") as caught:
            old(own_server=False)
        assert name in caught.value.remedy
        old(own_server=True)
        assert admin.command({"getParameter": 1, name: 1})[name] == 300
    finally:
        admin.command({"setParameter": 1, name: 300})


def test_views_and_capped_collections_are_named(
    raw: Raw, mongo_uri: str, database: str, tmp_path: Path
) -> None:
    raw.create_collection("log", capped=True, size=4096)
    raw.create_collection("seen", viewOn="log", pipeline=[])
    raw["odd / näme"].insert_one({"_id": 1})
    saved = save(mongo_uri, database, tmp_path / "x")
    assert saved.left_out == ("log", "seen")
    assert [item.name for item in saved.collections] == ["odd / näme"]


def test_the_jobs_of_this_moment_are_not_saved(
    store: Store, raw: Raw, mongo_uri: str, database: str, tmp_path: Path
) -> None:
    store.add(plans(1))
    store.fleet.ask("cpu", Gate.PAUSED)
    store.fleet.note(JobNote("cpu-1", "cpu"))
    saved = save(mongo_uri, database, tmp_path / "x")
    names = {item.name for item in saved.collections}
    assert {"partitions", "jobs"} <= set(raw.list_collection_names())
    assert "fireworks" in names
    assert names.isdisjoint({"partitions", "jobs"})


def test_reader_may_save(
    store: Store, raw: Raw, mongo_uri: str, database: str, tmp_path: Path
) -> None:
    store.add(plans(1))
    raw.command("createUser", "reader", pwd="pw", roles=["read"])
    host = mongo_uri.split("@")[1].split("/", maxsplit=1)[0]
    uri = f"mongodb://reader:pw@{host}/{database}?replicaSet=qfarm"
    saved = save(uri, database, tmp_path / "x")
    assert saved.documents == sum(map(len, documents(raw).values()))


def test_no_secret_is_in_the_file(
    desk: Desk, mongo_uri: str, database: str, tmp_path: Path
) -> None:
    desk.store.add(plans(1))
    assert desk.run("doctor").code in {0, 1}
    assert desk.run("backup", "x").code == 0
    password = mongo_uri.split(":")[2].split("@", maxsplit=1)[0]
    with zipfile.ZipFile(tmp_path / "x") as archive:
        every = b"".join(map(archive.read, archive.namelist()))
    assert database.encode() in every
    assert password.encode() not in every
    assert b"mongodb://" not in every
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_commands(desk: Desk, raw: Raw, other: str, tmp_path: Path) -> None:
    desk.store.add(plans(3))
    said = desk.run("backup", "farm.backup")
    assert said.code == 0, said.err
    assert "fireworks 6 " in said.out
    assert "farm.backup: " in said.out
    again = desk.run("backup", "farm.backup")
    assert (again.code, "--overwrite" in again.err) == (1, True)
    assert desk.run("backup", "farm.backup", "--overwrite").code == 0
    assert "every byte was verified" in qfarm("backup", "--check", "farm.backup").out
    full = desk.run("restore", "farm.backup")
    assert (full.code, "not empty" in full.err) == (1, True)
    said = desk.run("restore", "farm.backup", "--database", other)
    assert said.code == 0, said.err
    assert f'database = "{other}"' in said.out
    assert documents(raw.client[other]) == documents(raw)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
