"""What every store must do, told in the words of the protocol alone."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from qfarm.errors import LeaseLostError, NotFoundError
from qfarm.ladder import Done, GiveUp, Retry
from qfarm.store.protocol import Added, Claim, Selection, StageState, Store
from qfarm_schemas.attempt import Rung, Success, Worker
from qfarm_schemas.failure import FailureKind
from support.build import stage
from support.work import (
    LEASE,
    PREOPT,
    SINGLE_POINT,
    attempt_of,
    fail,
    failed,
    finish,
    give_up,
    keys_of,
    plan_of,
    plans,
    record_of,
    states,
    take,
    water,
    work_off,
    worker,
)

EVERYTHING = Selection()


def test_add_makes_the_first_stage_ready_and_the_others_wait(store: Store) -> None:
    assert store.add(plans(3)) == Added(new=3, known=0)
    assert states(store) == {("preopt", "ready"): 3, ("single_point", "waiting"): 3}


def test_add_leaves_known_workflows_alone(store: Store) -> None:
    store.add(plans(2))
    work_off(store)
    assert store.add(plans(3)) == Added(new=1, known=2)
    assert states(store)["preopt", "done"] == 2
    assert store.add([*plans(1, first=9), *plans(1, first=9)]) == Added(new=1, known=1)


def test_add_takes_more_than_one_batch(store: Store) -> None:
    assert store.add(plans(1201, SINGLE_POINT)) == Added(new=1201, known=0)
    rows = list(store.rows(EVERYTHING))
    assert [row.workflow for row in rows] == [plan.key for plan in plans(1201, SINGLE_POINT)]


def test_known_tells_which_workflows_are_there(store: Store) -> None:
    submitted = plans(4)
    store.add(submitted[:2])
    keys = [plan.key for plan in submitted]
    assert store.known(keys) == frozenset(keys[:2])
    assert store.known([]) == frozenset()


def test_claim_gives_all_that_a_worker_needs(store: Store) -> None:
    fragment = water(1, fragment_class="dimer", tags=("s22", "demo"), source="a.xyz#1")
    plan = plan_of(fragment)
    store.add([plan])
    before = datetime.now(UTC) - timedelta(seconds=1)
    claim = take(store, worker("w7"))
    assert claim.key == f"{plan.key}.preopt"
    assert claim.workflow == plan.key
    assert claim.submitted == fragment
    assert claim.submitted.tags == ("s22", "demo")
    assert claim.start == fragment
    assert claim.stage == PREOPT
    assert claim.history == ()
    assert claim.number == 1
    assert claim.worker == worker("w7")
    assert claim.taken_from is None
    assert before < claim.claimed < datetime.now(UTC) + timedelta(seconds=1)
    assert store.claim(worker(), LEASE) is None


def test_claim_goes_by_priority_then_age(store: Store) -> None:
    first, second, urgent = plans(3, SINGLE_POINT)
    store.add([first])
    store.add([second])
    store.add([urgent], priority=5)
    assert work_off(store) == keys_of([urgent, first, second], "single_point")


def test_a_partition_gets_its_own_stages_and_the_free_ones(store: Store) -> None:
    free, gpu, cpu = (
        plan_of(water(index), stage(partition=name))
        for index, name in enumerate([None, "gpu", "cpu"])
    )
    store.add([free, gpu, cpu])
    assert work_off(store, worker(partition="gpu")) == keys_of([free, gpu], "single_point")
    assert work_off(store, worker(partition="local")) == []
    assert work_off(store, worker(partition="cpu")) == keys_of([cpu], "single_point")


def test_done_releases_the_next_stage_at_the_accepted_geometry(store: Store) -> None:
    store.add(plans(1))
    first = take(store)
    record = record_of(first, shift=0.125)
    store.commit(first, attempt_of(first), Done(), record)
    assert states(store) == {("preopt", "done"): 1, ("single_point", "ready"): 1}
    second = take(store)
    assert second.stage == SINGLE_POINT
    assert second.submitted == first.submitted
    np.testing.assert_array_equal(second.start.positions, record.result.positions)
    finish(store, second)
    assert states(store) == {("preopt", "done"): 1, ("single_point", "done"): 1}
    assert store.claim(worker(), LEASE) is None


def test_records_and_attempts_come_back_as_they_were(store: Store) -> None:
    store.add([plan_of(water(1), SINGLE_POINT)])
    claim = take(store)
    wrong = attempt_of(claim, failed(FailureKind.SCF_NOT_CONVERGED))
    store.commit(claim, wrong, Retry(Rung(scf="damping")))
    claim = take(store)
    right = attempt_of(claim, Success(), rung=Rung(scf="damping"))
    record = record_of(claim)
    store.commit(claim, right, Done(), record)
    view = store.view(claim.submitted.id)
    assert view.attempts == {claim.key: (wrong, right)}
    found = view.records[claim.key]
    assert found.model_dump(mode="json") == record.model_dump(mode="json")
    np.testing.assert_array_equal(found.result.forces, record.result.forces)
    assert view.stages == {claim.key: SINGLE_POINT}
    assert view.fragment == claim.submitted
    assert [(row.state, row.attempts) for row in view.rows] == [(StageState.DONE, 2)]


def test_retry_makes_the_stage_ready_with_its_history(store: Store) -> None:
    store.add(plans(1))
    for number in (1, 2, 3):
        claim = take(store)
        assert claim.number == number
        assert [attempt.number for attempt in claim.history] == list(range(1, number))
        fail(store, claim)
    assert states(store) == {("preopt", "ready"): 1, ("single_point", "waiting"): 1}


def test_give_up_fails_the_stage_with_reason_and_remedy(store: Store) -> None:
    store.add(plans(2))
    give_up(store, take(store), "every rung was tried")
    rows = list(store.rows(Selection(state=StageState.FAILED, stage="preopt")))
    assert [(row.reason, row.remedy) for row in rows] == [
        ("every rung was tried", "check the charge")
    ]
    assert states(store)["single_point", "waiting"] == 2
    assert len(work_off(store)) == 2
    assert states(store)["single_point", "waiting"] == 1


def test_committing_the_same_attempt_again_changes_nothing(store: Store) -> None:
    store.add(plans(1))
    claim = take(store)
    finish(store, claim)
    finish(store, claim)
    second = take(store)
    finish(store, claim)
    assert states(store) == {("preopt", "done"): 1, ("single_point", "running"): 1}
    assert len(store.view(claim.submitted.id).attempts[claim.key]) == 1
    assert len(list(store.records(EVERYTHING))) == 1
    finish(store, second)
    assert len(list(store.records(EVERYTHING))) == 2


def test_an_old_failure_cannot_be_committed_again_over_a_new_claim(store: Store) -> None:
    store.add(plans(1))
    old = take(store)
    fail(store, old)
    new = take(store)
    fail(store, old)  # known under its token: nothing happens
    assert states(store)["preopt", "running"] == 1
    finish(store, new)
    assert [attempt.number for attempt in store.view(new.submitted.id).attempts[new.key]] == [1, 2]


def test_done_needs_its_own_record(store: Store) -> None:
    store.add(plans(2))
    claim, other = take(store), take(store)
    with pytest.raises(ValueError, match="record"):
        store.commit(claim, attempt_of(claim), Done())
    with pytest.raises(ValueError, match="record"):
        store.commit(claim, attempt_of(claim), Done(), record_of(other))
    with pytest.raises(ValueError, match="record"):
        store.commit(claim, attempt_of(claim), GiveUp("no"), record_of(claim))
    with pytest.raises(ValueError, match="attempt"):
        store.commit(claim, attempt_of(other), Done(), record_of(claim))
    assert states(store)["preopt", "running"] == 2
    assert list(store.records(EVERYTHING)) == []


def test_heartbeat_prolongs_the_lease_and_tells_the_rung(store: Store) -> None:
    store.add(plans(1))
    claim = store.claim(worker(), 30.0)
    assert isinstance(claim, Claim)
    (before,) = store.running()
    assert before.worker == claim.worker
    assert before.rung is None
    assert before.lease_ends - before.claimed == timedelta(seconds=30)
    rung = Rung(scf="damping", geometry="lbfgs")
    assert store.heartbeat(claim, 90.0, rung)
    (after,) = store.running()
    assert after.rung == rung
    assert after.claimed == claim.claimed
    assert after.lease_ends - before.lease_ends >= timedelta(seconds=60)
    assert store.heartbeat(claim, 90.0)
    assert store.running()[0].rung == rung
    finish(store, claim)
    assert store.running() == ()
    assert not store.heartbeat(claim, 90.0)


def test_take_over_takes_what_expired_and_nothing_else(store: Store) -> None:
    store.add(plans(2))
    short, long = take(store, worker("short"), lease=0.05), take(store, worker("long"))
    _wait_for_end(store, short.key)
    taken = list(store.take_over(lambda _: False, worker("reaper")))
    assert [claim.key for claim in taken] == [short.key]
    (claim,) = taken
    assert claim.token != short.token
    assert claim.number == short.number
    assert claim.worker == worker("reaper")
    assert claim.taken_from == worker("short")
    assert claim.claimed == short.claimed
    assert store.heartbeat(long, LEASE)


def test_a_sign_of_life_at_the_last_moment_counts(store: Store) -> None:
    store.add(plans(3))
    first, second = take(store, lease=0.05), take(store, lease=0.05)
    take(store)
    _wait_for_end(store, first.key)
    _wait_for_end(store, second.key)

    def while_it_looks(_: Worker) -> bool:
        assert store.heartbeat(second, LEASE)
        return False

    taken = list(store.take_over(while_it_looks, worker("reaper")))
    assert [claim.key for claim in taken] == [first.key]
    finish(store, second)


def test_take_over_takes_from_the_dead(store: Store) -> None:
    store.add(plans(3))
    claims = {claim.worker.name: claim for claim in (take(store, worker(n)) for n in "abc")}

    def gone(who: Worker) -> bool:
        return who == worker("b")

    taken = list(store.take_over(gone, worker("reaper")))
    assert [claim.key for claim in taken] == [claims["b"].key]
    assert list(store.take_over(gone, worker("reaper"))) == []


def test_a_zombie_cannot_commit_after_take_over(store: Store) -> None:
    store.add(plans(1))
    zombie = take(store)
    (taken,) = store.take_over(lambda _: True, worker("reaper"))
    with pytest.raises(LeaseLostError):
        finish(store, zombie)
    assert not store.heartbeat(zombie, LEASE)
    assert list(store.records(EVERYTHING)) == []
    fail(store, taken, FailureKind.LOST_WORKER)
    with pytest.raises(LeaseLostError):
        finish(store, zombie)
    again = take(store)
    assert again.number == 2
    assert [item.outcome.status for item in again.history] == ["failure"]
    with pytest.raises(LeaseLostError):
        finish(store, zombie)
    finish(store, again)
    assert len(list(store.records(EVERYTHING))) == 1


def test_a_reaper_that_dies_is_taken_over_in_turn(store: Store) -> None:
    store.add(plans(1))
    take(store, worker("a"))
    (first,) = store.take_over(lambda who: who.name == "a", worker("reaper-1"))
    (second,) = store.take_over(lambda who: who.name == "reaper-1", worker("reaper-2"))
    assert second.taken_from == worker("a")
    with pytest.raises(LeaseLostError):
        fail(store, first, FailureKind.LOST_WORKER)
    fail(store, second, FailureKind.LOST_WORKER)


def test_retry_starts_afresh_and_forgets_old_failures(store: Store) -> None:
    store.add(plans(2))
    lost = take(store)
    fail(store, lost)
    give_up(store, take(store))
    assert store.retry(EVERYTHING) == 1
    assert states(store) == {("preopt", "ready"): 2, ("single_point", "waiting"): 2}
    claim = take(store)
    assert claim.key == lost.key
    assert claim.number == 3
    assert claim.history == ()
    assert [row.reason for row in store.rows(EVERYTHING)] == [""] * 4
    fail(store, claim)
    assert [attempt.number for attempt in take(store).history] == [3]


def test_retry_with_a_state_touches_only_stages_in_it(store: Store) -> None:
    store.add(plans(2))
    give_up(store, take(store))
    store.cancel(Selection(stage="single_point"))
    assert store.retry(Selection(state=StageState.FAILED)) == 1
    assert states(store) == {("preopt", "ready"): 2, ("single_point", "cancelled"): 2}
    assert store.retry(Selection(state=StageState.CANCELLED)) == 2
    assert states(store) == {("preopt", "ready"): 2, ("single_point", "waiting"): 2}


def test_cancel_takes_out_what_is_not_done(store: Store) -> None:
    store.add(plans(3))
    done = take(store)
    finish(store, done)
    running = take(store)
    assert store.cancel(EVERYTHING) == 5
    assert states(store) == {
        ("preopt", "done"): 1,
        ("preopt", "cancelled"): 2,
        ("single_point", "cancelled"): 3,
    }
    assert store.claim(worker(), LEASE) is None
    assert not store.heartbeat(running, LEASE)
    with pytest.raises(LeaseLostError):
        finish(store, running)
    assert [record.key for record in store.records(EVERYTHING)] == [done.key]
    reasons = {row.key: row.reason for row in store.rows(EVERYTHING)}
    assert reasons[done.key] == ""
    assert reasons[running.key] == "cancelled by the user, in the middle of an attempt"
    assert list(reasons.values()).count("cancelled by the user, before its next attempt") == 4
    assert store.retry(EVERYTHING) == 5
    assert not any(row.reason for row in store.rows(EVERYTHING))
    assert states(store) == {
        ("preopt", "done"): 1,
        ("preopt", "ready"): 2,
        ("single_point", "ready"): 1,
        ("single_point", "waiting"): 2,
    }
    assert len(work_off(store)) == 5


def test_selection_narrows_rows(store: Store) -> None:
    fragments = [
        water(0, fragment_class="dimer", tags=("a", "b")),
        water(1, fragment_class="dimer", tags=("b",)),
        water(2, fragment_class="ion"),
    ]
    store.add([plan_of(fragment) for fragment in fragments])
    finish(store, take(store))

    def found(**conditions: Any) -> list[tuple[str, str]]:
        rows = store.rows(Selection(**conditions))
        names = {fragment.id: str(index) for index, fragment in enumerate(fragments)}
        return [(names[row.fragment_id], row.stage) for row in rows]

    both = ["preopt", "single_point"]
    assert found() == [(index, name) for index in "012" for name in both]
    assert found(fragment_class="ion") == [("2", name) for name in both]
    assert found(tag="b") == [(index, name) for index in "01" for name in both]
    assert found(tag="b", fragment_class="ion") == []
    assert found(stage="preopt") == [(index, "preopt") for index in "012"]
    assert found(level_id=SINGLE_POINT.level.id) == [(i, "single_point") for i in "012"]
    assert found(fragment_ids=(fragments[1].id,)) == [("1", name) for name in both]
    assert found(state=StageState.DONE) == [("0", name) for name in both]
    assert found(state=StageState.READY, stage="preopt") == [("1", "preopt"), ("2", "preopt")]
    assert found(limit=2) == [(index, name) for index in "01" for name in both]
    assert found(limit=0) == []


def test_rows_describe_stages(store: Store) -> None:
    plan = plan_of(water(3, fragment_class="dimer", tags=("a",)))
    store.add([plan])
    fail(store, take(store))
    first, second = store.rows(EVERYTHING)
    assert first.formula == "H2O"
    assert (first.n_atoms, first.fragment_class, first.tags) == (3, "dimer", ("a",))
    assert (first.workflow, first.key) == (plan.key, f"{plan.key}.preopt")
    assert (first.position, second.position) == (0, 1)
    assert (first.attempts, second.attempts) == (1, 0)
    assert first.level_id == PREOPT.level.id
    assert first.fragment_id == plan.fragment.id
    assert abs(first.updated - datetime.now(UTC)) < timedelta(minutes=1)


def test_records_come_in_order_of_submission_and_as_selected(store: Store) -> None:
    submitted = plans(120)
    store.add(submitted)
    keys = work_off(store)
    assert len(keys) == 240
    everything = [record.key for record in store.records(EVERYTHING)]
    assert everything == [
        f"{plan.key}.{name}" for plan in submitted for name in ("preopt", "single_point")
    ]
    final = [record.key for record in store.records(Selection(stage="single_point"))]
    assert final == keys_of(submitted, "single_point")
    level = Selection(level_id=PREOPT.level.id, limit=3)
    assert [record.key for record in store.records(level)] == keys_of(submitted[:3], "preopt")


def test_the_same_fragment_at_two_levels_is_two_workflows(store: Store) -> None:
    labels: list[dict[str, Any]] = [
        {"tags": ("first",)},
        {"tags": ("second",), "fragment_class": "ion"},
    ]
    first = plan_of(water(0, **labels[0]))
    second = plan_of(water(0, **labels[1]), SINGLE_POINT)
    assert store.add([first, second]) == Added(new=2, known=0)
    rows = store.view(first.fragment.id).rows
    assert [row.workflow for row in rows] == [first.key, first.key, second.key]
    claims = [take(store), take(store)]
    assert [claim.submitted.tags for claim in claims] == [("first",), ("second",)]
    assert claims[1].submitted.fragment_class == "ion"


def test_resolve_finds_a_fragment_by_the_beginning_of_its_id(store: Store) -> None:
    submitted = plans(20, SINGLE_POINT)
    store.add(submitted)
    identity = submitted[3].fragment.id
    assert store.resolve(identity) == identity
    assert store.resolve(identity[:20]) == identity
    with pytest.raises(NotFoundError, match="more than one"):
        store.resolve("f")
    for nothing in ("fzz", "", identity + "0"):
        with pytest.raises(NotFoundError):
            store.resolve(nothing)


def test_view_of_an_unknown_fragment_is_an_error(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.view(water(0).id)


def test_drain_is_asked_for_by_launcher(store: Store) -> None:
    assert not store.draining("one")
    store.ask_drain("one")
    store.ask_drain("one")
    assert store.draining("one")
    assert not store.draining("two")


def test_an_empty_store_is_empty(store: Store) -> None:
    assert store.counts() == ()
    assert store.workflow_counts() == {}
    assert store.running() == ()
    assert store.refusals() == ()
    assert list(store.rows(EVERYTHING)) == []
    assert list(store.records(EVERYTHING)) == []
    assert list(store.take_over(lambda _: True, worker())) == []
    assert store.add([]) == Added(new=0, known=0)
    assert store.retry(EVERYTHING) == 0
    assert store.cancel(EVERYTHING) == 0
    assert store.claim(worker(), LEASE) is None


def _wait_for_end(store: Store, key: str) -> None:
    """Until the lease has ended by our clock, which the test server shares."""
    (ends,) = (item.lease_ends for item in store.running() if item.key == key)
    while datetime.now(UTC) <= ends:
        time.sleep(0.01)
