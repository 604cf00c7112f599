"""Elements: symbols and atomic numbers (IUPAC, 2016); the schemas may not import ASE."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from qfarm_schemas.fragment import Fragment

_IN_ORDER: Final = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb
Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf
Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""

SYMBOLS: Final[tuple[str, ...]] = ("X", *_IN_ORDER.split())
"""Symbol by atomic number; index 0 is no element."""

NUMBERS: Final[dict[str, int]] = {symbol: z for z, symbol in enumerate(SYMBOLS) if z}
"""Atomic number by symbol."""


def symbols(fragment: Fragment) -> frozenset[str]:
    """Elements of a fragment."""
    return frozenset(SYMBOLS[z] for z in set(fragment.numbers.tolist()))


_TERM: Final = re.compile(r"([A-Z][a-z]?)(\d*)")


def counts(formula: str) -> Mapping[int, int]:
    """Number of atoms by atomic number in a formula; unknown symbols are left out.

    Examples
    --------
    >>> dict(counts("C2H6O"))
    {6: 2, 1: 6, 8: 1}
    """
    found: Counter[int] = Counter()
    for symbol, number in _TERM.findall(formula):
        if symbol in NUMBERS:
            found[NUMBERS[symbol]] += int(number or 1)
    return found
