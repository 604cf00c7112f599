"""Leases, locks and outages: what a worker had is given back when it is dead, and only then."""

import os
import signal
import time
from threading import Thread, Timer
from typing import Any, cast

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from qfarm.store.connection import Transaction
from qfarm.store.mongo import MongoStore
from qfarm.store.protocol import Claim, Store
from qfarm.store.ready import ready
from qfarm.store.wish import ANYTHING
from qfarm_schemas.failure import FailureKind
from qfarm_workers.identity import gone
from support.lpad import check_consistent, launchpad, raw
from support.wait import until
from support.work import LEASE, SINGLE_POINT, fail, finish, plans, states, take, work_off, worker

__all__ = ["launchpad", "raw"]

Raw = Database[dict[str, Any]]


def test_a_transaction_of_a_dead_worker_is_ended_by_the_reaper(
    store: Store, raw: Raw, launchpad: LaunchPad, mongo_uri: str, database: str
) -> None:
    """mongod would keep it for a minute, and with it the stage and its workflow."""
    store.add(plans(1))
    victim = MongoStore.connect(mongo_uri, database)
    take(victim, worker("far"))
    session = victim._connection._session
    session.start_transaction()  # as in a commit that is cut off
    for name in ("fireworks", "workflows"):
        victim._connection[name].update_many({}, {"$set": {"state": "FIZZLED"}}, session=session)
    began = time.monotonic()
    (taken,) = store.take_over(lambda who: who.name == "far", worker("reaper"))
    fail(store, taken, FailureKind.LOST_WORKER)
    assert len(work_off(store)) == 2
    assert time.monotonic() - began < 5
    check_consistent(raw, launchpad)
    victim.close()


def test_a_transaction_that_cannot_be_ended_stops_nobody(
    store: Store, raw: Raw, mongo_uri: str, database: str
) -> None:
    """The reaper comes back for the stage."""
    store.add(plans(2))
    victim = MongoStore.connect(mongo_uri, database)
    lost = take(victim, worker("far"))
    raw["fireworks"].update_one({"fw_id": 1}, {"$unset": {"lease.session": ""}})
    session = victim._connection._session
    session.start_transaction()
    victim._connection["fireworks"].update_one(
        {"fw_id": 1}, {"$set": {"state": "FIZZLED"}}, session=session
    )
    began = time.monotonic()
    assert list(store.take_over(lambda _: True, worker("reaper"))) == []
    finish(store, take(store))
    assert time.monotonic() - began < 5
    session.abort_transaction()
    (taken,) = store.take_over(lambda who: who.name == "far", worker("reaper"))
    assert taken.key == lost.key
    victim.close()


def test_a_lock_that_lpad_left_is_broken_by_the_reaper(
    store: Store, raw: Raw, launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qfarm.store.reclaim._LOCKED_FOR", 0.3)
    store.add(plans(3))
    raw["workflows"].update_one({"nodes": 3}, {"$set": {"locked": True, "state": "FIZZLED"}})
    seen = raw["workflows"].count_documents
    for _ in range(100):
        list(store.take_over(gone, worker("reaper")))
        if not seen({"locked": True}):
            break
        time.sleep(0.02)
    check_consistent(raw, launchpad)
    raw["workflows"].update_one({"nodes": 1}, {"$set": {"locked": True}})
    list(store.take_over(gone, worker("reaper")))
    assert seen({"locked": True}) == 1, "an lpad command that lives gets its time"


def test_busy_is_about_what_the_partition_may_take(store: Store, raw: Raw) -> None:
    assert not store.busy("local")
    store.add(plans(1))
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {"spec._category": "gpu"}})
    assert not store.busy("local")
    assert store.busy("gpu")
    raw["fireworks"].update_one({"fw_id": 1}, {"$unset": {"spec._category": ""}})
    claim = take(store)
    assert store.busy("local"), "it runs and will release the next stage"
    finish(store, claim)
    finish(store, take(store))
    assert not store.busy("local")


