"""What others put into the queue, or change in it, is refused, noted and never run."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from fireworks import Firework, LaunchPad, PyTask, ScriptTask, Workflow
from pymongo.database import Database

from qfarm.errors import LeaseLostError, StoreError
from qfarm.store.entry import RUN_STAGE
from qfarm.store.protocol import Refusal, Selection, StageState, Store
from support.lpad import check_consistent, launchpad, raw
from support.work import (
    LEASE,
    SINGLE_POINT,
    fail,
    finish,
    give_up,
    plan_of,
    plans,
    states,
    take,
    water,
    work_off,
    worker,
)

__all__ = ["launchpad", "raw"]

Raw = Database[dict[str, Any]]
SPEC = "spec.qfarm."


def refused(store: Store) -> Refusal:
    answer = store.claim(worker(), LEASE)
    assert isinstance(answer, Refusal), answer
    assert answer in store.refusals()
    assert store.claim(worker(), LEASE) is None
    return answer


def script(marker: Path) -> ScriptTask:
    return ScriptTask.from_str(f"touch {marker}")


def module(marker: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> PyTask:
    """A task whose module leaves a mark when it is only imported."""
    (folder / "trap.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef run(): pass\n")
    monkeypatch.syspath_prepend(folder)
    return PyTask(func="trap.run")


def test_foreign_tasks_are_never_run(
    store: Store,
    launchpad: LaunchPad,
    raw: Raw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marker = tmp_path / "ran"
    tasks = [
        [script(marker)],
        [module(marker, tmp_path, monkeypatch)],
        [script(marker), script(marker)],
    ]
    for task in tasks:
        launchpad.add_wf(Workflow([Firework(task, name="foreign")]))
        refusal = refused(store)
        assert "RunStage" in refusal.reason
    assert len(store.refusals()) == 3
    assert not marker.exists()
    assert "trap" not in sys.modules
    assert store.workflow_counts() == {"FIZZLED": 3}
    assert store.counts() == ()
    assert {item["state"] for item in raw["fireworks"].find()} == {"FIZZLED"}
    assert [item["fw_states"] for item in raw["workflows"].find()] == [
        {str(fw_id): "FIZZLED"} for fw_id in (1, 2, 3)
    ]


def test_a_name_in_an_entry_is_not_imported(store: Store, raw: Raw, tmp_path: Path) -> None:
    store.add(plans(1))
    (tmp_path / "trapped.py").write_text("raise SystemExit('imported')\n")
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {"spec._tasks.0._fw_name": "{{trapped.T}}"}})
    assert "{{trapped.T}}" in refused(store).reason
    assert "trapped" not in sys.modules


TAMPERED: dict[str, Callable[[Raw], dict[str, Any]]] = {
    "another task beside ours": lambda _: {
        "spec._tasks": [{"_fw_name": RUN_STAGE}, {"_fw_name": "ScriptTask", "script": ["true"]}]
    },
    "a parameter of our task": lambda _: {
        "spec._tasks": [{"_fw_name": RUN_STAGE, "script": "true"}]
    },
    "no task": lambda _: {"spec._tasks": []},
    "tasks not a list": lambda _: {"spec._tasks": RUN_STAGE},
    "an unknown key": lambda _: {"spec._launch_dir": "/"},
    "an unknown key of ours": lambda _: {SPEC + "command": "true"},
    "no entry": lambda _: {"spec.qfarm": None},
    "spec not a document": lambda _: {"spec": "everything"},
    "a number as text": lambda _: {SPEC + "position": "0"},
    "another position": lambda _: {SPEC + "position": 1},
    "a negative position": lambda _: {SPEC + "position": -1},
    "another key": lambda _: {SPEC + "key": "w.preopt"},
    "an unknown fragment": lambda _: {SPEC + "fragment_id": "f" + 64 * "0"},
    "an unknown stage": lambda _: {SPEC + "stage_ids.1": "s" + 64 * "0"},
    "another fragment": lambda raw: {SPEC + "fragment_id": _other(raw)["fragment_id"]},
    "another protocol": lambda raw: {SPEC + "stage_ids": _other(raw)["stage_ids"]},
    "another partition": lambda _: {"spec._category": "local"},
}


def _other(raw: Raw) -> dict[str, Any]:
    found = raw["fireworks"].find_one({"fw_id": 3})
    assert found is not None
    entry: dict[str, Any] = found["spec"]["qfarm"]
    return entry


@pytest.mark.parametrize("how", TAMPERED)
def test_a_changed_entry_is_refused(how: str, store: Store, raw: Raw) -> None:
    store.add(plans(1))
    store.add([plan_of(water(7), SINGLE_POINT)], priority=-1)
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": TAMPERED[how](raw)})
    refusals = []
    while (answer := store.claim(worker(), LEASE)) is not None:
        if isinstance(answer, Refusal):
            refusals.append(answer)
        else:
            finish(store, answer)
    assert [refusal.fw_id for refusal in refusals] == [1]
    assert store.refusals() == tuple(refusals)
    assert raw["attempts"].count_documents({}) == 1
    assert [row.key for row in store.rows(Selection())]  # lists still work
    states_of = raw["workflows"].find_one({"nodes": 1})
    assert states_of is not None
    assert (states_of["state"], states_of["fw_states"]["1"]) == ("FIZZLED", "FIZZLED")


@pytest.mark.parametrize(
    ("collection", "change"),
    [
        ("fragments", {"$set": {"charge": 1}}),
        ("fragments", {"$set": {"positions.shape": [9]}}),
        ("fragments", {"$set": {"positions.dtype": "O"}}),
        ("fragments", {"$unset": {"numbers": ""}}),
        ("stages", {"$set": {"level.method": "PBE"}}),
        ("stages", {"$set": {"command": "true"}}),
    ],
)
def test_changed_content_is_refused(
    collection: str, change: dict[str, Any], store: Store, raw: Raw
) -> None:
    store.add(plans(1))
    assert raw[collection].update_many({}, change).modified_count
    assert collection.removesuffix("s") in refused(store).reason


def test_a_stage_made_ready_too_early_is_refused_and_can_be_retried(
    store: Store, raw: Raw, launchpad: LaunchPad
) -> None:
    store.add(plans(1))
    first = take(store)
    raw["fireworks"].update_one({"fw_id": 2}, {"$set": {"state": "READY"}})
    assert "no record" in refused(store).reason
    finish(store, first)
    assert states(store)["single_point", "failed"] == 1
    assert store.retry(Selection()) == 1
    assert len(work_off(store)) == 1
    check_consistent(raw, launchpad)


def test_an_entry_changed_while_it_runs_is_refused_at_take_over(store: Store, raw: Raw) -> None:
    store.add(plans(2))
    take(store)
    good = take(store)
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {SPEC + "position": 7}})
    taken = list(store.take_over(lambda _: True, worker("reaper")))
    assert [claim.key for claim in taken] == [good.key]
    assert [refusal.fw_id for refusal in store.refusals()] == [1]


def test_traces_of_fireworks_itself_do_no_harm(store: Store, raw: Raw) -> None:
    """A rocket that could not import the task notes that in the spec and fizzles it."""
    store.add(plans(1))
    fail(store, take(store))
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {"spec._exception_details": {"a": 1}}})
    assert len(work_off(store)) == 2
    assert store.refusals() == ()


BROKEN: dict[str, Any] = {
    "not an attempt": {"$unset": {"outcome": ""}},
    "an unknown field": {"$set": {"command": "true"}},
    "a time that is none": {"$set": {"started": "yesterday"}},
    "a number out of place": {"$set": {"cost": 7}},
    "an array of no type": {"$set": {"rung.scf": {"dtype": "f8,(", "shape": [1], "data": b"0"}}},
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_attempt_makes_its_entry_foreign(how: str, store: Store, raw: Raw) -> None:
    store.add(plans(1))
    bad = take(store)
    fail(store, bad)
    raw["attempts"].update_one({}, BROKEN[how])
    refusal = refused(store)
    assert f"{bad.key}:1" in refusal.reason
    assert "'attempts'" in refusal.reason
    assert raw["attempts"].count_documents({}) == 1
    with pytest.raises(StoreError, match="other hands"):
        store.view(bad.submitted.id)


@pytest.mark.parametrize(
    "change",
    [
        {"$unset": {"result": ""}},
        {"$set": {"result.positions.shape": [99, 3]}},
    ],
)
def test_a_broken_record_makes_the_next_stage_foreign(
    change: dict[str, Any], store: Store, raw: Raw
) -> None:
    store.add(plans(1))
    bad = take(store)
    finish(store, bad)
    raw["records"].update_one({}, change)
    refusal = refused(store)
    assert bad.key in refusal.reason
    with pytest.raises(StoreError, match="other hands"):
        list(store.records(Selection()))


def test_a_record_of_another_size_makes_the_next_stage_foreign(store: Store, raw: Raw) -> None:
    store.add(plans(1))
    bad = take(store)
    finish(store, bad)
    raw["records"].update_one({}, {"$set": {"result.positions": [[0, 0, 0]]}})
    assert f"record {bad.key} has 1 atoms" in refused(store).reason


LEASES: dict[str, Any] = {
    "text": "mine",
    "nothing": None,
    "a list": [1],
    "only a token": {"token": "x"},
    "no worker": {"worker": None},
    "a worker that is none": {"worker": {"name": "w"}},
    "launch": {"launch": None},
    "an unknown field": {"command": "true"},
    "an operator": {"token": "x", "$bogus": 1},
}


@pytest.mark.parametrize("how", LEASES)
def test_a_bogus_lease_is_refused_and_stops_nobody(how: str, store: Store, raw: Raw) -> None:
    store.add(plans(2))
    bad, good = take(store), take(store)
    lease = LEASES[how]
    changes = {"lease": lease}
    if isinstance(lease, dict) and "token" not in lease:
        changes = {f"lease.{name}": value for name, value in lease.items()}
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": changes})
    assert [item.key for item in store.running()] == [good.key]
    assert list(store.take_over(lambda _: False, worker("reaper"), 60.0)) == []
    assert store.refusals() == (), "it is watched first: a rocket may be about to end it"
    assert not store.heartbeat(bad, LEASE)
    with pytest.raises(LeaseLostError):
        finish(store, bad)
    taken = list(store.take_over(lambda _: True, worker("reaper")))
    assert [claim.key for claim in taken] == [good.key]
    (refusal,) = store.refusals()
    assert refusal.fw_id == 1
    assert "lease" in refusal.reason
    assert states(store)["preopt", "failed"] == 1
    assert store.retry(Selection(state=StageState.FAILED)) == 1


@pytest.mark.parametrize("name", ["expires", "seconds"])
def test_a_beat_mends_the_times_of_a_lease(name: str, store: Store, raw: Raw) -> None:
    store.add(plans(1))
    claim = take(store)
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {f"lease.{name}": "tomorrow"}})
    assert list(store.take_over(lambda _: False, worker("reaper"), 60.0)) == []
    assert store.heartbeat(claim, LEASE)
    finish(store, claim)


def test_a_bogus_lease_can_be_cancelled(store: Store, raw: Raw) -> None:
    store.add(plans(1, SINGLE_POINT))
    take(store)
    raw["fireworks"].update_one({}, {"$set": {"lease": {"token": "x"}}})
    assert store.cancel(Selection()) == 1
    assert states(store) == {("single_point", "cancelled"): 1}


@pytest.mark.parametrize(
    ("state", "means"),
    [
        ("ARCHIVED", "cancelled"),
        ("PAUSED", "cancelled"),
        ("DEFUSED", "cancelled"),
        ("RESERVED", "running"),
        ("OFFLINE", "running"),
        ("FIZZLED", "failed"),
        ("WEIRD", "failed"),
        (None, "failed"),
        (7, "failed"),
    ],
)
def test_every_state_counts_as_something(state: object, means: str, store: Store, raw: Raw) -> None:
    store.add(plans(2, SINGLE_POINT))
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {"state": state}})
    assert states(store) == {("single_point", "ready"): 1, ("single_point", means): 1}
    (row,) = store.rows(Selection(state=StageState(means)))
    assert row.state == means
    finish(store, take(store))
    if means in {"failed", "cancelled"}:
        assert store.retry(Selection(state=StageState(means))) == 1
        assert len(work_off(store)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"$unset": {"fw_id": ""}},
        {"$set": {"fw_id": "one"}},
        {"$set": {"launches": 3, "archived_launches": ["x"], "_tasks": 1, "spec": []}},
        {"$set": {"spec.qfarm.stage": "x", "spec.qfarm.position": "y"}},
        {"$set": {"updated_on": 5, "failure": "none", "spec.qfarm.tags": 1}},
        {"$set": {"launches": [{"a": 1}]}, "$unset": {"fw_id": ""}},
        {"$set": {"spec.when": DatetimeMS(2**60)}},
    ],
)
def test_any_ready_document_is_survived(change: dict[str, Any], store: Store, raw: Raw) -> None:
    store.add(plans(2, SINGLE_POINT))
    raw["fireworks"].update_one({"fw_id": 1}, change)
    answers = []
    while (answer := store.claim(worker(), LEASE)) is not None:
        answers.append(answer)
    assert sum(isinstance(answer, Refusal) for answer in answers) in {0, 1}
    assert len(answers) in {1, 2}
    assert store.counts()
    assert list(store.rows(Selection()))


def test_a_workflow_of_broken_links_is_survived(store: Store, raw: Raw) -> None:
    store.add(plans(3, SINGLE_POINT))
    raw["workflows"].update_one({"nodes": 1}, {"$set": {"links": None}})
    raw["workflows"].update_one({"nodes": 2}, {"$unset": {"links": ""}})
    raw["workflows"].update_one({"nodes": 3}, {"$push": {"nodes": {"a": 1}}})
    assert len(work_off(store)) == 3


def test_a_stage_listing_strange_launches_is_given_back(store: Store, raw: Raw) -> None:
    store.add(plans(1))
    odd = {"archived_launches": [{"a": 1}, "x"], "launches": 7}
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": odd})
    store.release([take(store)])
    assert len(work_off(store)) == 2


STRAY: dict[str, Callable[[str], dict[str, Any]]] = {
    "entries in a list": lambda key: {"fw_id": 0, "spec": {"qfarm": [{"workflow": key}]}},
    "keys in a list": lambda key: {"fw_id": 0, "spec": {"qfarm": {"workflow": [key]}}},
    "nothing else": lambda key: {"spec": {"qfarm": {"workflow": key, "position": 1}}},
    "a copy of the next stage": lambda key: {
        "fw_id": 0,
        "state": "WAITING",
        "spec": {"qfarm": {"workflow": key, "position": 1}},
    },
}


@pytest.mark.parametrize("how", STRAY)
def test_what_only_looks_like_a_stage_holds_up_no_commit(how: str, store: Store, raw: Raw) -> None:
    (plan,) = plans(1)
    store.add([plan])
    following = raw["fireworks"].find_one_and_delete({"fw_id": 2})
    assert following is not None
    raw["fireworks"].insert_many([STRAY[how](plan.key), following])  # before the true one
    give_up(store, take(store))
    assert store.retry(Selection(stage="preopt")) == 1
    finish(store, take(store))
    found = raw["fireworks"].find_one({"fw_id": 2})
    assert found is not None
    assert found["state"] == "READY"
