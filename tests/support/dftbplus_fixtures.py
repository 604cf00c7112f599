"""The 36 recorded runs of DFTB+, as the worker would hand them to the engine.

The job of a recording is what its ``dftb_in.hsd`` asked for, with the thresholds that a level must
state. Reference energies and forces come from a reader of their own, which knows nothing of
`qfarm.engines.dftbplus`.
"""

import csv
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.base import Exit, Job, Site
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.elements import NUMBERS
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE
from support.needs import shared_fixture
from support.recorded import Recorded

CHOSEN = Path(__file__).resolve().parents[1] / "data" / "dftbplus"
"""The recordings that the repository itself holds."""

RENAMED = {"stdout": "stdout.txt", "stderr": "stderr.txt"}

LEFT_OUT = ("run.json", "dftb_in.hsd", "geometry.gen")

RECORDED_FORCE = 1e-4 * DFTBPLUS_HARTREE / DFTBPLUS_BOHR * np.sqrt(3.0)
"""eV/A: norm allowed by the recordings' GradElem of 1e-4 Ha/bohr."""

Kind = FailureKind
EXPECTED: Mapping[str, tuple[FailureKind | None, str]] = {
    "bad_keyword": (Kind.BAD_OUTPUT, "DFTB+ did not understand its input"),
    "bad_keyword_ignored": (Kind.BAD_OUTPUT, "a word of the input was ignored"),
    "bad_syntax": (Kind.BAD_OUTPUT, "DFTB+ did not understand its input"),
    "close_atoms": (Kind.BAD_GEOMETRY, "atoms 0.3 A apart"),
    "h2po4_sp": (None, "an anion"),
    "kill_kill_midopt": (Kind.CRASHED, "SIGKILL without a word"),
    "kill_term_first_scc": (Kind.WALLTIME, "SIGTERM"),
    "kill_term_midopt": (Kind.WALLTIME, "SIGTERM"),
    "mbd_beta_small": (Kind.CRASHED, "a segmentation fault may be the node's or the method's"),
    "mbd_beta_small_noforces": (Kind.METHOD_FAILED, "MBD has negative eigenvalues"),
    "mbd_no_kgrid": (Kind.BAD_OUTPUT, "DFTB+ did not understand its input"),
    "mbd_species_label": (Kind.BAD_OUTPUT, "the dispersion energy is wrong"),
    "mephosphate_opt_lbfgs_new": (None, "an optimised anion"),
    "missing_hubbard": (Kind.BAD_OUTPUT, "DFTB+ did not understand its input"),
    "missing_maxl": (Kind.BAD_OUTPUT, "DFTB+ did not understand its input"),
    "missing_skf": (Kind.ENGINE_MISSING, "a Slater-Koster file is missing"),
    "missing_skf_stale": (Kind.ENGINE_MISSING, "likewise; the numbers are an older run's"),
    "na_water4_opt": (None, "an optimised cation"),
    "na_water4_sp": (None, "a cation"),
    "open_shell_wrong_charge": (Kind.NO_GAP, "a half-filled level"),
    "opt_maxsteps_lbfgs_old": (Kind.GEOMETRY_NOT_CONVERGED, "too few steps"),
    "opt_maxsteps_new": (Kind.GEOMETRY_NOT_CONVERGED, "too few steps"),
    "scc_fail_midopt": (Kind.SCF_NOT_CONVERGED, "in step 1"),
    "scc_fail_opt_relaxed": (Kind.SCF_NOT_CONVERGED, "although the geometry converged"),
    "scc_fail_relaxed": (Kind.SCF_NOT_CONVERGED, "although exit code 0 and whole results"),
    "scc_fail_strict": (Kind.SCF_NOT_CONVERGED, "MaxSCCIterations = 2"),
    "stop_driver_file": (Kind.GEOMETRY_NOT_CONVERGED, "stopped softly"),
    "stop_scc_file": (Kind.SCF_NOT_CONVERGED, "stopped within the SCC"),
    "water2_opt_cg": (None, "an optimiser of old"),
    "water2_opt_lbfgs_new": (None, "an optimised dimer"),
    "water2_opt_rational": (None, "an optimised dimer"),
    "water2_sp": (None, "a single point"),
    "water2_sp_noforces": (Kind.BAD_OUTPUT, "no forces"),
    "water2_sp_nombd": (None, "without dispersion"),
    "water48_sp": (None, "144 atoms"),
    "wrong_maxl_d": (Kind.BAD_OUTPUT, "more orbitals than 3ob-3-1 has"),
}

