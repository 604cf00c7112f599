"""Merge: two farms become one, whatever each has done of the same work."""

import numpy as np
import pytest

from qfarm.ladder import Done
from qfarm.store import adding, arrays
from qfarm.store.merge import Kind, adopting
from qfarm.store.protocol import Claim, Selection, Store
from qfarm_schemas.record import Record
from support.merge import Farms, farms, pair
from support.work import (
    LEASE,
    attempt_of,
    fail,
    finish,
    give_up,
    plans,
    record_of,
    states,
    take,
    work_off,
    worker,
)

__all__ = ["farms", "pair"]


def kinds(farms: Farms) -> dict[str, dict[str, int]]:
    return {name: dict(found) for name, found in farms.merge().stages.items()}


def test_unknown_workflows_come_with_all_that_was_found_out(farms: Farms) -> None:
    farms.here.add(plans(2))
    work_off(farms.here)
    farms.there.add(plans(5, first=10), priority=7)
    farms.there.cancel(Selection(fragment_ids=(plans(1, first=14)[0].fragment.id,)))
    finish(farms.there, take(farms.there))
    fail(farms.there, take(farms.there))
    finish(farms.there, take(farms.there))
    give_up(farms.there, take(farms.there))
    before = farms.content()
    merged = farms.merge()
    assert (merged.new, merged.known, merged.left_out, merged.stages) == (5, 0, 0, {})
    assert merged.added == {"done": 2, "failed": 1, "to compute": 5, "cancelled": 2}
    for plan in plans(5, first=10):
        there, here = (store.view(plan.fragment.id) for store in (farms.there, farms.here))
        assert (here.fragment, here.stages, here.attempts) == (
            there.fragment,
            there.stages,
            there.attempts,
        )
        assert [row.state for row in here.rows] == [row.state for row in there.rows]
        assert [row.reason for row in here.rows] == [row.reason for row in there.rows]
    ours, theirs = (list(map(_bytes, s.records(Selection()))) for s in (farms.here, farms.there))
    assert ours[4:] == theirs
    assert [item for item in farms.content()["fireworks"] if item in before["fireworks"]]
    priorities = farms.raw["fireworks"].find({"state": "READY"}).distinct("spec._priority")
    assert priorities == [7]
    work_off(farms.here)
    farms.check()
    assert farms.merge().new == 0


def _bytes(record: Record) -> str:
    return record.model_dump_json()


def test_what_ran_there_is_ready_here(farms: Farms) -> None:
    farms.there.add(plans(2))
    finish(farms.there, take(farms.there))
    take(farms.there)
    take(farms.there)
    merged = farms.merge()
    assert (merged.were_running, merged.added) == (2, {"done": 1, "to compute": 3})
    assert farms.raw["fireworks"].count_documents({"lease": {"$exists": True}}) == 0
    assert len(work_off(farms.here)) == 3


def test_missing_fragments_and_stages_come_back(farms: Farms) -> None:
    """Workers refuse a stage without them, submit takes its workflow for known."""
    for store in (farms.here, farms.there):
        store.add(plans(2))
    lost, kept = (plan.fragment.id for plan in plans(2))
    for name, query in (("fragments", {"_id": lost}), ("stages", {})):
        assert farms.raw[name].delete_many(query).deleted_count
    assert farms.merge(check=False, dry_run=True).lacked == 2
    assert farms.raw["fragments"].distinct("_id") == [kept]
    assert farms.merge().lacked == 2
    assert farms.merge().lacked == 0
    assert len(work_off(farms.here)) == 4
    farms.check()


