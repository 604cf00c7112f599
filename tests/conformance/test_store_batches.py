"""Claims and commits of many at once: the same as one after the other, in fewer round trips."""

from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from qfarm.ladder import Done, GiveUp, Retry
from qfarm.store.protocol import Claim, Ended, Refusal, Selection, Store
from qfarm_schemas.attempt import Rung
from qfarm_schemas.failure import FailureKind
from support.lpad import check_consistent, launchpad, raw
from support.work import (
    LEASE,
    SINGLE_POINT,
    attempt_of,
    failed,
    finish,
    keys_of,
    plans,
    record_of,
    states,
    take,
    work_off,
    worker,
)

__all__ = ["launchpad", "raw"]

EVERYTHING = Selection()

Raw = Database[dict[str, Any]]


def take_many(store: Store, limit: int) -> list[Claim]:
    found = store.claim_many(worker(), LEASE, limit)
    claims = [claim for claim in found if isinstance(claim, Claim)]
    assert all(store.heartbeat(claim, LEASE) for claim in claims)  # shows them to FireWorks
    return claims


def done(claim: Claim) -> Ended:
    return Ended(claim, attempt_of(claim), Done(), record_of(claim))


def retried(claim: Claim) -> Ended:
    failure = failed(FailureKind.SCF_NOT_CONVERGED)
    return Ended(claim, attempt_of(claim, failure), Retry(Rung(scf="damping")))


def given_up(claim: Claim) -> Ended:
    failure = failed(FailureKind.NO_GAP)
    return Ended(claim, attempt_of(claim, failure), GiveUp("no gap", "check the charge"))


def test_they_come_by_priority_then_age_and_never_twice(store: Store) -> None:
    store.add(plans(3))
    store.add(plans(2, first=10), priority=5)
    claims = take_many(store, 4)
    assert [claim.key for claim in claims] == keys_of([*plans(2, first=10), *plans(2)], "preopt")
    assert len({claim.token for claim in claims}) == 4
    assert [claim.key for claim in take_many(store, 4)] == keys_of(plans(1, first=2), "preopt")
    assert store.claim_many(worker(), LEASE, 4) == ()


def test_each_has_what_a_single_claim_has(store: Store, launchpad: LaunchPad, raw: Raw) -> None:
    store.add(plans(4))
    first, second = take_many(store, 2)
    assert store.commit_many([done(first), retried(second)]) == (True, True)
    found = {claim.key: claim for claim in take_many(store, 10)}
    again = found[second.key]
    assert (again.number, len(again.history)) == (2, 1)
    (after,) = (claim for claim in found.values() if claim.workflow == first.workflow)
    assert after.stage == SINGLE_POINT
    assert after.start.positions == pytest.approx(record_of(first).result.positions)
    assert after.submitted == first.submitted
    assert all(store.heartbeat(claim, LEASE) for claim in found.values())
    check_consistent(raw, launchpad)


def test_all_ways_to_end_in_one_commit(store: Store, launchpad: LaunchPad, raw: Raw) -> None:
    store.add(plans(3))
    one, two, three = take_many(store, 3)
    assert store.commit_many([done(one), retried(two), given_up(three)]) == (True, True, True)
    assert states(store) == {
        ("preopt", "done"): 1,
        ("preopt", "ready"): 1,
        ("preopt", "failed"): 1,
        ("single_point", "ready"): 1,
        ("single_point", "waiting"): 2,
    }
    assert [record.key for record in store.records(EVERYTHING)] == [one.key]
    check_consistent(raw, launchpad)
    assert len(work_off(store)) == 3
    check_consistent(raw, launchpad)


def test_who_lost_the_lease_does_not_stop_the_others(
    store: Store, launchpad: LaunchPad, raw: Raw
) -> None:
    store.add(plans(3))
    kept, cancelled, lost = take_many(store, 3)
    raw["fireworks"].update_one(
        {"spec.qfarm.key": lost.key}, {"$set": {"lease.worker.name": "far"}}
    )
    (_,) = store.take_over(lambda who: who.name == "far", worker("reaper"))
    store.cancel(Selection(fragment_ids=(cancelled.submitted.id,)))
    ended = [done(claim) for claim in (lost, kept, cancelled)]
    assert store.commit_many(ended) == (False, True, False)
    assert [record.key for record in store.records(EVERYTHING)] == [kept.key]
    check_consistent(raw, launchpad)


