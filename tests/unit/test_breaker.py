"""The breaker: three fragments in a row that fail by the node, and the engine is tested again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm_schemas.attempt import Attempt
from qfarm_schemas.failure import OF_SIZE, Budget, FailureKind
from qfarm_workers.breaker import IN_A_ROW, Breaker
from support.build import attempt, failure

BLAMED = [kind for kind in FailureKind if kind.budget is Budget.NODE and kind not in OF_SIZE]


def failed(fragment: str, kind: FailureKind = FailureKind.CRASHED) -> Attempt:
    return attempt(failure(kind), fragment_id=fragment)


def after(*made: Attempt) -> Breaker:
    breaker = Breaker()
    for one in made:
        breaker.note("aims", one)
    return breaker


@pytest.mark.parametrize("kind", BLAMED)
def test_three_different_fragments_trip_it(kind: FailureKind) -> None:
    assert after(failed("a", kind), failed("b", kind)).tripped == frozenset()
    assert after(failed("a", kind), failed("b", kind), failed("c", kind)).tripped == {"aims"}


def test_one_fragment_again_and_again_does_not() -> None:
    assert after(*(failed("a") for _ in range(9))).tripped == frozenset()


def test_what_goes_well_ends_the_row() -> None:
    chemistry = failed("x", FailureKind.SCF_NOT_CONVERGED)  # the engine ran as it should
    for good in (attempt(fragment_id="x"), chemistry):
        assert after(failed("a"), failed("b"), good, failed("c")).tripped == frozenset()


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.TIME_LIMIT,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.WALLTIME,
        FailureKind.INTERRUPTED,
    ],
)
def test_what_says_nothing_of_the_node_neither_counts_nor_ends_the_row(kind: FailureKind) -> None:
    silent = failed("x", kind)
    assert after(silent, silent, failed("y", kind), failed("z", kind)).tripped == frozenset()
    assert after(failed("a"), silent, failed("b"), silent, failed("c")).tripped == {"aims"}


def test_each_engine_has_its_own_row() -> None:
    breaker = Breaker()
    for fragment in "abc":
        breaker.note("aims", failed(fragment))
        breaker.note("tblite", attempt(fragment_id=fragment))
    assert breaker.tripped == {"aims"}


def test_after_a_test_that_is_passed_the_row_begins_anew() -> None:
    breaker = after(failed("a"), failed("b"), failed("c"))
    breaker.tested("aims", "")
    assert breaker.tripped == frozenset()
    assert breaker.broken == {}
    for fragment in "abc":
        breaker.note("aims", failed(fragment))
    assert breaker.tripped == {"aims"}


def test_an_engine_that_fails_the_test_is_broken_and_not_tested_again() -> None:
    breaker = after(failed("a"), failed("b"), failed("c"))
    breaker.tested("aims", "there is no aims.x")
    for fragment in "def":
        breaker.note("aims", failed(fragment))
    assert breaker.broken == {"aims": "there is no aims.x"}
    assert breaker.tripped == frozenset()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([None, *FailureKind]))))
def test_it_trips_for_three_different_blamed_fragments_since_the_last_good_one(
    history: list[tuple[str, FailureKind | None]],
) -> None:
    made = [attempt(failure(kind) if kind else None, fragment_id=name) for name, kind in history]
    blamed: set[str] = set()
    for name, kind in history:
        if kind is None or kind.budget is Budget.CHEMISTRY:
            blamed = set()
        elif kind in BLAMED:
            blamed.add(name)
    assert bool(after(*made).tripped) is (len(blamed) >= IN_A_ROW)
