"""Broken at every single command of add, claim and commit, the farm stays whole."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from qfarm.errors import StoreError
from qfarm.store import connection
from qfarm.store.mongo import MongoStore
from qfarm.store.protocol import Claim, Selection, Store
from qfarm_schemas.failure import FailureKind
from support.lpad import check_consistent, launchpad, raw
from support.proxy import Fault, Proxy, proxied
from support.work import (
    fail,
    finish,
    give_up,
    keys_of,
    plans,
    states,
    take,
    work_off,
    worker,
)

__all__ = ["launchpad", "raw"]

EVERYTHING = Selection()
COMMITS = {"done": finish, "retry": fail, "give-up": give_up}

Raw = Database[dict[str, Any]]
Frail = Callable[[float], Store]
Check = Callable[[], None]


@pytest.fixture
def wire(mongo_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Proxy, str]]:
    monkeypatch.setattr(connection, "_ANSWER_MS", 250)
    with proxied(mongo_uri) as pair:
        yield pair


@pytest.fixture
def proxy(wire: tuple[Proxy, str]) -> Proxy:
    return wire[0]


@pytest.fixture
def frail(wire: tuple[Proxy, str], store: Store, database: str) -> Iterator[Frail]:
    """Opens stores behind the proxy, with so many seconds of patience."""
    opened: list[Store] = []

    def open_frail(patience: float) -> Store:
        opened.append(MongoStore.connect(wire[1], database, patience=patience))
        return opened[-1]

    yield open_frail
    for item in opened:
        item.close()


@pytest.fixture
def check(store: Store, raw: Raw, launchpad: LaunchPad) -> Check:
    """Records, attempts, releases and FireWorks' states tell the same story."""

    def compare() -> None:
        check_consistent(raw, launchpad)
        records = [record.key for record in store.records(EVERYTHING)]
        rows = list(store.rows(EVERYTHING))
        assert len(records) == raw["records"].count_documents({})
        assert {row.key for row in rows if row.state == "done"} == set(records)
        released = {(row.workflow, row.position + 1) for row in rows if row.key in records}
        for row in rows:
            open_ = row.position == 0 or (row.workflow, row.position) in released
            assert open_ == (row.state != "waiting")
            attempts = raw["attempts"].find({"key": row.key}).sort("number")
            assert [item["number"] for item in attempts] == list(range(1, row.attempts + 1))

    return compare


def _commands(proxy: Proxy, action: Callable[[], object]) -> list[str]:
    proxy.arm(0, Fault.DEAD)
    action()
    return list(proxy.commands)


def _deaths(commands: list[str]) -> Iterator[tuple[int, Fault]]:
    """Before every command, and after the last."""
    yield from ((at, Fault.DEAD) for at in range(1, len(commands) + 1))
    yield len(commands), Fault.LAST


def _die(proxy: Proxy, raw: Raw, death: tuple[int, Fault], action: Callable[[], object]) -> None:
    """End like a killed process; what mongod would keep of it for a minute is dropped at once."""
    proxy.arm(*death)
    with pytest.raises(StoreError):
        action()
    raw.client.admin.command("killAllSessions", [])


def _finish_all(store: Store) -> None:
    """The dead are found, others do the rest."""
    for claim in store.take_over(lambda _: True, worker("reaper")):
        fail(store, claim, FailureKind.LOST_WORKER)
    work_off(store)


def test_dying_within_add(store: Store, frail: Frail, proxy: Proxy, raw: Raw, check: Check) -> None:
    store.add(plans(1, first=5))  # the stages are there: from now on all adds send the same
    victim = frail(0.05)
    commands = _commands(proxy, lambda: victim.add(plans(2)))
    assert commands[-1] == "commitTransaction"
    for index, death in enumerate(_deaths(commands), start=1):
        submitted = plans(2, first=10 * index)
        proxy.arm(0, Fault.DEAD)
        victim = frail(0.05)
        _die(proxy, raw, death, lambda v=victim, s=submitted: v.add(s))  # type: ignore[misc]
        there = store.known([plan.key for plan in submitted])
        assert len(there) == (2 if death[1] is Fault.LAST else 0), "all or nothing"
        assert store.add(submitted).new == 2 - len(there)
    check()
    assert states(store) == {
        ("preopt", "ready"): 2 * index + 3,
        ("single_point", "waiting"): 2 * index + 3,
    }


def test_dying_within_claim(
    store: Store, frail: Frail, proxy: Proxy, raw: Raw, check: Check
) -> None:
    store.add(plans(1))
    victim = frail(0.05)
    commands = _commands(proxy, lambda: take(victim, worker("victim")))
    assert commands[:2] == ["findAndModify", "findAndModify"], "launch ids, then the claim itself"
    deaths = list(_deaths(commands))
    for index, death in enumerate(deaths, start=1):
        store.add(plans(1, first=10 * index), priority=index)
        proxy.arm(0, Fault.DEAD)
        victim = frail(0.05)
        _die(proxy, raw, death, lambda v=victim: take(v, worker("victim")))  # type: ignore[misc]
        newest = raw["fireworks"].find_one({"spec._priority": index, "state": "RUNNING"})
        assert (newest is not None) == (death[0] > 2), "READY or claimed, and nothing between"
        for claim in store.take_over(lambda _: True, worker("reaper")):
            fail(store, claim, FailureKind.LOST_WORKER)
        check()
    assert len(store.running()) == 0
    _finish_all(store)
    check()
    assert len(list(store.records(EVERYTHING))) == 2 * (len(deaths) + 1)


