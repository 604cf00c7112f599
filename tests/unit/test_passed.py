"""When a job starts slots again whose predecessors found nothing that fits."""

from typing import Any, cast

import pytest

from qfarm.errors import StoreError
from qfarm.store.roles import NotAllowedError
from qfarm_workers import slot
from qfarm_workers.job import MOST_CRASHES, Job
from qfarm_workers.job.passed import PassedOver
from qfarm_workers.orders import Report
from qfarm_workers.process import Flag
from qfarm_workers.slot import AWAY, IDLED, OUTLIVED, UNFIT
from qfarm_workers.slots import Left

PATIENCE = 60.0


def wanted(passed: PassedOver, ready: int, now: float = 0.0, free: int = 9) -> int:
    return passed.wanted(ready, free, now, PATIENCE)


def test_at_first_slots_are_started_for_all_that_is_ready() -> None:
    assert wanted(PassedOver(), 5) == 5
    assert wanted(PassedOver(), 50) == 9
    assert wanted(PassedOver(), 0, now=1e9) == 0


def test_what_was_passed_over_starts_nothing_and_what_comes_later_does() -> None:
    passed = PassedOver()
    passed.counted(3, PATIENCE)
    assert [wanted(passed, 3), wanted(passed, 5), wanted(passed, 3)] == [0, 2, 0]
    assert wanted(passed, 1) == 0, "two of them are gone"
    assert wanted(passed, 3) == 2


def test_one_slot_tries_now_and_then() -> None:
    passed = PassedOver()
    passed.counted(3, 60.0)
    tries = [wanted(passed, 3, now) for now in (59.9, 60.0, 60.1, 119.9, 120.0)]
    assert tries == [0, 1, 0, 0, 1]
    assert wanted(passed, 3, 999.0, free=0) == 0
    passed.begun()
    assert wanted(passed, 3, 121.0) == 3


def job() -> Job:
    """A job of which nothing is there but what it remembers."""
    leave: Any = Flag()
    nothing = [cast(Any, None)] * 8
    job = Job(*nothing, leave)
    job._look_at = 1e9
    return job


@pytest.mark.parametrize("code", [IDLED, OUTLIVED])
def test_what_is_ready_when_a_slot_finds_nothing_is_counted_at_once(code: int) -> None:
    one = job()
    one._settle([Left(0, code)])
    assert one._passed.due
    assert one._look_at == 0.0
    assert one._crashes == 0


def test_a_database_that_is_away_is_no_crash() -> None:
    one = job()
    one._settle([Left(number, AWAY) for number in range(MOST_CRASHES)])
    assert one._crashes == 0
    one._settle([Left(number, UNFIT) for number in range(MOST_CRASHES)])
    assert one._crashes == MOST_CRASHES


@pytest.mark.parametrize(
    ("error", "code"), [(StoreError, AWAY), (NotAllowedError, UNFIT), (slot.UserError, UNFIT)]
)
def test_a_slot_says_that_the_database_is_away(
    error: type[slot.UserError], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise error("what", "remedy")

    monkeypatch.setattr(slot, "_work", fail)
    monkeypatch.setattr(slot, "TO_LEAVE", ())
    monkeypatch.setattr(slot, "JobLine", lambda *_: None)
    monkeypatch.setattr("gc.freeze", lambda: None)
    order: Any = type("Order", (), {"number": 0, "orders": None})
    with pytest.raises(SystemExit) as ended:
        slot.run(order, cast(Any, None))
    assert ended.value.code == code


def test_a_job_says_at_once_that_it_has_begun_to_work() -> None:
    one = job()
    one._hear([])
    assert not one.worked
    one._hear([Report(began=True)])
    assert one.worked
    assert one._look_at == 0.0
    one._look_at = 1e9
    one._hear([Report(began=True)])
    assert one._look_at == 1e9, "it is known"