def test_the_same_commit_again_changes_nothing(store: Store, raw: Raw) -> None:
    store.add(plans(2))
    ended = [done(claim) for claim in take_many(store, 2)]
    assert store.commit_many(ended) == (True, True)
    before = [list(raw[name].find()) for name in ("fireworks", "workflows", "attempts", "records")]
    assert store.commit_many(ended) == (True, True)
    assert store.commit_many(ended[:1]) == (True,)
    after = [list(raw[name].find()) for name in ("fireworks", "workflows", "attempts", "records")]
    assert before == after


def test_what_is_not_qfarms_own_is_refused_among_the_others(store: Store, raw: Raw) -> None:
    store.add(plans(3))
    raw["fireworks"].update_one(
        {"fw_id": 3}, {"$set": {"spec._tasks": [{"_fw_name": "ScriptTask"}]}}
    )
    raw["fireworks"].update_one({"fw_id": 5}, {"$set": {"spec.qfarm": "nothing"}})
    found = store.claim_many(worker(), LEASE, 3)
    assert [type(item) for item in found] == [Claim, Refusal, Refusal]
    assert [item.fw_id for item in found if isinstance(item, Refusal)] == [3, 5]
    assert raw["fireworks"].count_documents({"state": "FIZZLED"}) == 2


def test_a_count_of_attempts_that_was_set_back_costs_no_record(
    store: Store, launchpad: LaunchPad, raw: Raw
) -> None:
    """The stage is offered again under the right number, and its first attempt stays."""
    store.add(plans(2))
    one, two = take_many(store, 2)
    store.commit_many([retried(one), retried(two)])
    raw["fireworks"].update_one({"spec.qfarm.key": one.key}, {"$set": {"spec.qfarm.attempts": 0}})
    wrong, right = take_many(store, 2)
    assert [claim.number for claim in (wrong, right)] == [1, 2]
    assert store.commit_many([done(wrong), done(right)]) == (False, True)
    check_consistent(raw, launchpad)
    again = take(store)
    assert (again.key, again.number, len(again.history)) == (one.key, 2, 1)
    finish(store, again)
    assert raw["attempts"].count_documents({"key": one.key}) == 2
    check_consistent(raw, launchpad)


def test_two_of_one_workflow_are_refused(store: Store) -> None:
    store.add(plans(1))
    claim = take(store)
    with pytest.raises(ValueError, match="one workflow"):
        store.commit_many([done(claim), done(claim)])
    assert store.commit_many([]) == ()
    assert states(store)["preopt", "running"] == 1


def test_what_was_not_begun_can_be_given_back(store: Store, launchpad: LaunchPad, raw: Raw) -> None:
    store.add(plans(3))
    kept, back, lost = take_many(store, 3)
    raw["fireworks"].update_one({"spec.qfarm.key": lost.key}, {"$set": {"lease.token": "other"}})
    store.release([back, lost])
    store.release([back])
    assert not store.heartbeat(back, LEASE)
    assert store.commit_many([done(back), done(kept)]) == (False, True)
    check_consistent(raw, launchpad)
    assert states(store)["preopt", "running"] == 1
    again = next(claim for claim in take_many(store, 9) if claim.key == back.key)
    assert (again.number, again.history) == (1, ())


def test_an_id_that_looks_like_an_expression_stops_nobody(store: Store, raw: Raw) -> None:
    store.add(plans(2))
    raw["fireworks"].insert_one({"_id": "$", "fw_id": 100, "state": "READY", "spec": {}})
    found = store.claim_many(worker(), LEASE, 4)
    assert [type(item) for item in found] == [Claim, Claim, Refusal]
