"""Many hands at once: every stage is claimed once, and every record is written once."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from qfarm.errors import LeaseLostError
from qfarm.store import open_store
from qfarm.store.protocol import Added, Claim, Selection, Store
from support.lpad import check_consistent, launchpad, raw
from support.threads import at_once
from support.work import (
    LEASE,
    SINGLE_POINT,
    finish,
    keys_of,
    plans,
    states,
    take,
    work_off,
    worker,
)

__all__ = ["launchpad", "raw"]

TESTS = Path(__file__).resolve().parents[1]
RACER = """
import json, sys
from qfarm.store import open_store
from support.work import work_off, worker

uri, database, name = json.load(sys.stdin)
with open_store(uri, database) as store:
    print(json.dumps(work_off(store, worker(name))))
"""


def test_two_processes_share_two_hundred_stages(
    store: Store,
    mongo_uri: str,
    database: str,
    raw: Database[dict[str, Any]],
    launchpad: LaunchPad,
) -> None:
    submitted = plans(100)
    store.add(submitted)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for index, racer in enumerate(racers):
        assert racer.stdin is not None
        racer.stdin.write(json.dumps([mongo_uri, database, f"racer-{index}"]))
        racer.stdin.close()
        racer.stdin = None
    shares = [json.loads(racer.communicate(timeout=120)[0]) for racer in racers]
    assert all(shares), "both took part"
    claimed = Counter(key for share in shares for key in share)
    expected = [*keys_of(submitted, "preopt"), *keys_of(submitted, "single_point")]
    assert claimed == Counter(expected)
    assert len(list(store.records(Selection()))) == 200
    assert raw["attempts"].count_documents({}) == 200
    assert raw["launches"].count_documents({}) == 200
    check_consistent(raw, launchpad)


def test_eight_threads_never_meet(store: Store, mongo_uri: str, database: str) -> None:
    submitted = plans(60, SINGLE_POINT)
    store.add(submitted)

    def race() -> list[str]:
        with open_store(mongo_uri, database) as own:
            return work_off(own)

    shares = at_once(*[race] * 8)
    claimed = Counter(key for share in shares for key in share)
    assert claimed == Counter(keys_of(submitted, "single_point"))


def test_one_store_serves_several_threads(store: Store) -> None:
    submitted = plans(40, SINGLE_POINT)
    store.add(submitted)
    shares = at_once(*[lambda: work_off(store)] * 4)
    assert Counter(key for share in shares for key in share) == Counter(
        keys_of(submitted, "single_point")
    )


def test_the_same_fragments_submitted_at_once_are_there_once(
    store: Store, raw: Database[dict[str, Any]]
) -> None:
    submitted = plans(50)
    added = at_once(*[lambda: store.add(submitted)] * 4)
    assert sum(one.new for one in added) == 50
    assert all(one.new + one.known == 50 for one in added)
    assert raw["fireworks"].count_documents({}) == 100
    assert raw["fragments"].count_documents({}) == 50
    assert store.add(submitted) == Added(0, 50)


def test_the_same_attempt_committed_at_once_is_one_record(
    store: Store, raw: Database[dict[str, Any]]
) -> None:
    store.add(plans(1))
    claim = take(store)
    at_once(*[lambda: finish(store, claim)] * 4)
    assert raw["attempts"].count_documents({}) == 1
    assert raw["records"].count_documents({}) == 1
    assert states(store) == {("preopt", "done"): 1, ("single_point", "ready"): 1}


RIVALS: dict[str, Callable[[Store, Claim], object]] = {
    "take over": lambda store, _: list(store.take_over(lambda _: True, worker("reaper"))),
    "cancel": lambda store, claim: store.cancel(Selection(fragment_ids=(claim.submitted.id,))),
    "heartbeat": lambda store, claim: store.heartbeat(claim, LEASE),
}


@pytest.mark.parametrize("rival", RIVALS)
def test_a_commit_against_a_rival_is_all_or_nothing(
    rival: str, store: Store, raw: Database[dict[str, Any]], launchpad: LaunchPad
) -> None:
    rounds = 12
    store.add(plans(rounds, SINGLE_POINT))
    outcomes: Counter[bool] = Counter()
    for _ in range(rounds):
        claim = take(store)
        committed, _ = at_once(
            partial(_committed, store, claim), partial(RIVALS[rival], store, claim)
        )
        outcomes[committed] += 1
        assert raw["records"].count_documents({"_id": claim.key}) == int(committed)
        assert raw["attempts"].count_documents({"key": claim.key}) == int(committed)
    check_consistent(raw, launchpad)
    if rival == "heartbeat":
        assert outcomes == {True: rounds}


def _committed(store: Store, claim: Claim) -> bool:
    try:
        finish(store, claim)
    except LeaseLostError:
        return False
    return True
