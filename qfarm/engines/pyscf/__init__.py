"""The PySCF engine: PBE0 with density fitting and MBD@rsSCS, single points with forces.

This module is pure and loads no PySCF. The child process runs `compute.main`: `scf` converges
the density, `convergence` measures the four quantities of the verdict (their formulas stand
there), `properties` derives what the record holds.

The level's option `matrices` (see `qfarm_schemas.matrices`) adds the Fock, overlap, density or core
matrix to the result, at the cost of one SCF iteration; ``matrices = true`` gives the first two.

A dozen atoms fit into 400 MB, 30 into 700 MB (`intermediate`) or 1500 MB (`tight`); a larger
`memory_mb` is used but not needed. The ADR on the basis sets has the table.
"""

from collections.abc import Callable, Mapping
from typing import Final

from qfarm.costs.model import Start
from qfarm.engines import refusals
from qfarm.engines.inprocess import LibraryEngine
from qfarm.engines.pyscf import costs
from qfarm.engines.pyscf.basis import HEAVIEST, TABLE
from qfarm.ladder import Aid, Ladder
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import Dispersion, LevelOfTheory
from qfarm_schemas.matrices import OPTION, asked

LADDER: Final = Ladder(
    scf=(
        Aid("diis"),
        Aid("damped", {"diis_space": 14, "damp": 0.5, "max_cycle": 100}),
        Aid("level-shift", {"level_shift": 0.3, "max_cycle": 150}),
        Aid("newton", {"second_order": True, "max_cycle": 60}),
    )
)
"""SCF rungs: names and values of `qfarm.engines.pyscf.settings.Settings`. Level shift in Ha."""

GRID_LEVELS: Final = range(3, 10)
"""PySCF grid levels a level of theory may ask for; below 3 the grid noise spoils the forces."""


class PyscfEngine(LibraryEngine):
    """PBE0 (+ MBD@rsSCS) single points by PySCF in a child process."""

    name = "pyscf"
    module = "qfarm.engines.pyscf.compute"
    ladder = LADDER

    def basis_set(self, level: LevelOfTheory) -> str | None:
        """Gaussian basis set that stands for the tier."""
        mapped = TABLE.get(level.basis)
        return None if mapped is None else mapped.label

    def cost_size(self, level: LevelOfTheory, atoms: Mapping[int, int]) -> float:
        """Number of basis functions."""
        return float(costs.functions(level.basis, atoms))

    def start_costs(self, level: LevelOfTheory, task: TaskKind) -> Start:
        """What a calculation costs on one core, as long as nothing was measured."""
        return costs.start(level.basis)

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        """Why the engine cannot do this, naming the remedy; None when it can."""
        of_level = (check(level) for check in _LEVEL_CHECKS)
        of_fragment = (check(fragment) for check in _FRAGMENT_CHECKS)
        reasons = (_task(task), *of_level, *of_fragment)
        return next((reason for reason in reasons if reason), None)


def _task(task: TaskKind) -> str | None:
    if task is TaskKind.SINGLE_POINT:
        return None
    return "pyscf does single points only: optimise in a stage of the tblite engine before it"


def _method(level: LevelOfTheory) -> str | None:
    if level.method == "PBE0":
        return None
    return f"pyscf computes PBE0 here, not {level.method!r}: set method = 'PBE0'"


def _dispersion(level: LevelOfTheory) -> str | None:
    if level.dispersion is Dispersion.MBD_NL:
        return (
            "pyscf has no MBD-NL: it needs the VV10 polarizability of FHI-aims; "
            "set dispersion = 'mbd' (MBD@rsSCS)"
        )
    if level.dispersion is Dispersion.INTRINSIC:
        return "PBE0 has no dispersion of its own: set dispersion = 'mbd' or 'none'"
    return None


def _basis(level: LevelOfTheory) -> str | None:
    if level.basis in TABLE:
        return None
    tiers = " or ".join(tier.value for tier in TABLE)
    return f"basis tier {level.basis.value!r} is not mapped to a Gaussian basis: use {tiers}"


def _options(level: LevelOfTheory) -> str | None:
    unknown = sorted(set(level.options) - {"grid_level", OPTION})
    if unknown:
        return f"unknown option {', '.join(unknown)}: pyscf knows grid_level and {OPTION}"
    grid = level.options.get("grid_level", GRID_LEVELS.start)
    if type(grid) is not int or grid not in GRID_LEVELS:
        return f"grid_level must be a whole number from 3 to 9, not {grid!r}"
    try:
        asked(level.options)
    except ValueError as error:
        return str(error)
    return None


def _elements(fragment: Fragment) -> str | None:
    heavy = sorted({int(number) for number in fragment.numbers if number > HEAVIEST})
    if not heavy:
        return None
    return (
        f"elements Z = {', '.join(map(str, heavy))} need an effective core potential, which this "
        "engine does not have: use an all-electron engine such as FHI-aims"
    )


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

ENGINE: Final = PyscfEngine()