@pytest.mark.parametrize("here", ["ready", "tried", "failed", "cancelled"])
def test_record_of_what_is_not_done_here_is_adopted(farms: Farms, here: str) -> None:
    """With its attempts, whose numbers follow ours; then the next stage is ready here."""
    for store in (farms.here, farms.there):
        store.add(plans(1))
    tried = 2 if here in {"tried", "failed"} else 0
    for _ in range(tried - (here == "failed")):
        fail(farms.here, take(farms.here))
    if here == "failed":
        give_up(farms.here, take(farms.here))
    if here == "cancelled":
        farms.here.cancel(Selection(stage="preopt"))
    fail(farms.there, take(farms.there))
    claim = take(farms.there)
    again = attempt_of(claim, continued_from=1)
    farms.there.commit(claim, again, Done(), record_of(claim, 0.5))
    assert kinds(farms) == {"preopt": {Kind.ADOPTED: 1}, "single_point": {Kind.OPEN: 1}}
    view = farms.here.view(claim.submitted.id)
    attempts = view.attempts[claim.key]
    assert [item.number for item in attempts] == list(range(1, tried + 3))
    assert attempts[-1].continued_from == tried + 1
    assert view.records[claim.key].provenance.attempt == tried + 2
    following = take(farms.here)
    assert following.stage.name == "single_point"
    assert (following.start.positions == record_of(claim, 0.5).result.positions).all()
    finish(farms.here, following)
    farms.check()
    assert kinds(farms) == {"preopt": {Kind.SAME: 1}, "single_point": {Kind.OURS: 1}}


def test_both_stages_are_adopted_at_once(farms: Farms) -> None:
    for store in (farms.here, farms.there):
        store.add(plans(3))
    work_off(farms.there)
    assert kinds(farms) == {"preopt": {Kind.ADOPTED: 3}, "single_point": {Kind.ADOPTED: 3}}
    assert states(farms.here) == {("preopt", "done"): 3, ("single_point", "done"): 3}
    ours, theirs = (list(map(_bytes, s.records(Selection()))) for s in (farms.here, farms.there))
    assert ours == theirs
    assert farms.here.claim(worker(), LEASE) is None


def commit(store: Store, shift: float, energy: float, force: float = 0.001) -> Claim:
    """Finish a stage with numbers of its own."""
    claim = take(store)
    record = record_of(claim, shift)
    fields = {"energy": energy, "forces": np.full((3, 3), force), "charges": {"a": np.arange(3.0)}}
    changed = {"result": record.result.model_copy(update=fields)}
    store.commit(claim, attempt_of(claim), Done(), record.model_copy(update=changed))
    return claim


def test_ours_stays_and_how_far_theirs_is_apart_is_told(farms: Farms) -> None:
    """A record that begins at another geometry does not follow ours."""
    for store in (farms.here, farms.there):
        store.add(plans(1))
    claim = commit(farms.here, 0.0, -10.0)
    commit(farms.there, 0.25, -10.5, 0.003)
    finish(farms.there, take(farms.there))
    before = farms.content()
    merged = farms.merge()
    assert merged.stages == {"preopt": {Kind.DIFFERENT: 1}, "single_point": {Kind.APART: 1}}
    apart = merged.apart["preopt"]
    assert (apart.energy, apart.fragment_id) == (0.5, claim.submitted.id)
    assert apart.force == pytest.approx(0.002)
    assert apart.shift == pytest.approx(0.25)
    assert farms.content() == before
    work_off(farms.here)
    assert farms.merge().total(Kind.DIFFERENT) == 2


def test_other_numbers_at_the_same_geometry_may_be_followed(farms: Farms) -> None:
    for store in (farms.here, farms.there):
        store.add(plans(1))
    commit(farms.here, 0.25, -10.0)
    commit(farms.there, 0.25, -10.1)
    finish(farms.there, take(farms.there))
    assert kinds(farms) == {"preopt": {Kind.DIFFERENT: 1}, "single_point": {Kind.ADOPTED: 1}}


def test_what_runs_here_is_left_alone(farms: Farms) -> None:
    for store in (farms.here, farms.there):
        store.add(plans(1))
    work_off(farms.there)
    claim = take(farms.here)
    before = farms.content()
    assert kinds(farms) == {"preopt": {Kind.RUNNING: 1}, "single_point": {Kind.RUNNING: 1}}
    assert farms.content() == before
    fail(farms.here, claim)
    assert kinds(farms) == {"preopt": {Kind.ADOPTED: 1}, "single_point": {Kind.ADOPTED: 1}}


