"""Two farms on the tests' MongoDB, one of which is merged into the other."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fireworks import LaunchPad
from pymongo import MongoClient

from qfarm.store import merge, open_store
from qfarm.store.fsck import Options, fsck
from qfarm.store.merge import Merged
from qfarm.store.protocol import Store
from qfarm.store.upkeep import LOCK
from support.backups import Documents, Raw, documents, save
from support.lpad import check_consistent


class Farms:
    """The farm `here`, and the farm `there`, whose backups are merged into it."""

    def __init__(self, uri: str, names: list[str], folder: Path, stack: ExitStack) -> None:
        self.uri = uri
        self.folder = folder
        self.here_name, self.there_name = names
        client = stack.enter_context(MongoClient[Any](uri, tz_aware=True))
        self.raw, self.raw_there = (client[name] for name in names)
        self.here: Store = stack.enter_context(open_store(uri, names[0]))
        self.there: Store = stack.enter_context(open_store(uri, names[1]))

    def saved(self) -> Path:
        """A new backup of the farm there."""
        path = self.folder / f"{uuid4().hex}.backup"
        save(self.uri, self.there_name, path)
        return path

    def merge(self, path: Path | None = None, check: bool = True, **options: Any) -> Merged:
        """Merge the farm there into the one here; all that must hold is looked at."""
        (merged,) = merge.merge(self.uri, self.here_name, [path or self.saved()], **options)
        if check:
            self.check()
        return merged

    def content(self) -> Documents:
        """All of the farm here but the counters, of which each merge may skip some."""
        found = documents(self.raw)
        return {name: items for name, items in found.items() if name != "fw_id_assigner"}

    def check(self) -> None:
        """FireWorks agrees, numbers are unique and below the counters, nothing lacks its part."""
        pad = LaunchPad(host=self.uri, name=self.here_name, uri_mode=True, strm_lvl="ERROR")
        with pad.connection:
            check_consistent(self.raw, pad)
        check_histories(self.raw)
        found = fsck(self.uri, self.here_name, Options(deep=True)).as_dict()["invariants"]
        assert {name: one["examples"] for name, one in found.items() if one["found"]} == {}


def check_histories(raw: Raw) -> None:
    """Attempts, records, launches and counters fit the queue."""
    counters = raw["fw_id_assigner"].find_one() or {}
    launches = {item["launch_id"]: item for item in raw["launches"].find()}
    assert all(number < counters["next_launch_id"] for number in launches)
    records = {item["_id"]: item for item in raw["records"].find()}
    attempts: dict[str, dict[int, Any]] = {}
    for item in raw["attempts"].find():
        assert item["_id"] == f"{item['key']}:{item['number']}"
        attempts.setdefault(item["key"], {})[item["number"]] = item
    for item in raw["fireworks"].find():
        assert item["fw_id"] < counters["next_fw_id"]
        entry = item["spec"]["qfarm"]
        own, record = attempts.pop(entry["key"], {}), records.pop(entry["key"], None)
        assert sorted(own) == list(range(1, entry["attempts"] + 1))
        assert (record is not None) == (item["state"] == "COMPLETED")
        every = {*item["launches"], *item["archived_launches"]}
        assert {one["store"]["launch"] for one in own.values()} <= every
        assert all(launches[number]["fw_id"] == item["fw_id"] for number in every)
        if record is not None:
            assert record["store"]["fw_id"] == item["fw_id"]
            number = record["provenance"]["attempt"]
            assert own[number]["outcome"]["status"] == "success"
    assert (attempts, records) == ({}, {})


@pytest.fixture(scope="module")
def pair(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farms]:
    """Two farms; opening them takes longer than emptying them."""
    names = [f"test_{uuid4().hex[:12]}" for _ in range(2)]
    with ExitStack() as stack:
        made = Farms(mongo_uri, names, tmp_path_factory.mktemp("backups"), stack)
        yield made
        for name in names:
            made.raw.client.drop_database(name)


@pytest.fixture
def farms(pair: Farms) -> Farms:
    """Two empty farms, whose counters go on."""
    for database in (pair.raw, pair.raw_there):
        for name in database.list_collection_names():
            if name not in {"schema", "fw_id_assigner"}:
                database[name].delete_many({})
        database["schema"].delete_one({"_id": LOCK})
    return pair
