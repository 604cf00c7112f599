"""A small sample of the chaos of `tests/chaos`, and whether its checker can find anything."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos import checker, faults, storm, surgical
from chaos.faultpoints import AFTER, BEFORE, Doom
from chaos.faults import KILLS, OTHERS
from chaos.fleet import FORKED
from chaos.surgical import Operation, Theatre

SEED = 4
LIFE = 36
"""Commands of a task's life, about; a doom beyond its end finds a victim that lives."""

Document = dict[str, Any]
QUICK = Operation(seconds=0.8, heartbeat=0.2, engine=0.0, reap=0.2, longest_wait=0.1, patience=30.0)


@pytest.fixture
def theatre(mongo_uri: str, database: str, tmp_path: Path) -> Iterator[Theatre]:
    with surgical.theatre(tmp_path / "farm", mongo_uri, database, QUICK) as opened:
        yield opened


def test_a_worker_killed_at_commands_of_its_life_loses_and_doubles_nothing(
    theatre: Theatre,
) -> None:
    drawn = random.Random(SEED)
    for at in drawn.sample(range(1, LIFE), k=24):
        doom = Doom(at, drawn.choice((BEFORE, AFTER)))
        point = theatre.operate(doom)
        assert point is None or point.recovery is not None, f"stuck after {doom}"
    assert theatre.verdict().violations == {}


@pytest.mark.parametrize("way", [BEFORE, AFTER])
def test_a_worker_that_sleeps_through_its_lease_in_a_commit(
    mongo_uri: str, database: str, tmp_path: Path, way: str
) -> None:
    operation = replace(QUICK, stop=True)
    with surgical.theatre(tmp_path / "farm", mongo_uri, database, operation) as theatre:
        point = theatre.operate(Doom(1, way, stop=True, only="commitTransaction"))
        assert point is not None
        assert point.recovery is not None
        assert theatre.verdict().violations == {}


def test_a_storm_of_kills(tmp_path: Path) -> None:
    options = storm.Options(SEED, 60, 6, (FORKED,), loud=False, only_kills=True)
    place = tmp_path / "storm"
    with storm.prepared(place, options) as weather:
        weather.submit()
        weather.rage()
        weather.calm()
        found = checker.check(weather.raw, weather.lines, weather.farm.log)
    assert found.violations == {}
    assert weather.fleet.fell == []
    assert weather.journal.kills >= 6


def test_the_same_seed_gives_the_same_faults() -> None:
    once, twice = faults.draw(7, 50), faults.draw(7, 50)
    assert once == twice != faults.draw(8, 50)
    assert sum(fault.is_kill for fault in once) == 50
    assert {fault.kind for fault in once} >= OTHERS.keys()
    assert {fault.kind for fault in faults.draw(7, 1000)} == KILLS.keys() | OTHERS.keys()


Damage = Callable[[Any, dict[str, str]], object]


def change(collection: str, query: Document, **fields: Any) -> Damage:
    """Set fields (``__`` stands for a dot) of the one document of a stage or workflow."""
    named = {name.replace("__", "."): value for name, value in fields.items()}

    def do(raw: Any, own: dict[str, str]) -> object:
        filled = {k: v.format(**own) if isinstance(v, str) else v for k, v in query.items()}
        return raw[collection].update_one(filled, {"$set": named}).modified_count

    return do


def drop(collection: str, key: str, value: str) -> Damage:
    def do(raw: Any, own: dict[str, str]) -> object:
        return raw[collection].delete_one({key: value.format(**own)}).deleted_count

    return do


def twice(collection: str, key: str, value: str, **fields: Any) -> Damage:
    """Insert a copy of a document with other values for fields."""

    def do(raw: Any, own: dict[str, str]) -> object:
        found = raw[collection].find_one({key: value.format(**own)})
        return raw[collection].insert_one(found | {"_id": "copy"} | fields).inserted_id

    return do


SECOND = "{w}.single_point"
LAST = {"spec.qfarm.workflow": "{w}", "spec.qfarm.position": 1}
RECORD = {"key": SECOND}
DAMAGES: list[tuple[str, Damage]] = [
    ("0 workflows of a fragment", drop("workflows", "metadata.key", "{w}")),
    ("2 workflows of a fragment", twice("workflows", "metadata.key", "{w}")),
    ("has not each of its stages", drop("fireworks", "spec.qfarm.key", SECOND)),
    ("a workflow is locked", change("workflows", {"metadata.key": "{w}"}, locked=True)),
    ("FireWorks' rule", change("workflows", {"metadata.key": "{w}"}, state="RUNNING")),
    ("fw_states", change("fireworks", LAST, state="RUNNING")),
    ("a lease is left", change("fireworks", LAST, lease={"token": "x"})),
    ("miscounted", change("fireworks", LAST, spec__qfarm__attempts=7)),
    ("names a launch twice", change("fireworks", LAST, launches=[1, 1])),
    ("0 records of a stage", drop("records", "key", SECOND)),
    ("2 records of a stage", twice("records", "key", SECOND)),
    ("energy of a record", change("records", RECORD, result__energy=-1.0)),
    ("geometry of a record", change("records", RECORD, result__positions={})),
    ("of another attempt", change("records", RECORD, result__engine_version="storm 1.x")),
    ("attempt of a record is not", change("records", RECORD, provenance__attempt=9)),
    ("not numbered 1 to n", change("attempts", RECORD, number=3)),
    ("not one success a record", twice("attempts", "key", SECOND, number=2)),
    ("one token committed twice", twice("attempts", "key", SECOND, number=2)),
    ("what no engine said", change("attempts", RECORD, store__token="x")),
    ("wrong rung", change("attempts", RECORD, rung={"scf": "smeared"})),
    ("a fragment is not there", drop("fragments", "_id", "{f}")),
    ("a launch of no firework", twice("launches", "state", "COMPLETED", launch_id=10**6)),
]


def test_the_checker_finds_what_is_wrong(theatre: Theatre) -> None:
    for _ in range(2):
        theatre.operate(None)
    assert theatre.verdict().violations == {}
    whole = {name: list(theatre.raw[name].find()) for name in theatre.raw.list_collection_names()}
    spoiled = theatre.raw.client[f"{theatre.raw.name}_spoiled"]  # it has no unique indexes
    own = {"f": theatre.used[0].id, "w": theatre.used[0].workflow}
    try:
        for rule, damage in DAMAGES:
            copy(whole, spoiled)
            assert damage(spoiled, own), rule
            broken = checker.check(spoiled, theatre.used, theatre.farm.log).violations
            assert any(rule in text for text in broken), f"{rule}: {dict(broken)}"
    finally:
        spoiled.client.drop_database(spoiled.name)


def copy(whole: dict[str, list[Document]], database: Any) -> None:
    for name, documents in whole.items():
        database[name].delete_many({})
        if documents:
            database[name].insert_many(documents)
