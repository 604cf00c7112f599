"""The FHI-aims engine: PBE0 with MBD@rsSCS or MBD-NL, all-electron single points with forces.

`control` and `geometry` write the input, `aids` is the ladder, `parse` reads the output. The
program and its species defaults are the site's: the engine's section of qfarm.toml names the launch
line and the folder of the tree `species.TREE`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from qfarm.costs.model import Start
from qfarm.engines import refusals
from qfarm.engines.aims import costs, settings, species
from qfarm.engines.aims.aids import LADDER
from qfarm.engines.aims.control import control_in
from qfarm.engines.aims.geometry import geometry_in
from qfarm.engines.aims.parse import parse
from qfarm.engines.base import Command, EngineDefaults, Exit, Job, Parameters, Restart
from qfarm.engines.launch import launch
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import Dispersion, LevelOfTheory
from qfarm_schemas.result import Result

METHODS: Final = ("PBE0",)
"""Functionals that may be asked for."""

HEAVIEST_MBD: Final = 86
"""Radon: the last element that MBD is used for here, by libMBD's free-atom reference values."""


class AimsEngine(EngineDefaults):
    """PBE0 (+ MBD@rsSCS or MBD-NL) single points by FHI-aims."""

    name = "aims"
    command: tuple[str, ...] = ("aims.x",)
    soft_stop: str | None = "abort_scf"
    restart = Restart(files=("D_*.csc",))
    ladder = LADDER

    def parameters(self, fragment: Fragment, level: LevelOfTheory) -> Parameters:
        """Species defaults of the fragment's elements."""
        return Parameters(names=species.names(fragment, level))

    def basis_set(self, level: LevelOfTheory) -> str | None:
        """None: the tier is the name that the field knows."""
        return None

    def cost_size(self, level: LevelOfTheory, atoms: Mapping[int, int]) -> float:
        """Number of basis functions."""
        return float(costs.functions(level.basis, atoms))

    def start_costs(self, level: LevelOfTheory, task: TaskKind) -> Start:
        """What a calculation costs on one core, as long as nothing was measured."""
        return costs.start()

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        """Why the engine cannot do this, naming the remedy; None when it can."""
        of_level = (check(level) for check in _LEVEL_CHECKS)
        of_both = (check(fragment, level) for check in _FRAGMENT_CHECKS)
        reasons = (_task(task), *of_level, *of_both, refusals.electrons(fragment))
        return next((reason for reason in reasons if reason), None)

    def wrong_parameters(
        self, fragment: Fragment, level: LevelOfTheory, texts: Mapping[str, str]
    ) -> str | None:
        """Why a text is not the species file that its name says; None when all are."""
        return species.wrong(fragment, level, texts)

    def goes_on(self, job: Job) -> bool:
        """Whether the SCF starts from the density of an earlier attempt."""
        return settings.reads_density(job)

    def write(self, job: Job) -> Mapping[str, str]:
        """control.in and geometry.in."""
        return {"control.in": control_in(job), "geometry.in": geometry_in(job.fragment)}

    def run(self, job: Job) -> Command:
        """The site's launch line."""
        return launch(job, self.command)

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
        """Read the output; never raises."""
        return parse(job, files, ended)


def _task(task: TaskKind) -> str | None:
    if task is TaskKind.SINGLE_POINT:
        return None
    return (
        "aims does single points only here: optimise in a stage of the dftbplus or tblite engine "
        "before it"
    )


def _method(level: LevelOfTheory) -> str | None:
    if level.method in METHODS:
        return None
    known = " or ".join(map(repr, METHODS))
    return f"aims computes {', '.join(METHODS)} here, not {level.method!r}: set method = {known}"


def _dispersion(level: LevelOfTheory) -> str | None:
    if level.dispersion is Dispersion.INTRINSIC:
        return (
            f"{level.method} has no dispersion of its own: set dispersion = 'mbd', 'mbd-nl' or "
            "'none'"
        )
    return None


def _basis(level: LevelOfTheory) -> str | None:
    if level.basis in species.TIERS:
        return None
    known = ", ".join(tier.value for tier in species.TIERS)
    return f"FHI-aims has no species defaults {level.basis.value!r}: set basis to one of {known}"


def _options(level: LevelOfTheory) -> str | None:
    if not level.options:
        return None
    unknown = ", ".join(sorted(level.options))
    return f"unknown option {unknown}: aims takes none, the level's other fields fix the number"


def _elements(fragment: Fragment, level: LevelOfTheory) -> str | None:
    heavy = [number for number in species.elements(fragment) if number > species.HEAVIEST]
    if not heavy:
        return None
    return (
        f"FHI-aims has no species defaults for Z = {', '.join(map(str, heavy))}: they end at "
        "nobelium (102); leave the fragment out"
    )


def _dispersed(fragment: Fragment, level: LevelOfTheory) -> str | None:
    heavy = [number for number in species.elements(fragment) if number > HEAVIEST_MBD]
    if not heavy or level.dispersion is Dispersion.NONE:
        return None
    return (
        f"MBD has no free-atom reference for Z = {', '.join(map(str, heavy))}: it ends at radon "
        "(86); set dispersion = 'none' or leave the fragment out"
    )


_LEVEL_CHECKS: Final[tuple[Callable[[LevelOfTheory], str | None], ...]] = (
    _method,
    _dispersion,
    _basis,
    _options,
)

_FRAGMENT_CHECKS: Final[tuple[Callable[[Fragment, LevelOfTheory], str | None], ...]] = (
    _elements,
    _dispersed,
)

ENGINE: Final = AimsEngine()
