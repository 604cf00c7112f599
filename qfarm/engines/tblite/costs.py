"""What GFN-xTB by tblite costs before anything was measured. Pure.

Measured on one core: an energy with forces takes 0.024 s for 24 atoms, 0.33 s for 99, 9 to 15 s for
348; an optimisation 0.02 to 0.1 s for a dozen atoms and 0.3 to 1.1 s for 24 to 30
(docs/adr/0014-costs.md). Diagonalisation takes over in large ones, and they need more steps.
"""

from typing import Final

from qfarm.costs.fit import Guess
from qfarm.costs.model import Start
from qfarm_schemas.config import TaskKind

_MEMORY: Final = Guess(
    size=30, value=75, exponent=0.5, spread=0.4, exponent_spread=0.5, scatter=0.15, highest=2.0
)

_SECONDS: Final = {
    TaskKind.OPTIMISATION: Guess(size=24, value=0.5, exponent=2.7, scatter=0.5, lowest=0.5),
    TaskKind.SINGLE_POINT: Guess(size=99, value=0.33, exponent=2.0, scatter=0.3, lowest=0.5),
}
"""By number of atoms. Steps of an optimisation scatter, hence its larger scatter."""


def start(task: TaskKind) -> Start:
    """What a calculation costs; its size is the number of atoms."""
    return Start(seconds=_SECONDS[task], memory_mb=_MEMORY, parallel=0.3)
