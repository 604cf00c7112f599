"""The tblite engine: GFN2-xTB and GFN1-xTB, single points and geometry optimisations.

This module is pure and loads no tblite. The child process runs `compute.main`: `scc` converges
the charges and measures the four quantities of the verdict (their formulas stand there),
`optimise` moves the atoms, `properties` derives what the record holds.
"""

import math
from collections.abc import Callable
from typing import Final

from qfarm.costs.model import Start
from qfarm.engines import refusals
from qfarm.engines.inprocess import LibraryEngine
from qfarm.engines.tblite import costs
from qfarm.engines.tblite.settings import LADDER, TEMPERATURE, TEMPERATURE_OPTION
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, Dispersion, LevelOfTheory

METHODS: Final = ("GFN2-xTB", "GFN1-xTB")
"""Hamiltonians; J. Chem. Theory Comput. 15, 1652 (2019) and 13, 1989 (2017)."""

HEAVIEST: Final = 86
"""Radon: the last element with GFN parameters."""


class TbliteEngine(LibraryEngine):
    """GFN-xTB by tblite in a child process."""

    name = "tblite"
    module = "qfarm.engines.tblite.compute"
    ladder = LADDER

    def basis_set(self, level: LevelOfTheory) -> None:
        """The Hamiltonian brings its basis."""

    def start_costs(self, level: LevelOfTheory, task: TaskKind) -> Start:
        """What a calculation costs on one core, as long as nothing was measured."""
        return costs.start(task)

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        """Why the engine cannot do this, naming the remedy; None when it can."""
        of_level = (check(level) for check in _LEVEL_CHECKS)
        of_fragment = (check(fragment) for check in _FRAGMENT_CHECKS)
        return next((reason for reason in (*of_level, *of_fragment) if reason), None)


def _method(level: LevelOfTheory) -> str | None:
    if level.method in METHODS:
        return None
    return f"tblite computes {' and '.join(METHODS)} here, not {level.method!r}"


def _dispersion(level: LevelOfTheory) -> str | None:
    if level.dispersion is Dispersion.INTRINSIC:
        return None
    return (
        f"{level.method} brings its own dispersion and takes no {level.dispersion.value!r}: "
        "set dispersion = 'intrinsic'"
    )


def _basis(level: LevelOfTheory) -> str | None:
    if level.basis is BasisTier.NONE:
        return None
    return f"{level.method} brings its own basis, not {level.basis.value!r}: set basis = 'none'"


def _options(level: LevelOfTheory) -> str | None:
    unknown = sorted(set(level.options) - {TEMPERATURE_OPTION})
    if unknown:
        return f"unknown option {', '.join(unknown)}: tblite knows {TEMPERATURE_OPTION}"
    kelvin = level.options.get(TEMPERATURE_OPTION, TEMPERATURE)
    number = isinstance(kelvin, int | float) and not isinstance(kelvin, bool)
    if number and 0 < float(kelvin) < math.inf:
        return None
    return f"{TEMPERATURE_OPTION} must be a number of kelvin above 0, not {kelvin!r}"


def _elements(fragment: Fragment) -> str | None:
    heavy = sorted({int(number) for number in fragment.numbers if number > HEAVIEST})
    if not heavy:
        return None
    listed = ", ".join(map(str, heavy))
    return f"GFN-xTB has no parameters for Z = {listed}: it ends at radon (86)"


_LEVEL_CHECKS: Final[tuple[Callable[[LevelOfTheory], str | None], ...]] = (
    _method,
    _dispersion,
    _basis,
    _options,
)

_FRAGMENT_CHECKS: Final[tuple[Callable[[Fragment], str | None], ...]] = (
    _elements,
    refusals.electrons,
)

ENGINE: Final = TbliteEngine()
