"""The table of checks: each refuses what it must, with a remedy, and nothing else."""

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.intake import checks
from qfarm.intake.checks import APART, CHECKS, FARTHEST, Draft, flaws
from qfarm.intake.problem import Kind
from support.build import WATER


def draft(numbers: object = (8, 1, 1), positions: object = None, **fields: Any) -> Draft:
    where = WATER.positions if positions is None else positions
    return Draft(np.array(numbers, dtype=np.int64), np.array(where, dtype=float), **fields)


def kinds(found: Draft) -> list[Kind]:
    return [flaw.kind for flaw in flaws(found)]


def test_good_drafts_pass_every_check() -> None:
    assert kinds(draft()) == []
    assert kinds(draft(charge=1, multiplicity=2)) == []
    assert kinds(draft(multiplicity=3)) == []
    assert kinds(draft([1], [[0, 0, 0]], charge=-1)) == []


def test_empty() -> None:
    assert kinds(draft([], np.zeros((0, 3)))) == [Kind.EMPTY]


@pytest.mark.parametrize("number", [0, -1, 119])
def test_elements(number: int) -> None:
    assert kinds(draft([8, 1, number])) == [Kind.ELEMENT]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_names_the_atom(value: float) -> None:
    positions = WATER.positions.copy()
    positions[1, 2] = value
    (flaw,) = flaws(draft(positions=positions))
    assert flaw.kind is Kind.NOT_FINITE
    assert "atom 2 (H)" in flaw.what


def test_out_of_range() -> None:
    positions = WATER.positions.copy()
    positions[2, 0] = -2 * FARTHEST
    (flaw,) = flaws(draft(positions=positions))
    assert flaw.kind is Kind.TOO_FAR
    assert "atom 3 (H)" in flaw.what


def test_overlap_names_both_atoms_and_their_distance() -> None:
    positions = [[0, 0, 0], [0, 0, 5], [0.3, 0, 5]]
    (flaw,) = flaws(draft(positions=positions))
    assert flaw.kind is Kind.OVERLAP
    assert "atom 2 (H) and atom 3 (H) are 0.300 A apart" in flaw.what


def test_overlap_limit() -> None:
    assert kinds(draft([1, 1], [[0, 0, 0], [0, 0, 0.4]])) == []
    assert kinds(draft([1, 1], [[0, 0, 0], [0, 0, 0.39999]])) == [Kind.OVERLAP]


@given(st.integers(2, 12), st.data())
def test_overlap_of_any_two_equal_positions(n_atoms: int, data: st.DataObject) -> None:
    positions = np.arange(n_atoms)[:, None] * np.array([1.0, 0.5, 0.2])
    first = data.draw(st.integers(0, n_atoms - 2))
    second = data.draw(st.integers(first + 1, n_atoms - 1))
    positions[second] = positions[first]
    found = flaws(draft([2] * n_atoms, positions))
    assert [flaw.kind for flaw in found] == [Kind.OVERLAP]
    assert f"atom {first + 1} (He) and atom {second + 1} (He) are 0.000 A" in found[0].what


@pytest.mark.parametrize(
    ("second", "accepted"), [(12.0, True), (APART, True), (APART + 0.01, False), (1e4, False)]
)
def test_a_gap_beyond_the_limit_is_refused(second: float, accepted: bool) -> None:
    found = flaws(draft([11, 17], [[0, 0, 0], [0, 0, second]]))
    assert [flaw.kind for flaw in found] == ([] if accepted else [Kind.APART])


def test_a_far_atom_is_named_with_its_neighbour() -> None:
    positions = [*WATER.positions, [0, 0, 1e4]]
    (flaw,) = flaws(draft([8, 1, 1, 2], positions))
    assert "atom 4 (He): the nearest of the other atoms, atom 1 (O), is 10000 A" in flaw.what
    assert "atom 4" in flaw.remedy


def test_far_molecules_are_refused_although_no_atom_is_alone() -> None:
    other = WATER.positions + np.array([0.0, 500.0, 0.0])
    (flaw,) = flaws(draft([8, 1, 1] * 2, np.concatenate([WATER.positions, other])))
    assert flaw.kind is Kind.APART
    assert "and 2 more" in flaw.what


@given(st.permutations(range(8)))
def test_a_long_chain_has_no_gap(order: list[int]) -> None:
    chain = np.array(order)[:, None] * np.array([[0.0, 0.0, 99.0]])
    assert kinds(draft([2] * 8, chain)) == []
    assert kinds(draft([2] * 7, np.delete(chain, order.index(3), axis=0))) == [Kind.APART]


def test_periodic() -> None:
    assert kinds(draft(periodic=True)) == [Kind.PERIODIC]


@pytest.mark.parametrize("charge", [10, 11, -11, 10**30])
def test_impossible_charge(charge: int) -> None:
    assert Kind.CHARGE in kinds(draft(charge=charge))


def test_odd_electrons_need_a_multiplicity() -> None:
    (flaw,) = flaws(draft(charge=1))
    assert flaw.kind is Kind.PARITY
    assert "9 electrons" in flaw.what
    assert "multiplicity=" in flaw.remedy
    (assumed,) = flaws(draft([11], [[0, 0, 0]]))
    assert "charge 0, assumed" in assumed.what


@given(st.integers(-9, 9), st.integers(1, 8))
def test_parity_is_exact(charge: int, multiplicity: int) -> None:
    found = kinds(draft(charge=charge, multiplicity=multiplicity))
    electrons = 10 - charge
    too_many = multiplicity - 1 > electrons
    assert (Kind.MULTIPLICITY in found) == too_many
    assert (Kind.PARITY in found) == ((electrons + multiplicity) % 2 == 0 and not too_many)


@given(st.integers(0, 6))
def test_the_2s_convention_never_passes(unpaired: int) -> None:
    """A file that writes 2S where 2S+1 is meant is refused, whatever 2S is."""
    charge = unpaired % 2
    assert kinds(draft(charge=charge, multiplicity=unpaired)) != []


def test_a_bad_key_is_not_reported_twice() -> None:
    assert kinds(draft([11], [[0, 0, 0]], charge_wrong=True)) == []
    assert kinds(draft([11], [[0, 0, 0]], multiplicity_wrong=True)) == []


def test_every_check_has_its_own_line_in_the_table() -> None:
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS) == 10


COORDINATE = st.sampled_from([0.0, 0.4, 0.4 - 1e-12, 0.4 + 1e-12, 1.0, 100.0, 100.0 - 1e-12, 300.0])


@given(st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE), min_size=1, max_size=6))
def test_short_cuts_say_what_the_exact_checks_say(positions: list[tuple[float, ...]]) -> None:
    numbers = [2] * len(positions)
    quick = flaws(draft(numbers, positions))
    with patch.object(checks, "FEW", 0), patch.object(checks, "CLEARLY", -1.0):
        assert quick == flaws(draft(numbers, positions))
