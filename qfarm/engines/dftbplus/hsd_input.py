"""``dftb_in.hsd``: the whole input of DFTB+, geometry included, from a job. Pure.

Nothing that decides the number is left to a default of the program, and `IgnoreUnprocessedNodes`
is never set, so that DFTB+ stops at a word it does not know.
"""

import math
from typing import Any, Final

import hsd

from qfarm.engines.base import Job
from qfarm.engines.dftbplus import gen
from qfarm.engines.dftbplus.options import GRID, kgrid, reference_set
from qfarm.engines.dftbplus.parameters import DAMPING_EXPONENT, ELEMENTS, symbols
from qfarm.engines.dftbplus.settings import GeometrySettings, SccSettings
from qfarm.verdict import CLOSEST, closest_distance
from qfarm_schemas.config import TaskKind
from qfarm_schemas.level import Dispersion, LevelOfTheory
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE

NAME: Final = "dftb_in.hsd"

LINK: Final = "slako"
"""Name in the scratch folder of the link to the Slater-Koster files."""

PARSER_VERSION: Final = 14
"""Input syntax of DFTB+ 25.1; older versions mean other things by the same words."""

PREFIX: Final = "geo_end"
"""Name of the geometry files, without their suffix."""

SCC_TOLERANCE: Final = 1e-8
"""e: largest charge difference between two iterations of an accepted SCC, or the level's own
density threshold where that is tighter. DFTB+ prints no change of the forces; their error goes
linearly with that of the charges, and at 1e-8 e it is below 1e-6 eV/A, a hundredth of what the
levels of qfarm demand elsewhere, for two or three more iterations than at the default of 1e-5 e."""

Block = dict[str, Any]


def text(job: Job) -> str:
    """Text of the input; equal jobs give equal texts."""
    start = start_geometry(job)
    blocks = (
        _choice("Geometry", "GenFormat", gen.rows(start))
        | _driver(job)
        | _choice("Hamiltonian", "DFTB", _hamiltonian(job))
        | {
            "Options": {"WriteResultsTag": True},
            "Analysis": {"PrintForces": True},
            "ParserOptions": {"ParserVersion": PARSER_VERSION},
        }
    )
    written: str = hsd.dump_string(blocks, use_hsd_attribs=True)
    return written


def start_geometry(job: Job) -> gen.Geometry:
    """Geometry to start from: what an earlier attempt at this optimisation left, where sound."""
    left = left_geometry(job)
    return gen.Geometry(job.fragment.numbers, job.fragment.positions) if left is None else left


def left_geometry(job: Job) -> gen.Geometry | None:
    """Geometry that an earlier attempt at this optimisation left; None where none is sound."""
    if job.stage.task is not TaskKind.OPTIMISATION:
        return None
    left = gen.read(job.restart.get(f"{PREFIX}.gen", ""))
    if left is None or not gen.same_atoms(left, job.fragment):
        return None
    return left if closest_distance(left.positions) >= CLOSEST else None


def scc_tolerance(level: LevelOfTheory) -> float:
    """SCC tolerance of a level, e."""
    wanted = level.thresholds.density
    return SCC_TOLERANCE if wanted is None else min(wanted, SCC_TOLERANCE)


def gradient_limit(max_force: float) -> float:
    """Largest gradient component, Ha/bohr, at which the norm of no atom's force exceeds a limit.

    DFTB+ bounds each component; the norm of three components is at most sqrt(3) times the largest.

    Parameters
    ----------
    max_force : float
        Limit of the norm, eV/A.
    """
    return max_force / math.sqrt(3.0) * DFTBPLUS_BOHR / DFTBPLUS_HARTREE


def _choice(name: str, kind: str, content: Any) -> Block:
    """``name = kind { content }``."""
    return {name: {kind: content}, f"{name}.hsdattrib": {"equal": True}}


def _quoted(word: str) -> str:
    return f'"{word}"'


def _driver(job: Job) -> Block:
    if job.stage.task is not TaskKind.OPTIMISATION:
        return {"Driver": {}}
    settings = GeometrySettings.model_validate(job.geometry)
    content = _choice("Optimizer", settings.optimiser, {}) | {
        "MovedAtoms": "1:-1",
        "MaxSteps": job.stage.max_steps,
        "OutputPrefix": _quoted(PREFIX),
        "Convergence": {"GradElem": gradient_limit(job.stage.max_force)},
    }
    return _choice("Driver", "GeometryOptimization", content)


def _hamiltonian(job: Job) -> Block:
    elements = {symbol: ELEMENTS[symbol] for symbol in symbols(job.fragment.numbers)}
    return (
        _scc(job)
        | {"Charge": job.fragment.charge, "ThirdOrderFull": True}
        | {"HubbardDerivs": {s: e.hubbard_derivative for s, e in elements.items()}}
        | _choice("HCorrection", "Damping", {"Exponent": DAMPING_EXPONENT})
        | _dispersion(job.level)
        | {"MaxAngularMomentum": {s: _quoted(e.shell) for s, e in elements.items()}}
        | _choice("SlaterKosterFiles", "Type2FileNames", _FILES)
        | _choice("Filling", "Fermi", {"Temperature": 0.0})
    )


def _scc(job: Job) -> Block:
    settings = SccSettings.model_validate(job.scf)
    return {
        "SCC": True,
        "SCCTolerance": scc_tolerance(job.level),
        "MaxSCCIterations": settings.max_iterations,
        "ConvergentSCCOnly": True,  # else an SCC that failed ends with exit code 0
        "ReadInitialCharges": False,
    } | _choice("Mixer", settings.mixer, {"MixingParameter": settings.mixing})


def _dispersion(level: LevelOfTheory) -> Block:
    if level.dispersion is not Dispersion.MBD:
        return {}
    content = {
        "Beta": level.mbd_beta,
        "NOmegaGrid": GRID,
        "KGrid": kgrid(level),
        "ReferenceSet": _quoted(reference_set(level)),
    }
    return _choice("Dispersion", "MBD", content)


_FILES: Final = {
    "Prefix": _quoted(f"{LINK}/"),  # relative: the same input everywhere
    "Separator": _quoted("-"),
    "Suffix": _quoted(".skf"),
}
