"""Which electron counts and multiplicities exist."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.engines.refusals import electrons
from qfarm_schemas.electrons import Rule, impossible
from support.build import WATER


@pytest.mark.parametrize(
    ("n_electrons", "multiplicity"), [(1, 2), (2, 1), (2, 3), (9, 2), (10, 1), (10, 11), (16, 3)]
)
def test_what_exists(n_electrons: int, multiplicity: int) -> None:
    assert impossible(n_electrons, multiplicity) is None


@pytest.mark.parametrize(
    ("n_electrons", "multiplicity", "rule", "words"),
    [
        (0, 1, Rule.COUNT, "no electron is left"),
        (-3, 2, Rule.COUNT, "no electron is left"),
        (9, 0, Rule.UNPAIRED, "multiplicity 0 is below 1"),
        (1, 4, Rule.UNPAIRED, "multiplicity 4 needs 3 unpaired electrons, there are only 1"),
        (2, 5, Rule.UNPAIRED, "needs 4 unpaired electrons, there are only 2"),
        (9, 1, Rule.PARITY, "9 electrons cannot have multiplicity 1, only an even one"),
        (10, 2, Rule.PARITY, "10 electrons cannot have multiplicity 2, only an odd one"),
    ],
)
def test_what_does_not_and_why(n_electrons: int, multiplicity: int, rule: Rule, words: str) -> None:
    found = impossible(n_electrons, multiplicity)
    assert found is not None
    assert found.rule is rule
    assert words in found.what
    assert found.remedy.startswith("check")


@given(up=st.integers(0, 300), down=st.integers(0, 300))
def test_any_spin_up_and_spin_down_electrons_exist(up: int, down: int) -> None:
    found = impossible(up + down, abs(up - down) + 1)
    assert (found is None) == (up + down > 0)


@given(n_electrons=st.integers(-5, 40), multiplicity=st.integers(-2, 50))
def test_nothing_else_exists(n_electrons: int, multiplicity: int) -> None:
    """Against the list of all ways to give electrons a spin."""
    multiplicities = {abs(2 * up - n_electrons) + 1 for up in range(n_electrons + 1)}
    exists = n_electrons > 0 and multiplicity in multiplicities
    assert (impossible(n_electrons, multiplicity) is None) == exists


def test_a_refusal_names_the_charge_and_the_remedy() -> None:
    assert electrons(WATER) is None
    cation = WATER.model_copy(update={"charge": 1})
    assert electrons(cation) == (
        "charge +1: 9 electrons cannot have multiplicity 1, only an even one; "
        "check charge and multiplicity"
    )
