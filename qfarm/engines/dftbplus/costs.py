"""What DFTB3 by DFTB+ costs before anything was measured, and what it grows with. Pure.

Sizes are numbers of valence orbitals. From DFTB+'s own times of recorded runs (wall; a first touch
of the parameter files included): single points 0.04 s with 12 orbitals, 2.6 s with 288 (48 water
molecules); optimisations 1.6 s with 12, 4.2 s with 28, 6.4 s with 33, where the program used a
quarter to a half of a core; 2.9 s a step with 288 (docs/adr/0014-costs.md). An optimisation of 288
orbitals takes some 300 to 500 steps. Its memory was not recorded.
"""

from collections.abc import Mapping
from typing import Final

from qfarm.costs.fit import Guess
from qfarm.costs.model import Start
from qfarm.engines.dftbplus.parameters import ELEMENTS
from qfarm_schemas.config import TaskKind
from qfarm_schemas.elements import SYMBOLS

_MOST: Final = 9
"""Orbitals of an element that the parameter set does not know."""

_SECONDS: Final = {
    TaskKind.OPTIMISATION: Guess(size=30, value=4, exponent=2.5, scatter=0.5, lowest=0.5),
    TaskKind.SINGLE_POINT: Guess(size=288, value=2.5, exponent=2.0, scatter=0.3, lowest=0.5),
}

_MEMORY: Final = Guess(size=100, value=150, exponent=0.8, spread=0.7, scatter=0.2, highest=2.0)


def orbitals(atoms: Mapping[int, int]) -> int:
    """Number of valence orbitals."""
    return sum(n * _of(SYMBOLS[z]) for z, n in atoms.items())


def start(task: TaskKind) -> Start:
    """What a calculation costs."""
    return Start(seconds=_SECONDS[task], memory_mb=_MEMORY, parallel=0.5)


def _of(symbol: str) -> int:
    return ELEMENTS[symbol].orbitals if symbol in ELEMENTS else _MOST
