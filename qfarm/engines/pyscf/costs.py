"""What PBE0 by PySCF costs before anything was measured, and what it grows with. Pure.

Sizes are numbers of basis functions. Measured on one core, energy, forces, Hirshfeld ratios and MBD
(docs/adr/0014-costs.md): `intermediate` 1.2 to 7 s and 240 MB with 48 functions, 50 to 150 s and
1.0 to 2.1 GB with 228; `tight` 2.1 to 12 s with 86, 20 s and 800 MB with 222. Quadrature takes
most of it, which grows with atoms times functions squared, less what its screening saves.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from qfarm.costs.fit import Guess
from qfarm.costs.model import Start
from qfarm_schemas.level import BasisTier

_SVP: Final = (
    *(5, 5),
    *(9, 9, 14, 14, 14, 14, 14, 14),
    *(15, 18, 18, 18, 18, 18, 18, 18),
    *(24, 24, *(31,) * 10, *(32,) * 6),
)
_TZVP: Final = (
    *(6, 6),
    *(14, 19, 31, 31, 31, 31, 31, 31),
    *(32, 32, 37, 37, 37, 37, 37, 37),
    *(33, 36, *(45,) * 9, *(48,) * 7),
)

_FUNCTIONS: Final[Mapping[BasisTier, tuple[int, ...]]] = MappingProxyType(
    {BasisTier.INTERMEDIATE: _SVP, BasisTier.TIGHT: _TZVP}
)
"""Spherical functions of each element from hydrogen on; a test compares them with PySCF's sets."""

_START: Final[Mapping[BasisTier, Start]] = MappingProxyType(
    {
        tier: Start(
            seconds=Guess(size=200, value=value, exponent=2.4, scatter=0.25, lowest=1.0),
            memory_mb=Guess(
                size=200, value=900, exponent=1.4, spread=0.4, scatter=0.2, highest=2.5
            ),
            parallel=0.7,
        )
        for tier, value in ((BasisTier.INTERMEDIATE, 50.0), (BasisTier.TIGHT, 25.0))
    }
)


def functions(tier: BasisTier, atoms: Mapping[int, int]) -> int:
    """Number of basis functions; an element or tier that has no set counts as the largest one."""
    table = _FUNCTIONS.get(tier, _TZVP)
    return sum(n * table[min(z, len(table)) - 1] for z, n in atoms.items())


def start(tier: BasisTier) -> Start:
    """What a calculation costs."""
    return _START.get(tier, _START[BasisTier.TIGHT])
