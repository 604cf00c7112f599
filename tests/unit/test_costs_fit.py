"""The fit of costs: what it recovers, how sure it says to be, and what it bears."""

import time
from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from qfarm.costs.fit import (
    DRIFT,
    SURE,
    WEIGHT,
    Fit,
    Guess,
    fit,
    guessed,
    known_elsewhere,
)

GUESS = Guess(size=100, value=10, exponent=2.0)

SIZES = st.floats(min_value=1, max_value=1e5)
COSTS = st.floats(min_value=1e-3, max_value=1e7)
RECORDS = st.lists(st.tuples(SIZES, COSTS), max_size=30)


def synthetic(
    seed: int, count: int, exponent: float, scatter: float = 0.3, factor: float = 0.02
) -> tuple[np.ndarray, np.ndarray]:
    """Sizes from 10 to 1000 and costs around ``factor * size ** exponent``."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.uniform(log(10), log(1000), count))
    return sizes, factor * sizes**exponent * np.exp(random.normal(0, scatter, count))


def of(records: list[tuple[float, float]], guess: Guess = GUESS) -> Fit:
    return fit([size for size, _ in records], [cost for _, cost in records], guess)


@settings(deadline=None)
@given(
    exponent=st.floats(min_value=0.5, max_value=3.5),
    factor=st.floats(min_value=1e-4, max_value=1e2),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_known_exponent_is_found(exponent: float, factor: float, seed: int) -> None:
    """With 300 records the standard error of the exponent is 0.3 / sqrt(300) / 1.33 = 0.013."""
    sizes, costs = synthetic(seed, 300, exponent, factor=factor)
    found = fit(sizes, costs, GUESS)
    assert found.exponent == pytest.approx(exponent, abs=0.08)
    assert found.scale == pytest.approx(0.3, rel=0.25)
    assert found.predict(100).median == pytest.approx(factor * 100**exponent, rel=0.1)


@pytest.mark.parametrize(
    ("count", "least", "most"), [(3, 0.95, 0.99), (10, 0.945, 0.98), (200, 0.94, 0.96)]
)
def test_the_bound_holds_for_95_in_100(count: int, least: float, most: float) -> None:
    """20,000 held-out costs, 200 for each of 100 fits; the guess is wrong by a factor of 80."""
    below = 0
    for seed in range(100):
        sizes, costs = synthetic(seed, count, 2.3)
        found = fit(sizes, costs, GUESS)
        for size, cost in zip(*synthetic(seed + 1000, 200, 2.3), strict=True):
            below += cost <= found.predict(size).upper95
    assert least <= below / 20_000 <= most


@settings(deadline=None)
@given(RECORDS, st.lists(SIZES, min_size=2, max_size=10))
def test_larger_is_never_cheaper(records: list[tuple[float, float]], sizes: list[float]) -> None:
    found = of(records)
    foreseen = [found.predict(size) for size in sorted(sizes)]
    for smaller, larger in pairwise(foreseen):
        assert smaller.median <= larger.median * (1 + 1e-12)
        assert smaller.upper95 <= larger.upper95 * (1 + 1e-12)
    assert all(0 < one.median < one.upper95 for one in foreseen)


def test_costs_that_do_not_grow_do_not_make_small_ones_dear() -> None:
    """The upper end would rise to the left, where no record is: a parabola under a root."""
    found = fit([900, 1000], [5, 5.1], GUESS.model_copy(update={"exponent_spread": 2.0}))
    assert found.predict(1).upper95 <= found.predict(30).upper95 <= found.predict(950).upper95


@settings(deadline=None)
@given(RECORDS, st.randoms())
def test_the_order_of_records_does_not_matter(
    records: list[tuple[float, float]], random: object
) -> None:
    shuffled = list(records)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert of(records) == of(shuffled)


def test_without_records_the_guess_is_told_with_its_spread() -> None:
    found = guessed(GUESS)
    assert found.predict(100).median == pytest.approx(10)
    assert found.predict(200).median == pytest.approx(40)
    wide = (GUESS.scatter**2 + GUESS.spread**2) ** 0.5 * stdtrit(WEIGHT, SURE)
    assert found.predict(100).upper95 == pytest.approx(10 * exp(wide))
    assert found == fit((), (), GUESS)


def test_each_record_moves_the_line_from_the_guess_to_the_data() -> None:
    """All cost ten times what was guessed; one record says most of it, five nearly all."""
    foreseen = [fit([100] * n, [100] * n, GUESS).predict(100) for n in (0, 1, 2, 5, 50)]
    medians = [one.median for one in foreseen]
    assert medians == sorted(medians)
    assert medians[0] == pytest.approx(10)
    assert medians[1] > 60
    assert medians[3] > 90
    ratios = [one.upper95 / one.median for one in foreseen]
    assert ratios == sorted(ratios, reverse=True)


def test_a_few_outliers_hardly_move_the_line() -> None:
    """Five of a hundred took a thousand times as long: on a node that hung."""
    sizes, costs = synthetic(1, 100, 2.0)
    clean = fit(sizes, costs, GUESS)
    spoilt = costs.copy()
    spoilt[::20] *= 1000
    found = fit(sizes, spoilt, GUESS)
    assert found.exponent == pytest.approx(clean.exponent, abs=0.08)
    assert found.predict(100).median == pytest.approx(clean.predict(100).median, rel=0.1)
    assert found.scale < 1.6 * clean.scale
    naive = np.polyfit(np.log(sizes), np.log(spoilt), 1)
    assert exp(naive[1] + naive[0] * log(100)) > 1.3 * clean.predict(100).median


def test_the_exponent_stays_physical() -> None:
    steep = fit([10, 20, 40], [1, 1e3, 1e6], GUESS.model_copy(update={"exponent_spread": 5.0}))
    falling = fit([10, 20, 40], [1e6, 1e3, 1], GUESS.model_copy(update={"exponent_spread": 5.0}))
    assert (steep.exponent, falling.exponent) == (4.0, 0.0)
    assert falling.scale > 2, "what does not fit counts as scatter"


def test_beyond_what_was_seen_the_bound_is_wider_however_much_was_seen() -> None:
    sizes, costs = synthetic(2, 5000, 2.0)
    found = fit(sizes, costs, GUESS)
    inside, outside = found.predict(1000), found.predict(10_000)
    assert inside.upper95 / inside.median == pytest.approx(exp(0.3 * 1.645), rel=0.05)
    spread = (0.3**2 + (DRIFT * log(10)) ** 2) ** 0.5
    assert outside.upper95 / outside.median == pytest.approx(exp(spread * 1.645), rel=0.05)


def test_what_is_no_measurement_is_left_out() -> None:
    good = [(10.0, 1.0), (100.0, 90.0)]
    bad = [(0.0, 1.0), (10.0, 0.0), (-5.0, 3.0), (float("nan"), 1.0), (10.0, float("inf"))]
    assert of(good + bad) == of(good)
    assert of(good).records == 2


def test_ten_thousand_records_take_milliseconds() -> None:
    sizes, costs = synthetic(3, 10_000, 2.0)
    fit(sizes, costs, GUESS)
    began = time.process_time()
    fit(sizes, costs, GUESS)
    assert time.process_time() - began < 0.1


def test_a_place_elsewhere_is_guessed_with_more_doubt() -> None:
    sizes, costs = synthetic(4, 500, 2.2)
    here = fit(sizes, costs, GUESS)
    there = guessed(known_elsewhere(here, GUESS, 0.7, 0.2))
    assert there.predict(100).median == pytest.approx(here.predict(100).median)
    assert there.predict(100).upper95 > 2 * here.predict(100).upper95


@pytest.mark.parametrize("exponent", [-0.1, 4.1])
def test_a_guess_out_of_its_own_limits_is_refused(exponent: float) -> None:
    with pytest.raises(ValueError, match="exponent"):
        Guess(size=1, value=1, exponent=exponent)


def test_it_is_least_squares_with_the_guess_as_two_more_records() -> None:
    """Solved by NumPy, for records that all lie near the line and far from the guess's size."""
    sizes, costs = synthetic(6, 8, 1.5, scatter=0.05, factor=0.5)
    found = fit(sizes, costs, GUESS)
    at_guess, slope = GUESS.scatter / GUESS.spread, GUESS.scatter / GUESS.exponent_spread
    away = np.log(sizes / GUESS.size)
    rows = np.array([*zip(np.ones(8), away, strict=True), (at_guess, 0), (0, slope)])
    right = np.array([*np.log(costs), at_guess * log(GUESS.value), slope * GUESS.exponent])
    (height, exponent), *_ = np.linalg.lstsq(rows, right)
    assert found.exponent == pytest.approx(exponent)
    assert log(found.predict(GUESS.size).median) == pytest.approx(height)
    doubt = np.linalg.inv(rows.T @ rows)
    for x in (-2.0, 0.0, 2.0):
        middle = x + log(GUESS.size) - found.centre
        variance = found.height_variance + found.exponent_variance * middle**2
        assert variance == pytest.approx(np.array([1, x]) @ doubt @ np.array([1, x]))
