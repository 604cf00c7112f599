"""fsck on a real MongoDB: finds and cures every spoil, beside workers, whoever asks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from threading import Event, Thread
from typing import Any

import pytest
from bson import ObjectId
from fireworks import LaunchPad
from pymongo.database import Database

from qfarm.store import open_store
from qfarm.store.fsck import Options, Report, fsck
from qfarm.store.protocol import Selection, StageState, Store
from support.fsck import COLLECTIONS, LIVES, Document, done_farm, lived, store, together
from support.fsck_spoils import BESIDE_INDEXES, SPOILS
from support.lpad import check_consistent, launchpad, raw
from support.work import fail, give_up, plans, take, work_off, worker

__all__ = ["launchpad", "raw"]

Raw = Database[dict[str, Any]]


class Farm:
    """fsck on the test's database."""

    def __init__(self, uri: str, name: str, raw: Raw) -> None:
        self.uri, self.name, self.raw = uri, name, raw

    def look(self, **options: Any) -> Report:
        return fsck(self.uri, self.name, Options(patience=0.2, page=10, **options))

    def repair(self) -> Report:
        report = self.look(repair=True)
        assert report.left == 0, broken(report)
        assert broken(self.look(deep=True)) == {}
        return report


def broken(report: Report) -> dict[str, list[str]]:
    """What was found, by invariant."""
    return {
        name: [f"{one.where[:12]} {one.said}" for one in tally.examples]
        for name, tally in report.tallies.items()
        if tally.found
    }


@pytest.fixture
def farm(mongo_uri: str, database: str, raw: Raw) -> Iterator[Farm]:
    """An empty farm, set up."""
    with open_store(mongo_uri, database):
        yield Farm(mongo_uri, database, raw)


@pytest.fixture
def worked(farm: Farm, mongo_uri: str, database: str) -> Iterator[tuple[Farm, Store]]:
    """A farm in which stages are in all states, by the store's own hands."""
    with open_store(mongo_uri, database) as opened:
        opened.add(plans(6))
        fail(opened, take(opened))
        give_up(opened, take(opened))
        work_off(opened)
        opened.add(plans(4, first=6))
        give_up(opened, take(opened))
        fail(opened, take(opened))
        taken = take(opened)
        opened.cancel(Selection(fragment_ids=(plans(1, first=9)[0].fragment.id,)))
        opened.retry(Selection(fragment_ids=(plans(1)[0].fragment.id,)))
        assert taken
        yield farm, opened


def test_what_the_store_writes_is_whole(worked: tuple[Farm, Store]) -> None:
    farm, opened = worked
    report = farm.look(deep=True)
    assert broken(report) == {}
    assert report.tallies["links"].checked == 10
    assert report.tallies["record there"].checked == 20
    assert report.tallies["intact fragment"].checked >= 10
    assert report.tallies["lost record"].checked == len(list(opened.records(Selection())))
    before = {name: list(farm.raw[name].find()) for name in farm.raw.list_collection_names()}
    assert farm.look(repair=True).found == 0
    del before["schema"]
    assert before == {name: list(farm.raw[name].find()) for name in before}


def spoil_all(farm: Farm) -> dict[str, str]:
    """A workflow for each spoil, spoiled; workflow key -> spoil."""
    spoiled, names = [], {}
    for number, (name, (_, spoil)) in enumerate(BESIDE_INDEXES.items()):
        for steps in LIVES:
            one = lived(number, steps)
            if spoil(one, Random(0)):
                break
        else:
            raise AssertionError(name)
        spoiled.append(one)
        names[next(iter(one["fireworks"]))["spec"]["qfarm"]["workflow"]] = name
    store(farm.raw, together(spoiled), datetime.now(UTC))
    return names


