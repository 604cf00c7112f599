"""FireWorks' own tools read, and may change, what qfarm writes."""

import json
import warnings
from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from qfarm.errors import LeaseLostError
from qfarm.store.protocol import Selection, Store
from support.lpad import Lpad, check_consistent, launchpad, lpad, raw
from support.work import (
    LEASE,
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

__all__ = ["launchpad", "lpad", "raw"]

EVERYTHING = Selection()


@pytest.fixture
def farm(store: Store) -> Store:
    """Six workflows: one done, one given up, one cancelled, one running, one in retry, one new."""
    store.add(plans(6))
    finish(store, take(store))
    finish(store, take(store))
    give_up(store, take(store), "every rung was tried")
    (third,) = {row.fragment_id for row in store.rows(Selection(limit=3))} - {
        row.fragment_id for row in store.rows(Selection(limit=2))
    }
    store.cancel(Selection(fragment_ids=(third,)))
    first, _ = take(store), take(store)
    fail(store, first)
    return store


def test_lpad_counts_what_qfarm_counts(farm: Store, lpad: Lpad) -> None:
    counts = farm.workflow_counts()
    assert counts == {"COMPLETED": 1, "DEFUSED": 1, "FIZZLED": 1, "READY": 2, "RUNNING": 1}
    assert lpad("get_wflows", "-d", "count") == sum(counts.values())
    assert lpad("get_wflows", "-s", "FIZZLED", "-d", "count") == counts["FIZZLED"]
    assert lpad("get_fws", "-d", "count") == sum(item.count for item in farm.counts())


def test_lpad_shows_everything_and_refresh_changes_nothing(farm: Store, lpad: Lpad) -> None:
    before = states(farm), farm.workflow_counts()
    workflows = lpad("get_wflows", "-d", "all")
    assert len(workflows) == 6
    assert workflows[0]["metadata"]["stages"] == ["preopt", "single_point"]
    fireworks = lpad("get_fws", "-d", "all")
    assert len(fireworks) == 12
    assert fireworks[0]["spec"]["_tasks"] == [{"_fw_name": "{{qfarm_workers.firetask.RunStage}}"}]
    failed = next(item for item in fireworks if item["state"] == "FIZZLED")
    assert failed["launches"][0]["action"]["stored_data"]["kind"] == "scf-not-converged"
    lpad("admin", "refresh")
    assert (states(farm), farm.workflow_counts()) == before


def test_fireworks_parses_and_agrees(
    farm: Store, launchpad: LaunchPad, raw: Database[dict[str, Any]]
) -> None:
    check_consistent(raw, launchpad)
    running = raw["fireworks"].find_one({"state": "RUNNING"})
    assert running is not None
    (launch,) = launchpad.get_fw_by_id(running["fw_id"]).launches
    assert launch.fworker.name == "w0"
    assert launch.launch_dir == ""
    work_off(farm)
    check_consistent(raw, launchpad)
    finished = raw["launches"].find_one({"state": "COMPLETED"})
    assert finished is not None
    assert finished["runtime_secs"] >= 0


def test_the_web_page_shows_it(farm: Store, launchpad: LaunchPad) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of flask's add-ons, on import
        from fireworks.flask_site.app import app
    app.lp = launchpad
    with app.test_client() as browser:
        pages = [
            "/",
            "/wf/1",
            "/fw/1",
            "/fw/1/details",
            "/wf/1/json",
            "/wf/FIZZLED/",
            "/fw/RUNNING/",
        ]
        for page in pages:
            answer = browser.get(page)
            assert answer.status_code == 200, page
        assert "H2O" in browser.get("/").text
        assert json.loads(browser.get("/fw/1/details").text)["spec"]["qfarm"]["formula"] == "H2O"


def test_a_failed_stage_that_lpad_reruns_starts_afresh(
    store: Store, lpad: Lpad, launchpad: LaunchPad, raw: Database[dict[str, Any]]
) -> None:
    store.add(plans(1))
    fail(store, take(store))
    give_up(store, take(store))
    lpad("rerun_fws", "-s", "FIZZLED")
    assert states(store) == {("preopt", "ready"): 1, ("single_point", "waiting"): 1}
    check_consistent(raw, launchpad)
    claim = take(store)
    assert claim.number == 3
    assert claim.history == ()
    finish(store, claim)
    assert len(work_off(store)) == 1
    check_consistent(raw, launchpad)


def test_a_done_stage_that_lpad_reruns_keeps_its_record(
    store: Store, launchpad: LaunchPad, raw: Database[dict[str, Any]]
) -> None:
    store.add(plans(1))
    work_off(store)
    before = [record.key for record in store.records(EVERYTHING)]
    launchpad.rerun_fw(1)
    assert states(store) == {("preopt", "ready"): 1, ("single_point", "waiting"): 1}
    assert store.claim(worker(), LEASE) is None
    assert states(store) == {("preopt", "done"): 1, ("single_point", "done"): 1}
    assert [record.key for record in store.records(EVERYTHING)] == before
    check_consistent(raw, launchpad)


def test_a_running_stage_that_lpad_takes_away_is_lost_to_its_worker(
    store: Store, launchpad: LaunchPad, raw: Database[dict[str, Any]]
) -> None:
    store.add(plans(1))
    zombie = take(store)
    launchpad.rerun_fw(1)
    assert not store.heartbeat(zombie, LEASE)
    with pytest.raises(LeaseLostError):
        finish(store, zombie)
    assert len(work_off(store)) == 2
    check_consistent(raw, launchpad)


def test_defused_and_paused_by_fireworks_is_cancelled_and_can_be_retried(
    store: Store, launchpad: LaunchPad
) -> None:
    store.add(plans(2))
    launchpad.defuse_fw(1)
    launchpad.pause_fw(3)
    assert states(store)["preopt", "cancelled"] == 2
    assert store.claim(worker(), LEASE) is None
    assert store.retry(EVERYTHING) == 2
    assert len(work_off(store)) == 4


def test_a_workflow_that_lpad_holds_is_waited_for(
    store: Store, raw: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qfarm.store.transitions.LOCK_PATIENCE", 0.3)
    store.add(plans(1))
    raw["workflows"].update_one({}, {"$set": {"locked": True}})
    claim = take(store)  # the lock is left for ever: after a while it is broken
    assert raw["workflows"].count_documents({"locked": {"$exists": True}}) == 0
    finish(store, claim)


def test_lost_runs_are_none_while_heartbeats_come(store: Store, launchpad: LaunchPad) -> None:
    store.add(plans(1))
    claim = take(store)
    first = launchpad.get_launch_by_id(1).last_pinged
    assert store.heartbeat(claim, LEASE)
    assert launchpad.get_launch_by_id(1).last_pinged > first
    assert launchpad.detect_lostruns(expiration_secs=30) == ([], [], [])


def test_labels_that_look_like_expressions_are_only_text(
    store: Store, launchpad: LaunchPad, raw: Database[dict[str, Any]]
) -> None:
    strange = ("$state", "{{os.system}}", "a.b", "é", "{'$gt': ''}")
    store.add([plan_of(water(0, tags=strange, source="$$NOW"))])
    who = worker("$lease.token")
    claim = take(store, who)
    assert store.heartbeat(claim, LEASE)
    assert store.running()[0].worker == who
    (taken,) = store.take_over(lambda _: True, worker("$$ROOT"))
    assert taken.taken_from == who
    assert taken.submitted.tags == strange
    give_up(store, taken, "$reason")
    assert next(store.rows(Selection(limit=1))).reason == "$reason"
    assert [row.tags for row in store.rows(Selection(tag="$state"))] == [strange] * 2
    check_consistent(raw, launchpad)
