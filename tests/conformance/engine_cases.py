"""What the conformance suite must know of each engine; a new engine is one entry."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from conformance import engine_inputs
from conformance.engine_inputs import Input
from qfarm.engines.base import Engine, Site
from qfarm_schemas.config import TaskKind
from qfarm_schemas.elements import SYMBOLS
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from support.gpu_on_cpu import OnCpu
from support.species import species_texts

WATER = Fragment(
    numbers=[8, 1, 1],
    positions=[[0.010, -0.020, 0.119], [0.0, 0.790, -0.477], [0.0, -0.763, -0.450]],
)
"""A distorted water molecule, A: no symmetry hides an error, and every force is large."""

CLASHING: Final = Fragment(
    numbers=[8, 1, 1], positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 0.001], [0.0, 0.8, -0.5]]
)
"""A hydrogen on top of the oxygen."""

DOUBLES: Final = Path(__file__).resolve().parents[1] / "doubles"


@dataclass(frozen=True)
class Way:
    """One way to fail.

    Attributes
    ----------
    kind : FailureKind
        What must come out.
    does : str
        What the double does, a name in `doubles.misbehaviour.TABLE` with its argument.
    fields : dict
        Of the job, or of its stage.
    task : TaskKind
        What is asked for.
    """

    kind: FailureKind
    does: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    task: TaskKind = TaskKind.SINGLE_POINT


@dataclass(frozen=True)
class Case:
    """The cheapest way to a water molecule.

    Attributes
    ----------
    level : LevelOfTheory
        Cheapest level that the engine offers.
    tasks : tuple of TaskKind
        What it can do; the others it must refuse.
    library : str
        Module that may be loaded in the child process only; empty for a program.
    outputs : tuple of str
        Files without which there is no result.
    energy : tuple of float
        Bounds of the total energy of water, eV.
    force_tolerance : float
        eV/A: largest error of a force against finite differences of the energy, by what the
        method neglects or its grid adds.
    components : tuple of (int, int)
        Atom and axis of the forces to compare.
    read : callable
        Reader of the input, independent of the engine.
    aids : regular expression
        Words of the input that a rung may change, because they decide no number.
    thresholds : dict
        Field of `Thresholds` -> word of the input that holds it, in the same unit.
    ways : dict
        Ways to fail, by a name.
    site : callable
        What the place of execution gives, for a fragment and a level.
    real : bool
        Whether the numbers are physics; those of a double are made up.
    geometry : tuple of str
        Outputs of an optimisation alone.
    leaves : tuple of str
        Patterns of further files that a run may leave.
    farewell : dict
        Output file -> regular expression that ends where its last meaning does; nobody reads
        what follows.
    start_ups : tuple of str
        Aids that only prepare a density.
    gradient_level : LevelOfTheory or None
        Level at which the forces are compared, where those of `level` are no exact gradient.
    markers : regular expression
        Lines of a long output around which every cut is tried.
    recorded : str
        Module of `support` whose ``recorded()`` gives outputs of the real program.
    without_gpu : Engine or None
        What runs in place of an engine that needs a GPU, where there is none: its own code, on a
        device that is the CPU.
    repeats : float
        eV: by how much energies of equal jobs may differ, because threads of a GPU sum in any
        order; 0: all files are equal.
    """

    level: LevelOfTheory
    tasks: tuple[TaskKind, ...]
    library: str
    outputs: tuple[str, ...]
    energy: tuple[float, float]
    force_tolerance: float
    components: tuple[tuple[int, int], ...]
    read: Callable[[Mapping[str, str]], Input]
    aids: re.Pattern[str]
    thresholds: Mapping[str, str]
    ways: Mapping[str, Way]
    site: Callable[[Fragment, LevelOfTheory], Site] = lambda _fragment, _level: Site()
    real: bool = True
    geometry: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    farewell: Mapping[str, str] = field(default_factory=dict)
    start_ups: tuple[str, ...] = ()
    gradient_level: LevelOfTheory | None = None
    markers: re.Pattern[str] = re.compile(r"(?!)")
    recorded: str = ""
    without_gpu: Engine | None = None
    repeats: float = 0.0


def up_to_farewell(case: Case, file: str, text: str) -> str:
    """The part of an output that means something."""
    ends = [found.end() for found in re.finditer(case.farewell.get(file, r"\Z"), text)]
    return text[: ends[-1]] if ends else text


def _double(name: str, **fields: Any) -> Site:
    return Site(command=(sys.executable, str(DOUBLES / f"{name}_double.py")), **fields)


def _aims_site(fragment: Fragment, level: LevelOfTheory) -> Site:
    symbols = {SYMBOLS[z] for z in fragment.numbers.tolist()}
    return _double("aims", texts=species_texts(symbols, level.basis.value), digest="0" * 16)


def _dftbplus_site(fragment: Fragment, level: LevelOfTheory) -> Site:
    return _double("dftbplus", digest="0" * 16)


_SAME_NAMES: Final = {
    name: f"stage.level.thresholds.{name}"
    for name in ("energy", "eigenvalues", "density", "forces")
}

_OF_PROGRAMS: Final = {
    "exit code 1": Way(FailureKind.CRASHED, "exit-code 1"),
    "killed": Way(FailureKind.CRASHED, "crash-signal 9"),
    "no SCF convergence": Way(FailureKind.SCF_NOT_CONVERGED, "scf-not-converged"),
    "forces of one atom missing": Way(FailureKind.BAD_OUTPUT, "missing-force-row"),
    "a force is NaN": Way(FailureKind.BAD_OUTPUT, "nan"),
    "another geometry": Way(FailureKind.BAD_OUTPUT, "wrong-geometry"),
    "MBD does not fit the ratios": Way(FailureKind.BAD_OUTPUT, "mbd-off 1e-4"),
    "out of memory": Way(FailureKind.OUT_OF_MEMORY, "out-of-memory"),
}
"""What the doubles of all programs can do."""


CASES = {
    "aims": Case(
        level=LevelOfTheory(
            engine="aims", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="light"
        ),
        tasks=(TaskKind.SINGLE_POINT,),
        library="",
        outputs=("stdout.txt",),
        energy=(-1e5, 0.0),
        force_tolerance=2e-4,
        components=((1, 1), (0, 2)),
        read=engine_inputs.of_aims,
        aids=re.compile(r"sc_iter_limit|mixer|charge_mix_param|n_max_pulay|elsi_restart"),
        thresholds={
            "energy": "sc_accuracy_etot",
            "eigenvalues": "sc_accuracy_eev",
            "density": "sc_accuracy_rho",
            "forces": "sc_accuracy_forces",
        },
        ways=_OF_PROGRAMS
        | {
            "output ends in the middle": Way(FailureKind.CRASHED, "truncate 0.5"),
            "gap near zero": Way(FailureKind.NO_GAP, "small-gap"),
            "ill-conditioned overlap": Way(FailureKind.ILL_CONDITIONED, "ill-conditioned"),
            "another functional": Way(FailureKind.BAD_OUTPUT, "wrong-xc"),
        },
        site=_aims_site,
        real=False,
        leaves=("D_*.csc",),
        farewell={"stdout.txt": r"Have a nice day\."},
        start_ups=("adjust-start", "smeared-start", "linear-start"),
        gradient_level=LevelOfTheory(engine="aims", method="PBE0", basis="light"),
        markers=re.compile(
            r"Invoking FHI-aims|Self-consistency cycle converged|Libmbd|Total energy uncorrected"
            r"|Total atomic forces|Hirshfeld analysis|dipole moment|Have a nice day|Leaving"
        ),
        recorded="aims_fixtures",
    ),
    "dftbplus": Case(
        level=LevelOfTheory(
            engine="dftbplus",
            method="DFTB3",
            dispersion="mbd",
            mbd_beta=0.83,
            thresholds={"eigenvalues": "none", "forces": "none"},
        ),
        tasks=(TaskKind.SINGLE_POINT, TaskKind.OPTIMISATION),
        library="",
        outputs=("results.tag", "detailed.out", "stdout.txt"),
        energy=(-1e5, 0.0),
        force_tolerance=2e-4,
        components=((1, 1), (0, 2)),
        read=engine_inputs.of_dftbplus,
        aids=re.compile(
            r"Hamiltonian\.DFTB\.(MaxSCCIterations|Mixer\..*)"
            r"|Driver\.GeometryOptimization\.Optimizer\..*"
        ),
        thresholds={"density": "Hamiltonian.DFTB.SCCTolerance"},
        ways=_OF_PROGRAMS | {"files of an older run": Way(FailureKind.CRASHED, "stale-files")},
        site=_dftbplus_site,
        farewell={"stdout.txt": r"\nTotal\s+=", "results.tag": r"(?=\nscaled_dipole)"},
        real=False,
        geometry=("geo_end.gen",),
        leaves=("band.out", "charges.bin", "detailed.xml", "dftb_pin.hsd", "geo_end.*"),
        gradient_level=LevelOfTheory(
            engine="dftbplus",
            method="DFTB3",
            thresholds={"eigenvalues": "none", "forces": "none"},
        ),
        markers=re.compile(r"Geometry converged|DFTB\+ running times|Dispersion energy"),
        recorded="dftbplus_fixtures",
    ),
    "pyscf": Case(
        level=LevelOfTheory(
            engine="pyscf", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="intermediate"
        ),
        tasks=(TaskKind.SINGLE_POINT,),
        library="pyscf",
        outputs=("result.json",),
        energy=(-2080.0, -2073.0),
        force_tolerance=5e-3,  # grid level 3 up to 4 meV/A; MBD at fixed ratios up to 0.8
        components=((1, 1),),
        read=engine_inputs.of_library,
        aids=re.compile(r"scf\.(max_cycle|diis_space|damp|level_shift|second_order)"),
        thresholds=_SAME_NAMES,
        ways={
            "no SCF convergence": Way(
                FailureKind.SCF_NOT_CONVERGED, fields={"scf": {"max_cycle": 1}}
            ),
        },
    ),
    "tblite": Case(
        level=LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic"),
        tasks=(TaskKind.SINGLE_POINT, TaskKind.OPTIMISATION),
        library="tblite",
        outputs=("result.json",),
        energy=(-138.1, -137.8),
        force_tolerance=2e-4,  # third derivatives: (1e-3 A)^2 / 6 times about 300 eV/A^3
        components=((1, 1), (0, 2)),
        read=engine_inputs.of_library,
        aids=re.compile(
            r"scf\.(max_iterations|damping|memory|start_temperature|temperatures)"
            r"|geometry\.(optimiser|calm_steps|max_step)"
        ),
        thresholds=_SAME_NAMES,
        ways={
            "no SCC convergence": Way(
                FailureKind.SCF_NOT_CONVERGED, fields={"scf": {"max_iterations": 2}}
            ),
            "atoms on top of each other": Way(
                FailureKind.BAD_GEOMETRY, fields={"fragment": CLASHING}
            ),
            "not relaxed": Way(
                FailureKind.GEOMETRY_NOT_CONVERGED,
                fields={"max_steps": 1},
                task=TaskKind.OPTIMISATION,
            ),
        },
    ),
}

CASES["gpu4pyscf"] = replace(CASES["pyscf"], library="cupy", without_gpu=OnCpu(), repeats=1e-6)