def test_every_spoil_is_found_and_cured(farm: Farm, launchpad: LaunchPad) -> None:
    names = spoil_all(farm)
    before = farm.look()
    assert before.left == before.found >= len(names)
    wanted = {invariant for invariant, _ in BESIDE_INDEXES.values()}
    assert wanted <= set(broken(before))
    farm.repair()
    check_consistent(farm.raw, launchpad)
    assert farm.raw["fireworks"].count_documents({}) == 2 * len(names)
    with open_store(farm.uri, farm.name) as opened:
        opened.retry(Selection(state=StageState.FAILED))
        opened.retry(Selection(state=StageState.CANCELLED))
        farm.raw["fireworks"].update_many(
            {"lease.token": {"$exists": True}}, {"$set": {"lease.expires": datetime.now(UTC)}}
        )
        for claim in opened.take_over(lambda _: True, worker()):
            fail(opened, claim)
        work_off(opened)
        assert len(list(opened.records(Selection()))) == 2 * len(names)
    assert broken(farm.look(deep=True)) == {}


@pytest.mark.parametrize("seed", range(3))
def test_garbage_in_any_field_stops_nothing(farm: Farm, seed: int) -> None:
    random = Random(seed)
    store(farm.raw, together(lived(n, random.choice(LIVES)) for n in range(12)), datetime.now(UTC))
    for name in COLLECTIONS * 8:
        item = random.choice(list(farm.raw[name].find()))
        path = random.choice(
            [*item, *(f"{k}.{k2}" for k, v in item.items() if isinstance(v, dict) for k2 in v)]
        )
        if path.split(".")[0] not in ("_id", "fw_id", "launch_id", "key"):
            value = random.choice([None, 7, -1.5, "x", [], ["x"], [[1]], {"a": 1}, True])
            farm.raw[name].update_one({"_id": item["_id"]}, {"$set": {path: value}})
    before = farm.look(deep=True)
    assert before.found
    report = farm.look(repair=True)
    assert report.left < report.found
    again = farm.look(repair=True)
    assert (again.found, again.left) == (report.left, report.left), broken(again)


def test_what_belongs_to_nothing_goes_to_lost_found(farm: Farm) -> None:
    whole = together([done_farm()])
    store(farm.raw, whole, datetime.now(UTC))
    for name in ("fireworks", "workflows"):
        farm.raw[name].delete_many({})
    found = broken(farm.look())
    assert set(found) == {"lost attempt", "lost record", "lost launch", "lost fragment"}
    report = farm.repair()
    assert report.tallies["lost attempt"].repaired == 4
    kept = list(farm.raw["lost_found"].find())
    assert {item["collection"] for item in kept} == {"attempts", "records", "launches", "fragments"}
    records = [item["document"] for item in kept if item["collection"] == "records"]
    assert records == whole["records"]


def test_twins_that_came_without_the_index(farm: Farm) -> None:
    farm.raw["fireworks"].drop_index("spec.qfarm.key_1")
    one = lived(0, LIVES[0])
    assert SPOILS["twin"][1](one, Random(0))
    store(farm.raw, one, datetime.now(UTC))
    assert set(broken(farm.look())) >= {"unique", "all stages"}
    farm.repair()
    assert "spec.qfarm.key_1" in farm.raw["fireworks"].index_information()


def test_counters_are_set_above_what_is_in_use(farm: Farm) -> None:
    """Before anything else: cures take ids, here for the launch of a stage that is done."""
    store(farm.raw, done_farm(), datetime.now(UTC))
    farm.raw["launches"].delete_one({"state": "COMPLETED", "launch_id": {"$lt": 103}})
    farm.raw["fw_id_assigner"].update_one({}, {"$set": {"next_fw_id": 2, "next_launch_id": "x"}})
    before = broken(farm.look())
    assert set(before) == {"counters", "launch list", "launch state"}
    assert len(before["counters"]) == 2
    farm.raw["fireworks"].update_one(
        {"fw_id": 1}, {"$set": {"launches": [], "archived_launches": []}}
    )
    farm.raw["launches"].delete_many({"fw_id": 1})
    farm.repair()
    (counters,) = farm.raw["fw_id_assigner"].find()
    last = farm.raw["launches"].find_one({}, sort=[("launch_id", -1)])
    assert (counters["next_fw_id"], counters["next_launch_id"]) == (3, last["launch_id"] + 1)


