"""Holds, leases and outages: what a worker had is given back when it is dead, and only then."""

import os
import signal
import time
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from qfarm.store.protocol import Store
from qfarm_workers.identity import gone, this_process
from support.holds import dead_process, hold
from support.lpad import raw
from support.wait import until
from support.work import LEASE, finish, plans, states, take, worker

__all__ = ["raw"]

Raw = Database[dict[str, Any]]


def test_the_hold_of_a_dead_worker_is_lifted(store: Store) -> None:
    store.add(plans(1))
    hold(store, dead_process())
    assert store.claim(worker(), LEASE) is None
    assert store.busy("local")
    assert list(store.take_over(gone, worker("reaper"))) == []
    finish(store, take(store))


def test_the_hold_of_a_living_worker_stays(store: Store, raw: Raw) -> None:
    store.add(plans(1))
    hold(store, this_process("alive"))
    assert list(store.take_over(gone, worker("reaper"))) == []
    assert store.claim(worker(), LEASE) is None
    assert store.busy("local")
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {"hold.until": None}})
    finish(store, take(store))


def test_a_hold_of_another_host_ends_by_itself(store: Store, raw: Raw) -> None:
    store.add(plans(1))
    hold(store, worker("far"))
    assert list(store.take_over(gone, worker("reaper"))) == []
    assert store.claim(worker(), LEASE) is None
    past = [{"$set": {"hold.until": {"$subtract": ["$$NOW", 1]}}}]
    raw["fireworks"].update_one({"fw_id": 1}, past)
    finish(store, take(store))


@pytest.mark.parametrize("until_", ["for ever", {"$add": ["$$NOW", 10**10]}, 10**10])
def test_a_hold_that_would_last_for_ever_is_none(store: Store, raw: Raw, until_: object) -> None:
    store.add(plans(1))
    bogus = {"token": "x", "until": until_, "worker": "nobody"}
    raw["fireworks"].update_one({"fw_id": 1}, [{"$set": {"hold": bogus}}])
    assert list(store.take_over(lambda _: True, worker("reaper"))) == []
    finish(store, take(store))


def test_a_transaction_of_a_dead_worker_does_not_stop_the_reaper(
    store: Store, raw: Raw, mongo_uri: str
) -> None:
    """mongod keeps it for a minute; until then the hold must stay, or all claims would wait."""
    store.add(plans(1))
    hold(store, dead_process())
    with MongoClient[dict[str, Any]](mongo_uri) as client, client.start_session() as session:
        session.start_transaction()
        change = {"$set": {"state": "RUNNING"}}
        client[raw.name]["fireworks"].update_one({"fw_id": 1}, change, session=session)
        began = time.monotonic()
        assert list(store.take_over(gone, worker("reaper"))) == []
        assert store.claim(worker(), LEASE) is None
        assert time.monotonic() - began < 5
        session.abort_transaction()
    assert list(store.take_over(gone, worker("reaper"))) == []
    finish(store, take(store))


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
    taken = []
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