@pytest.mark.parametrize("end", COMMITS)
def test_dying_within_commit(
    end: str, store: Store, frail: Frail, proxy: Proxy, raw: Raw, check: Check
) -> None:
    commit: Callable[[Store, Claim], None] = COMMITS[end]
    store.add(plans(1))
    claim = take(store)
    victim = frail(0.05)
    commands = _commands(proxy, lambda: commit(victim, claim))
    assert commands[-1] == "commitTransaction"
    deaths = list(_deaths(commands))
    for index, death in enumerate(deaths, start=1):
        store.add(plans(1, first=10 * index), priority=index)
        claim = take(store)
        proxy.arm(0, Fault.DEAD)
        victim = frail(0.05)
        _die(proxy, raw, death, lambda v=victim, c=claim: commit(v, c))  # type: ignore[misc]
        committed = death[1] is Fault.LAST
        assert raw["attempts"].count_documents({"key": claim.key}) == int(committed)
        check()
        commit(store, claim)  # a worker that lived on would do so; exactly once in the end
        assert raw["attempts"].count_documents({"key": claim.key}) == 1
        check()
    if end == "give-up":
        assert store.retry(EVERYTHING) == len(deaths) + 1
    _finish_all(store)
    check()
    everything = {record.key for record in store.records(EVERYTHING)}
    submitted = [plan for index in range(len(deaths) + 1) for plan in plans(1, first=10 * index)]
    assert everything == {*keys_of(submitted, "preopt"), *keys_of(submitted, "single_point")}


def test_lost_replies_within_add(store: Store, frail: Frail, proxy: Proxy, check: Check) -> None:
    patient = frail(30.0)
    patient.add(plans(1, first=5))
    commands = _commands(proxy, lambda: patient.add(plans(2)))
    for at in range(1, len(commands) + 1):
        proxy.arm(at, Fault.DEAF)
        assert patient.add(plans(2, first=10 * at)).new == 2, commands[at - 1]
    check()
    assert states(store)["preopt", "ready"] == 2 * len(commands) + 3


def test_lost_replies_within_claim_and_commit(
    store: Store, frail: Frail, proxy: Proxy, raw: Raw, check: Check
) -> None:
    patient = frail(30.0)
    store.add(plans(1))
    counted = _commands(proxy, lambda: finish(patient, take(patient)))
    finish(store, take(store))
    for at in range(1, len(counted) + 1):
        plan = plans(1, first=10 * at)
        store.add(plan)
        proxy.arm(at, Fault.DEAF)
        claim = take(patient)
        assert claim.key in keys_of(plan, "preopt"), counted[at - 1]
        finish(patient, claim)
        proxy.arm(0, Fault.DEAD)
        finish(patient, take(patient))
        check()
    assert raw["attempts"].count_documents({}) == 2 * len(counted) + 2
    assert raw["attempts"].count_documents({"outcome.status": "success"}) == 2 * len(counted) + 2


def test_a_transaction_whose_reply_stays_away_is_made_once(
    store: Store, frail: Frail, proxy: Proxy, raw: Raw, check: Check
) -> None:
    """The driver asks once more for the fate of a transaction; when that fails too, we must."""
    patient = frail(30.0)
    patient.add(plans(2, first=5))
    adding = _commands(proxy, lambda: patient.add(plans(1)))
    take(patient)  # reads the stages, which it keeps
    claiming = _commands(proxy, lambda: take(patient))
    proxy.arm(len(adding), Fault.DEAF, times=2)
    assert patient.add(plans(1, first=1), priority=1).new == 1
    proxy.arm(len(claiming), Fault.DEAF, times=2)
    claim = take(patient)
    assert claim.submitted == plans(1, first=1)[0].fragment
    assert raw["launches"].count_documents({}) == 3
    check()
    committing = _commands(proxy, lambda: finish(patient, claim))
    claim = take(patient)
    proxy.arm(len(committing), Fault.DEAF, times=2)
    finish(patient, claim)
    assert raw["attempts"].count_documents({}) == 2
    check()


def test_a_lost_reply_to_a_heartbeat_does_not_stop_the_work(
    store: Store, frail: Frail, proxy: Proxy
) -> None:
    patient = frail(30.0)
    store.add(plans(1))
    claim = take(patient)
    for at in (1, 2):
        proxy.arm(at, Fault.DEAF)
        assert patient.heartbeat(claim, 60.0)
    finish(patient, claim)
