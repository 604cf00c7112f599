"""The change of a density matrix: its formula on matrices whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.engines.pyscf.convergence import FloatArray, State, density_change, total


def symmetric(seed: int, size: int = 4) -> FloatArray:
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    return matrix + matrix.T


def positive(seed: int, size: int = 4) -> FloatArray:
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    return matrix @ matrix.T + np.eye(size)


def test_two_electrons_moved_to_an_orthogonal_orbital() -> None:
    before, after = np.diag([2.0, 0.0]), np.diag([0.0, 2.0])
    assert density_change(before, after, np.eye(2)) == pytest.approx(2 * np.sqrt(2))


def test_nothing_moved() -> None:
    density = symmetric(1)
    assert density_change(density, density, positive(2)) == 0.0


@given(st.integers(0, 1000))
def test_the_choice_of_basis_functions_does_not_matter(seed: int) -> None:
    before, after, overlap = symmetric(seed), symmetric(seed + 1), positive(seed + 2)
    change = positive(seed + 3)  # new functions are these combinations of the old
    inverse = np.linalg.inv(change)
    same = density_change(
        inverse @ before @ inverse.T, inverse @ after @ inverse.T, change.T @ overlap @ change
    )
    assert same == pytest.approx(density_change(before, after, overlap), rel=1e-6)


@given(st.integers(0, 1000))
def test_a_closed_shell_counts_the_same_in_both_forms(seed: int) -> None:
    before, after, overlap = symmetric(seed), symmetric(seed + 1), positive(seed + 2)
    halves = np.array([before, before]) / 2, np.array([after, after]) / 2
    closed = density_change(before, after, overlap)
    assert density_change(*halves, overlap) == pytest.approx(closed)


def test_spins_that_swap_do_not_cancel() -> None:
    up, down = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    change = density_change(np.array([up, down]), np.array([down, up]), np.eye(2))
    assert change == pytest.approx(2 * np.sqrt(2))


def test_total_sums_spins_and_leaves_a_closed_shell() -> None:
    up, down = symmetric(1), symmetric(2)
    assert np.allclose(total(np.array([up, down])), up + down)
    assert np.allclose(total(up), up)


def test_eigenvalue_sum_counts_occupations() -> None:
    state = State(
        energy=0.0,
        density=np.eye(2),
        mo_energy=np.array([-1.0, -0.5, 0.3]),
        mo_occ=np.array([2.0, 2.0, 0.0]),
        mo_coeff=np.eye(3),
    )
    assert state.eigenvalue_sum == pytest.approx(-3.0)
