"""What PBE0 by FHI-aims costs before anything was measured, and what it grows with. Pure.

Sizes are numbers of basis functions. Counted in outputs and species files of FHI-aims: H 5, 6, 15
and C, N, O 14, 21, 39 at `light`, `intermediate`, `tight`; Mg 15 at `light`. What stands for other
elements is an estimate by the shells that they fill.

Measured there, PBE0 `tight`: O2 with 78 functions 51 s on one core, 15 SCF iterations; (H2O)9 with
621 functions, MBD and forces 197 s on 8 cores, 19 iterations, 5.9 GB in all tasks together.
Between the two it grows with the power 1.7; exact exchange in larger ones tends to 2 and more, so
that the guess is 2 (docs/adr/0014-costs.md).
"""

from collections.abc import Mapping
from typing import Final

from qfarm.costs.fit import Guess
from qfarm.costs.model import Start
from qfarm_schemas.level import BasisTier

_FUNCTIONS: Final[Mapping[BasisTier, tuple[int, ...]]] = {
    BasisTier.LIGHT: (5, 14, 25, 35, 45),
    BasisTier.INTERMEDIATE: (6, 21, 32, 45, 60),
    BasisTier.TIGHT: (15, 39, 50, 60, 75),
}
"""Of an element that ends not above `_LAST`."""

_LAST: Final = (2, 10, 18, 36, 118)
"""Last elements of the first periods, and of all the others together."""

_START: Final = Start(
    seconds=Guess(size=621, value=1500, exponent=2.0, spread=1.0, scatter=0.3, lowest=1.0),
    memory_mb=Guess(size=621, value=7000, exponent=1.8, spread=0.8, scatter=0.3, highest=3.0),
    parallel=0.99,
)


def functions(tier: BasisTier, atoms: Mapping[int, int]) -> int:
    """Number of basis functions, as nearly as it is known without the species files."""
    row = _FUNCTIONS.get(tier, _FUNCTIONS[BasisTier.TIGHT])
    return sum(n * row[_period(z)] for z, n in atoms.items())


def start() -> Start:
    """What a calculation costs."""
    return _START


def _period(z: int) -> int:
    return next(index for index, last in enumerate(_LAST) if z <= last)
