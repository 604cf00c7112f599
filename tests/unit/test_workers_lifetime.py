"""Lifetimes and limits: when an attempt is asked to end, when it is killed, when none begins."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm_workers.lifetime import (
    LONGEST_HAND_BACK,
    LONGEST_MARGIN,
    LONGEST_STAGGER,
    SHORTEST_MARGIN,
    Lifetime,
    hand_back,
    job_lifetime,
    lifetime,
    limits,
    margin,
    stagger,
)
from qfarm_workers.process import SoftStop

HOUR, DAY = 3600.0, 86400.0
SECONDS = st.floats(min_value=0, max_value=1e7)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(0.0, 0.0), (1.0, 0.5), (5.0, 1.0), (60.0, 6.0), (HOUR, 360.0), (DAY, 1800.0)],
)
def test_margin(limit: float, expected: float) -> None:
    assert margin(limit) == expected


@given(SECONDS)
def test_a_program_has_time_both_to_work_and_to_stop(limit: float) -> None:
    assert 0 <= margin(limit) <= min(limit / 2, LONGEST_MARGIN)
    assert limit < 2 * SHORTEST_MARGIN or margin(limit) >= SHORTEST_MARGIN


def test_a_stage_that_fits_has_its_own_limit() -> None:
    allowed = limits(HOUR, DAY, 2000, "abort_scf")
    assert (allowed.seconds, allowed.memory_mb, allowed.walltime) == (HOUR, 2000, False)
    assert allowed.soft_stop == SoftStop("abort_scf", HOUR - 360)


def test_a_stage_that_does_not_fit_ends_with_the_worker() -> None:
    allowed = limits(DAY, HOUR, 2000, None)
    assert (allowed.seconds, allowed.walltime) == (HOUR, True)
    assert allowed.soft_stop is None


def test_no_walltime_is_no_limit() -> None:
    allowed = limits(DAY, Lifetime().left(1e9), 2000, None)
    assert (allowed.seconds, allowed.walltime) == (DAY, False)
    assert lifetime(None, 5.0) == Lifetime()
    assert Lifetime().worth_a_claim(1e9)


@pytest.mark.parametrize(
    ("walltime", "age", "fresh"),
    [
        (30.0, 0.0, True),
        (30.0, 2.0, True),
        (30.0, 3.0, False),
        (DAY, HOUR, True),
        (None, 9.0, True),
    ],
)
def test_fresh_lives_give_an_attempt_all_the_time_there_is(
    walltime: float | None, age: float, fresh: bool
) -> None:
    assert lifetime(walltime, 5.0).fresh(5.0 + age) is fresh


def test_a_worker_past_its_end_kills_at_once() -> None:
    assert limits(DAY, -5.0, 2000, "stop").seconds == 0
    assert limits(DAY, -5.0, 2000, "stop").walltime


@pytest.mark.parametrize(
    ("walltime", "age", "claims"),
    [
        (DAY, 0, True),
        (DAY, DAY - LONGEST_HAND_BACK - 601, True),
        (DAY, DAY - LONGEST_HAND_BACK - 599, False),
        (100.0, 0, True),
        (100.0, 69, True),
        (100.0, 71, False),
    ],
)
def test_nothing_is_claimed_with_too_little_life_left(
    walltime: float, age: float, claims: bool
) -> None:
    began = 1234.5
    assert lifetime(walltime, began).worth_a_claim(began + age) is claims


@given(st.floats(min_value=0.01, max_value=1e7))
def test_a_fresh_worker_always_claims(walltime: float) -> None:
    """Else a pool would submit loops for ever, and none would do anything."""
    fresh = lifetime(walltime, 0.0)
    assert fresh.worth_a_claim(0.0)
    assert 0 < fresh.left(0.0) < walltime
    assert hand_back(walltime) <= LONGEST_HAND_BACK
    assert fresh.left(0.0) != inf


@pytest.mark.parametrize(
    ("age", "least", "claims"),
    [
        (0, 2 * DAY, True),  # nobody has more time
        (DAY - LONGEST_HAND_BACK - 10, 9.0, True),
        (DAY - LONGEST_HAND_BACK - 10, 11.0, False),
        (DAY - LONGEST_HAND_BACK - HOUR, 2 * HOUR, False),
        (DAY - LONGEST_HAND_BACK + 1, 0.0, False),
    ],
)
def test_with_known_costs_a_worker_ends_when_nothing_fits(
    age: float, least: float, claims: bool
) -> None:
    assert lifetime(DAY, 5.0).worth_a_claim(5.0 + age, least) is claims
    assert Lifetime().worth_a_claim(age, least)


def job(
    walltime: float | None, age: float = 0.0, end: float | None = None, name: str = "qfarm-cpu-1"
) -> Lifetime:
    """A job that began at 1e9 s, on a host that then had been up for 5000 s."""
    return job_lifetime(walltime, 1e9, 1e9 + age, end, stagger_key=name, monotonic=5000.0 + age)


@pytest.mark.parametrize("age", [0.0, 5.0, 100.0])
def test_the_life_of_a_job_began_with_the_job(age: float) -> None:
    """Slots start later, and know how much of it is over."""
    assert job(DAY, age).began == 5000.0
    assert job(DAY, age) == job(DAY)


def test_a_job_ends_before_its_walltime_each_at_its_own_time() -> None:
    ends = [job(DAY, name=f"qfarm-cpu-{n}").seconds for n in range(200)]
    assert max(ends) <= DAY - 60
    assert min(ends) >= DAY - 60 - LONGEST_STAGGER
    assert max(ends) - min(ends) > 0.9 * LONGEST_STAGGER
    assert job(DAY, name="qfarm-cpu-7") == job(DAY, name="qfarm-cpu-7")


def test_a_stagger_is_a_small_part_of_a_life_and_short_lives_have_none() -> None:
    assert stagger(599.0, "a") == 0
    assert all(stagger(HOUR, f"{n}") <= 180 for n in range(100))
    assert max(stagger(HOUR, f"{n}") for n in range(100)) > 150
    assert job(300.0).seconds == pytest.approx(300 * 0.98)


def test_the_end_that_the_scheduler_tells_counts_when_it_is_earlier() -> None:
    assert job(DAY, end=1e9 + HOUR) == job(HOUR)
    assert job(HOUR, end=1e9 + DAY) == job(HOUR)
    assert job(None, end=1e9 + HOUR) == job(HOUR)
    assert job(None) == Lifetime()


@given(st.floats(min_value=1, max_value=1e7), st.text(max_size=20))
def test_no_job_lives_longer_than_its_walltime(walltime: float, name: str) -> None:
    life = job(walltime, name=name)
    assert 0.9 * walltime <= life.seconds < walltime


def test_a_job_whose_end_is_over_has_no_time() -> None:
    assert job(DAY, age=10.0, end=1e9 - 5).seconds == 0
    assert job(DAY, age=10.0, end=1e9 - 5).left(5010.0) < 0


def test_a_life_ends_when_only_the_margin_for_stopping_is_left() -> None:
    life = Lifetime(1000.0, 0.0)  # engines have ended after 900 s, and are asked after 810 s
    assert not life.ending(809.0)
    assert life.ending(811.0)
    assert not Lifetime(1000.0, 0.0).prepared(500.0).ending(850.0)
    assert not Lifetime().ending(1e9)


def test_a_job_that_took_long_to_begin_is_as_fresh_as_can_be() -> None:
    """Or else it would claim nothing that takes longer than a life, and nor would the next job."""
    life = Lifetime(600.0, 0.0)
    assert not life.fresh(100.0)
    prepared = life.prepared(100.0)
    assert prepared.fresh(100.0)
    assert prepared.left(100.0) == life.left(100.0)
    assert not prepared.fresh(100.0 + 0.11 * life.left(100.0))
    assert Lifetime().prepared(100.0).fresh(1e9)
