"""How many stages a worker claims at once, and which of them it attempts together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm_schemas.failure import FailureKind
from qfarm_workers import batch
from support import build
from support.claims import claim

TIMES = st.lists(st.floats(min_value=0, max_value=1e6), max_size=20)


@pytest.mark.parametrize(
    ("recent", "expected"),
    [
        ([], 1),
        ([0.0], 16),
        ([0.05, 0.05], 16),
        ([0.2] * 8, 10),
        ([0.5], 4),
        ([0.51], 1),
        ([3600.0], 1),
        ([0.1] * 7 + [3600.0], 1),
    ],
)
def test_size(recent: list[float], expected: int) -> None:
    assert batch.size(recent) == expected


@given(TIMES)
def test_a_batch_is_never_large_and_never_long(recent: list[float]) -> None:
    size = batch.size(recent)
    assert 1 <= size <= batch.MOST
    if size > 1:
        assert size * sum(recent) / len(recent) <= batch.SECONDS + 1e-9


@given(TIMES, st.floats(min_value=0, max_value=1e6))
def test_longer_attempts_never_make_it_larger(recent: list[float], more: float) -> None:
    assert batch.size([seconds + more for seconds in recent]) <= batch.size(recent)


@pytest.mark.parametrize(("heartbeat", "expected"), [(0.1, 0.1), (10.0, 4.0)])
def test_what_waits_is_given_back_before_a_sign_of_life_is_due(
    heartbeat: float, expected: float
) -> None:
    assert batch.patience(heartbeat) == expected


LOST, CRASHED = FailureKind.LOST_WORKER, FailureKind.CRASHED


@pytest.mark.parametrize(
    ("histories", "expected"),
    [
        ([()], 1),
        ([(), (CRASHED,), (LOST, CRASHED)], 3),
        ([(), (), (LOST,), ()], 2),
        ([(CRASHED, LOST), (), ()], 1),
    ],
)
def test_a_stage_whose_worker_was_lost_is_alone(
    histories: list[tuple[FailureKind, ...]], expected: int
) -> None:
    claims = [claim(history=build.history(*kinds)) for kinds in histories]
    assert batch.company(claims) == expected
