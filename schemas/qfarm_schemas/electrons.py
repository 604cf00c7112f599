"""Electrons: which electron counts and spin multiplicities exist."""

from enum import StrEnum
from typing import NamedTuple


class Rule(StrEnum):
    """A rule that an impossible pair breaks."""

    COUNT = "count"  # at least one electron
    UNPAIRED = "unpaired"  # from none to all electrons unpaired
    PARITY = "parity"  # an even count has an odd multiplicity, an odd count an even one


class Impossible(NamedTuple):
    """The first rule broken, what breaks it in words, and what to do."""

    rule: Rule
    what: str
    remedy: str


def impossible(n_electrons: int, multiplicity: int) -> Impossible | None:
    """Say why no molecule has so many electrons and this multiplicity; None when one may.

    Parameters
    ----------
    n_electrons : int
        Number of electrons: sum of the atomic numbers less the charge.
    multiplicity : int
        2S+1: one more than the number of unpaired electrons.
    """
    unpaired = multiplicity - 1
    if n_electrons < 1:
        return Impossible(Rule.COUNT, "no electron is left", "check the charge")
    if unpaired < 0:
        return Impossible(Rule.UNPAIRED, f"multiplicity {multiplicity} is below 1", _BOTH)
    if unpaired > n_electrons:
        what = f"multiplicity {multiplicity} needs {unpaired} unpaired electrons, there are only"
        return Impossible(Rule.UNPAIRED, f"{what} {n_electrons}", _BOTH)
    if (n_electrons - unpaired) % 2:
        parity = "odd" if n_electrons % 2 == 0 else "even"
        what = f"{n_electrons} electrons cannot have multiplicity {multiplicity}, only an {parity}"
        return Impossible(Rule.PARITY, f"{what} one", _BOTH)
    return None


_BOTH = "check charge and multiplicity"