def test_workflows_without_stages_and_missing_contents(farm: Farm) -> None:
    store(farm.raw, together([lived(0, ()), lived(1, ())]), datetime.now(UTC))
    farm.raw["fragments"].delete_one({})
    farm.raw["workflows"].insert_one({"nodes": [], "metadata": {"key": "w1"}, "state": "READY"})
    found = broken(farm.look())
    assert set(found) == {"one workflow", "contents"}
    report = farm.look(repair=True)
    assert (report.left, report.tallies["contents"].left) == (2, 2)


def test_strangers_that_run_are_stopped(farm: Farm) -> None:
    stranger: Document = {"_id": ObjectId(), "fw_id": 7, "state": "RUNNING", "spec": {"_tasks": []}}
    farm.raw["fireworks"].insert_one(dict(stranger))
    farm.raw["fireworks"].insert_one(stranger | {"_id": 2, "fw_id": 8, "state": "READY"})
    farm.raw["fw_id_assigner"].update_one({}, {"$set": {"next_fw_id": 9}})
    assert set(broken(farm.look())) == {"strangers"}
    farm.repair()
    states = {item["fw_id"]: item["state"] for item in farm.raw["fireworks"].find()}
    assert states == {7: "FIZZLED", 8: "READY"}


def test_deep_finds_what_was_changed_inside(farm: Farm) -> None:
    store(farm.raw, together([done_farm(), lived(1, ())]), datetime.now(UTC))
    farm.raw["records"].update_one({}, {"$set": {"result.energy": "low"}})
    farm.raw["attempts"].update_one({}, {"$set": {"worker": 7}})
    farm.raw["fragments"].update_one({"_id": PLANS_ID}, {"$set": {"charge": 1}})
    farm.raw["fireworks"].update_one({"state": "READY"}, {"$set": {"spec._tasks": []}})
    assert broken(farm.look()) == {}
    found = broken(farm.look(deep=True))
    wanted = {"intact record", "intact attempt", "intact fragment", "intact entry"}
    assert set(found) == wanted


PLANS_ID = done_farm()["workflows"][0]["metadata"]["fragment_id"]


def test_workers_go_on_meanwhile(farm: Farm, mongo_uri: str, database: str) -> None:
    """Nothing that workers do is taken for a violation, and a repair changes nothing of it."""
    stop = Event()

    def work() -> None:
        with open_store(mongo_uri, database) as opened:
            while not stop.is_set():
                work_off(opened)

    with open_store(mongo_uri, database) as opened:
        threads = [Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for first in range(0, 60, 20):
                opened.add(plans(20, first=first))
                report = farm.look(repair=True)
                assert broken(report) == {}
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        work_off(opened)
        assert len(list(opened.records(Selection()))) == 120
    assert broken(farm.look(deep=True)) == {}


def test_a_sign_of_life_saves_a_stage(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that seemed over, and is kept again while fsck waits, is left alone."""
    store(farm.raw, together([lived(0, ("claim",)), lived(1, ("claim",))]), datetime.now(UTC))
    farm.raw["fireworks"].update_many(
        {"state": "RUNNING"}, {"$set": {"lease.expires": datetime(2026, 1, 1, tzinfo=UTC)}}
    )

    def beat(_: float) -> None:
        farm.raw["fireworks"].update_one(
            {"fw_id": 1}, {"$set": {"lease.expires": datetime.now(UTC)}}
        )

    monkeypatch.setattr("qfarm.store.fsck.examine.time.sleep", beat)
    report = farm.look(repair=True)
    assert report.tallies["lease"].found == report.tallies["lease"].repaired == 1
    states = {item["fw_id"]: item["state"] for item in farm.raw["fireworks"].find()}
    assert (states[1], states[11]) == ("RUNNING", "READY")
