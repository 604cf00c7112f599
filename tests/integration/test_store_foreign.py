"""What others put into the queue, or change in it, is refused, noted and never run."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fireworks import Firework, LaunchPad, PyTask, ScriptTask, Workflow
from pymongo.database import Database

from qfarm.store.entry import RUN_STAGE
from qfarm.store.protocol import Refusal, Selection, Store
from support.lpad import check_consistent, launchpad, raw
from support.work import (
    LEASE,
    SINGLE_POINT,
    fail,
    finish,
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