def test_the_lease_of_another_host_is_taken_over_after_the_watch(store: Store) -> None:
    store.add(plans(1))
    lost = take(store, worker("far"), lease=0.2)
    began = time.monotonic()
    taken: list[Claim] = []
    while not taken:
        taken = list(store.take_over(gone, worker("reaper"), 0.4))
        time.sleep(0.02)
        assert time.monotonic() - began < 20
    assert time.monotonic() - began >= 0.6
    assert [claim.token != lost.token for claim in taken] == [True]


def test_a_worker_has_time_to_beat_after_its_lease_has_ended(store: Store) -> None:
    store.add(plans(1))
    claim = take(store, worker("far"), lease=0.05)
    time.sleep(0.1)
    for _ in range(3):
        assert list(store.take_over(gone, worker("reaper"), 0.2)) == []
        time.sleep(0.06)
        assert store.heartbeat(claim, 0.05)
        time.sleep(0.06)
    finish(store, claim)


def test_an_outage_longer_than_the_lease_costs_no_attempt(store: Store, raw: Raw) -> None:
    """mongod is stopped while all leases end; the first thing it hears afterwards is the reaper."""
    store.add(plans(1))
    claim = take(store, worker("far"), lease=0.4)
    pid = int(raw.client.admin.command("serverStatus")["pid"])
    assert list(store.take_over(gone, worker("reaper"), 0.4)) == []
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(1.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: store.running()[0].lease_ends.timestamp() < time.time())
    assert list(store.take_over(gone, worker("reaper"), 0.4)) == []
    assert store.heartbeat(claim, LEASE)
    for _ in range(4):
        time.sleep(0.15)
        assert list(store.take_over(gone, worker("reaper"), 0.4)) == []
    finish(store, claim)
    assert states(store)["preopt", "done"] == 1


def test_a_done_stage_whose_worker_died_again_goes_back_to_done(
    store: Store, raw: Raw, launchpad: LaunchPad
) -> None:
    """`lpad rerun_fws` made it ready, and its worker was killed right after the claim."""
    store.add(plans(1))
    finish(store, take(store))
    take(store)
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {"state": "READY"}})
    mongo = cast(MongoStore, store)
    assert mongo._queue._take(
        worker(), LEASE, mongo._queue._ids.take(1)[0], ready("local", ANYTHING)
    )
    taken = list(store.take_over(lambda _: True, worker("reaper")))
    assert [claim.stage.name for claim in taken] == ["single_point"]
    assert states(store)["preopt", "done"] == 1
    fail(store, taken[0], FailureKind.LOST_WORKER)
    check_consistent(raw, launchpad)


def test_who_was_taken_for_dead_in_a_transaction_learns_it(store: Store) -> None:
    """mongod gives the operation that it ends under way no label that says: try again."""
    store.add(plans(1))
    claim = take(store)
    connection = cast(MongoStore, store)._connection
    ended = Timer(0.3, connection.end_session, [connection.session_id])
    tries: list[object] = []

    def slow(transaction: Transaction) -> bool:
        if not tries:
            ended.start()
        tries.append(transaction)
        where = {"$where": f"sleep({2000 if len(tries) == 1 else 0}) || true"}
        found = connection["fireworks"].find_one(where, session=transaction.session)
        return found is not None

    assert connection.transact(slow)
    ended.join()
    assert len(tries) == 2
    finish(store, claim)


def test_threads_share_the_session_that_the_lease_names(store: Store, raw: Raw) -> None:
    """A heartbeat's thread may commit too; it lasts as long as its attempt."""
    store.add(plans(6, SINGLE_POINT))
    before = _sessions(raw)
    for _ in range(6):
        claim = take(store)
        thread = Thread(target=finish, args=(store, claim))
        thread.start()
        thread.join()
    assert states(store) == {("single_point", "done"): 6}
    assert _sessions(raw) - before <= 2


def _sessions(raw: Raw) -> int:
    return sum(1 for _ in raw.client.admin.aggregate([{"$listLocalSessions": {}}]))