@pytest.mark.parametrize("does", ["claims", "commits", "cancels"])
def test_whoever_changes_a_stage_in_between_wins(
    farms: Farms, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    """What is true when it is written counts, not what was true when it was looked at."""
    for store in (farms.here, farms.there):
        store.add(plans(1))
    work_off(farms.there)
    before = adopting._adopt_page

    def meddle(*arguments: object) -> object:
        if does == "cancels":
            farms.here.cancel(Selection())
        else:
            claim = take(farms.here)
            if does == "commits":
                finish(farms.here, claim)
        return before(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(adopting, "_adopt_page", meddle)
    expected = {
        "claims": {"preopt": {Kind.RUNNING: 1}, "single_point": {Kind.RUNNING: 1}},
        "commits": {"preopt": {Kind.SAME: 1}, "single_point": {Kind.ADOPTED: 1}},
        "cancels": {"preopt": {Kind.ADOPTED: 1}, "single_point": {Kind.ADOPTED: 1}},
    }
    assert kinds(farms) == expected[does]


def test_workflow_that_is_submitted_in_between_is_adopted(
    farms: Farms, monkeypatch: pytest.MonkeyPatch
) -> None:
    farms.there.add(plans(2))
    work_off(farms.there)
    before = adding.known

    def meddle(*arguments: object) -> object:
        monkeypatch.setattr(adding, "known", before)
        found = before(*arguments)  # type: ignore[arg-type]
        farms.here.add(plans(1))
        return found

    monkeypatch.setattr(adding, "known", meddle)
    merged = farms.merge()
    assert (merged.new, merged.known, merged.total(Kind.ADOPTED)) == (1, 1, 2)


def test_large_arrays_come_along(farms: Farms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each, and before the records that name them; a forged one is found."""
    monkeypatch.setattr(arrays, "LARGEST_INSIDE", 72)
    farms.here.add(plans(1))
    farms.there.add(plans(2))
    for energy in range(2):
        claim = take(farms.there)
        record = record_of(claim)
        charges = {"charges": {"a": np.arange(20.0)}, "energy": float(energy)}
        changed = {"result": record.result.model_copy(update=charges)}
        farms.there.commit(claim, attempt_of(claim), Done(), record.model_copy(update=changed))
    assert farms.raw_there["records"].count_documents({arrays.USED: {"$exists": True}}) == 2
    assert farms.merge().total(Kind.ADOPTED) == 2
    ours, theirs = (list(map(_bytes, s.records(Selection()))) for s in (farms.here, farms.there))
    assert ours == theirs
    assert farms.raw[arrays.ARRAYS].count_documents({}) == 1
    farms.raw_there[arrays.ARRAYS].update_many({}, {"$set": {"data": bytes(160)}})
    merged = farms.merge()
    assert (merged.left_out, merged.known) == (1, 1)
    assert "were changed" in merged.reasons[0]


def test_results_without_queue_entries_are_not_mixed(farms: Farms) -> None:
    """As `lpad delete_wflows` leaves them."""
    for store in (farms.here, farms.there):
        store.add(plans(2))
        work_off(store)
    key = plans(1)[0].key
    farms.raw["workflows"].delete_one({"metadata.key": key})
    farms.raw["fireworks"].delete_many({"spec.qfarm.workflow": key})
    before = farms.content()
    merged = farms.merge(check=False)
    assert (merged.new, merged.known, merged.left_out) == (0, 1, 1)
    assert "qfarm fsck" in merged.reasons[0]
    assert farms.content() == before


def test_stage_here_that_is_not_whole_is_left_alone(farms: Farms) -> None:
    for store in (farms.here, farms.there):
        store.add(plans(3))
    work_off(farms.there)
    first, second, _ = plans(3)
    one = {"spec.qfarm.key": f"{first.key}.preopt"}
    foreign = {"_fw_name": "ScriptTask", "script": "true"}
    farms.raw["fireworks"].update_one(one, {"$set": {"spec._tasks": [foreign]}})
    attempt = farms.raw_there["attempts"].find_one({"key": f"{second.key}.preopt"}) or {}
    farms.raw["attempts"].insert_one(attempt)
    merged = farms.merge(check=False)
    assert (merged.unsound, merged.total(Kind.ADOPTED)) == (2, 2)
    heads = farms.raw["fireworks"].find({"spec.qfarm.workflow": {"$in": [first.key, second.key]}})
    assert {head["state"] for head in heads} == {"READY", "WAITING"}