STALE = ("results.tag", "detailed.out", "band.out", "detailed.xml")
"""What lay in the folder of missing_skf_stale before the run."""


@cache
def recorded() -> tuple[Recorded, ...]:
    """Every recording."""
    return tuple(recording(shared_fixture("dftbplus") / name) for name in sorted(EXPECTED))


@cache
def chosen(name: str) -> Recorded:
    """A recording that the repository holds."""
    return recording(CHOSEN / name)


def recording(folder: Path) -> Recorded:
    """Read one recording."""
    kind, why = EXPECTED[folder.name]
    stale = STALE if folder.name.endswith("_stale") else ()
    ended = Exit(json.loads((folder / "run.json").read_text())["exit"], stale)
    reference = _reference(folder) if kind is None else {}
    forces = reference.get("forces")
    return Recorded(
        name=folder.name,
        job=_job(folder),
        files=_files(folder),
        ended=ended,
        kind=kind,
        why=why,
        energy=_energy_from_table(folder) if kind is None else None,
        forces=None if forces is None else forces.reshape(-1, 3) * FORCE_UNIT,
    )


FORCE_UNIT = DFTBPLUS_HARTREE / DFTBPLUS_BOHR


def level(beta: float | None = 0.83, **fields: object) -> LevelOfTheory:
    """DFTB3 with or without MBD, as the engine demands it."""
    given: dict[str, object] = {
        "engine": "dftbplus",
        "method": "DFTB3",
        "dispersion": "mbd" if beta else "none",
        "mbd_beta": beta,
        "thresholds": {"eigenvalues": "none", "forces": "none"},
    }
    return LevelOfTheory(**(given | fields))


def _files(folder: Path) -> dict[str, str]:
    return {
        RENAMED.get(path.name, path.name): path.read_text()
        for path in sorted(folder.iterdir())
        if path.name not in LEFT_OUT
    }


def _job(folder: Path) -> Job:
    asked = (folder / "dftb_in.hsd").read_text()
    beta, steps = re.search(r"Beta = (\S+)", asked), re.search(r"MaxSteps = (\d+)", asked)
    optimises = re.search(r"Driver = \w", asked)
    stage = Stage(
        name="recorded",
        task=TaskKind.OPTIMISATION if optimises else TaskKind.SINGLE_POINT,
        level=level(float(beta[1]) if beta else None),
        max_force=float(RECORDED_FORCE),
        max_steps=int(steps[1]) if steps else 500,
    )
    charge = re.search(r"Charge = (\S+)", asked)
    fragment = _fragment(folder / "geometry.gen", int(charge[1]) if charge else 0)
    return Job(fragment=fragment, stage=stage, site=Site(digest="0123456789abcdef"))


def _fragment(path: Path, charge: int) -> Fragment:
    lines = [line.split() for line in path.read_text().splitlines()]
    elements = [NUMBERS[re.sub(r"\d", "", word)] for word in lines[1]]
    atoms = lines[2 : 2 + int(lines[0][0])]
    return Fragment(
        numbers=[elements[int(words[1]) - 1] for words in atoms],
        positions=[[float(word) for word in words[2:5]] for words in atoms],
        charge=charge,
    )


def _reference(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Values of ``results.tag`` by name, as a flat list."""
    pieces = re.split(r"^(\w+) *:real:.*\n", (folder / "results.tag").read_text(), flags=re.M)
    pairs = zip(pieces[1::2], pieces[2::2], strict=True)
    return {name: np.array(values.split(), dtype=float) for name, values in pairs}


def _energy_from_table(folder: Path) -> float:
    """Energy, eV, by the table that came with the recordings, else by ``results.tag``."""
    table = folder.parent / "README.tsv"
    if not table.is_file():
        return float(_reference(folder)["mermin_energy"][0]) * DFTBPLUS_HARTREE
    rows = csv.DictReader(table.read_text().splitlines(), delimiter="\t")
    hartree = next(row["energy_hartree"] for row in rows if row["case"] == folder.name)
    return float(hartree) * DFTBPLUS_HARTREE
