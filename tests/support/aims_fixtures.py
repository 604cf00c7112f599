"""Recorded outputs of FHI-aims as jobs of qfarm, with what must come out of each, and why."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from qfarm.engines.aims.functionals import XC
from qfarm.engines.base import Exit, Job
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import Dispersion, LevelOfTheory
from support.needs import shared_fixture
from support.recorded import Recorded

WATERS = "pbe0_tight_hirshfeld_forces_w09_0055"
"""(H2O)9, PBE0 tight: the production case but for dispersion and dipole."""

H4 = "mbd_rsscs_h4_pbe_light"
"""Two H2, PBE with MBD@rsSCS."""

CRASHED, BAD = FailureKind.CRASHED, FailureKind.BAD_OUTPUT
SCF, NO_GAP = FailureKind.SCF_NOT_CONVERGED, FailureKind.NO_GAP

_STUB = "converged, but ends in the text of an MPI stub without 'Have a nice day.'"
_CUT = "cut off: no end, no error message"

EXPECTED_KIND: dict[str, tuple[FailureKind, str]] = {
    WATERS: (BAD, "complete, but `output dipole` was not asked for"),
    H4: (BAD, "complete, but neither forces nor dipole were asked for"),
    "pbe0_o2_triplet_dipole": (CRASHED, _STUB),
    "pbe0_o2_spinnone_dipole": (CRASHED, _STUB),
    "charged_h3o_relax": (CRASHED, f"{_STUB}; a relaxation besides"),
    "atom_F_hf_spin": (CRASHED, _STUB),
    "killed_slurm_cancel_ABECAL": (FailureKind.WALLTIME, "the scheduler cancelled the job"),
    "killed_slurm_cancel_ANTCEN": (FailureKind.WALLTIME, "the scheduler cancelled the job"),
    "truncated_midscf_pbc_ts_190522": (CRASHED, _CUT),
    "scf_not_converged_iterlimit0_ts_190522": (NO_GAP, "not converged, gap 0.06 eV"),
    "excerpt_scf_not_converged_abort_2026": (SCF, "ends in `*** scf_solver: ...`"),
    "derived_scf_not_converged_newfmt_pbe0_w09": (SCF, "ends in `*** scf_solver: ...`"),
    "derived_truncated_midforces_pbe0_w09_0055": (CRASHED, _CUT),
    "derived_truncated_midscf_pbe0_w09_0055": (CRASHED, _CUT),
    "hirshfeld_forces_mgo_pbe_231208": (BAD, "a crystal: no fragment"),
    "ts_vdw_glycine_forces_150620": (BAD, "dispersion is TS, which no level asks for"),
    "hse06_relax_h2o_210226": (BAD, "a relaxation: its numbers belong to its last geometry"),
    "dimer24_forces_pbe_200511": (BAD, "neither Hirshfeld partition nor dipole"),
    "socket_h2o_220309": (BAD, "nine geometries by a socket"),
}

_THRESHOLDS = {
    "energy": "sc_accuracy_etot",
    "eigenvalues": "sc_accuracy_eev",
    "density": "sc_accuracy_rho",
    "forces": "sc_accuracy_forces",
}

_ECHO = re.compile(
    r"Parsing (control|geometry)\.in \(first pass.*?-{20,}\n(.*?)(?:-{20,}\s+Completed first|\Z)",
    re.DOTALL,
)


def folder(name: str) -> Path:
    """Folder of one recording."""
    return shared_fixture("aims") / name


@cache
def expected() -> dict[str, Any]:
    """What other code than qfarm's read from each output."""
    loaded: dict[str, Any] = json.loads((shared_fixture("aims") / "EXPECTED.json").read_text())
    return loaded


@cache
def text(name: str) -> str:
    """The output."""
    tail = folder(name) / "aims_tail.out"
    return (tail if tail.exists() else folder(name) / "aims.out").read_text()


def recorded() -> tuple[Recorded, ...]:
    """All recordings, each with the verdict that must come out."""
    return tuple(map(recording, EXPECTED_KIND))


@cache
def recording(name: str) -> Recorded:
    """One recording; every program ended with exit code 0, so that the text alone must tell."""
    kind, why = EXPECTED_KIND[name]
    values = expected()[name]
    forces = values.get("forces")
    return Recorded(
        name=name,
        job=job(name),
        files=_files(name),
        ended=Exit(0),
        kind=kind,
        why=why,
        energy=values["E_uncorr"],
        forces=np.array(forces) if forces else None,
    )


@cache
def job(name: str) -> Job:
    """What the recorded input asked for; what the level cannot say is left out."""
    control = statements(_input(name, "control"))
    return Job(fragment=_fragment(name, control), stage=stage(_level(control)))


def stage(level: LevelOfTheory) -> Stage:
    """A single point at `level`."""
    return Stage(name="single_point", task=TaskKind.SINGLE_POINT, level=level)


def statements(lines: str) -> dict[str, list[str]]:
    """Keyword -> values of the last line that has it."""
    words = [line.partition("#")[0].split() for line in lines.splitlines()]
    return {line[0]: line[1:] for line in words if line}


def cut_points(lines: Sequence[str], every: int = 1) -> Iterator[str]:
    """The output cut before its farewell: after every `every`-th line, and around every marker.

    A marker is a line that says something of how far the run came, or that holds a number of the
    result.
    """
    last = max(i for i, line in enumerate(lines) if line.strip() == "Have a nice day.")
    near = [i for i, line in enumerate(lines[: last + 1]) if _MARKER.search(line)]
    places = {i + step for i in near for step in (0, 1)} | set(range(0, last, every)) | {last}
    return ("\n".join(lines[:place]) + "\n" for place in sorted(places) if place <= last)


_MARKER = re.compile(
    r"Invoking|first pass|cycle converged|Total energy unc|Total atomic forces|"
    r"Hirshfeld analysis|Libmbd: |dipole moment \[|Leaving FHI|Computational steps"
)


def _files(name: str) -> dict[str, str]:
    inputs = ("control.in", "geometry.in", "slurm.out")
    given = {
        other: (folder(name) / other).read_text()
        for other in inputs
        if (folder(name) / other).exists()
    }
    return {"stdout.txt": text(name), **given}


def _input(name: str, which: str) -> str:
    """An input file, else the program's own repetition of it, else nothing."""
    path = folder(name) / f"{which}.in"
    if path.exists():
        return path.read_text()
    found = {match[1]: match[2] for match in _ECHO.finditer(text(name))}
    return found.get(which, "")


def _fragment(name: str, control: dict[str, list[str]]) -> Fragment:
    """Atoms of geometry.in; H2 stands in for the excerpt, which has none."""
    words = [line.split() for line in _input(name, "geometry").splitlines()]
    atoms = [line for line in words if line and line[0] == "atom"]
    atoms = atoms or [["atom", "0", "0", "0", "H"], ["atom", "0", "0", "0.74", "H"]]
    moment = round(float(control.get("default_initial_moment", ["0"])[0])) * len(atoms)
    numbers = [atomic_numbers[line[4]] for line in atoms]
    charge = round(float(control.get("charge", ["0"])[0]))
    open_shell = control.get("spin", ["none"])[0] == "collinear"
    unpaired = min(moment, 2) - (min(moment, 2) + sum(numbers) - charge) % 2
    return Fragment(
        numbers=numbers,
        positions=[[float(x) for x in line[1:4]] for line in atoms],
        charge=charge,
        multiplicity=unpaired + 1 if open_shell else 1,
    )


def _level(control: dict[str, list[str]]) -> LevelOfTheory:
    methods = {keyword: method for method, keyword in XC.items()}
    method = methods.get(" ".join(control.get("xc", ["pbe"])), "PBE")
    mbd = "many_body_dispersion" in control
    return LevelOfTheory(
        engine="aims",
        method=method,
        dispersion=Dispersion.MBD if mbd else Dispersion.NONE,
        mbd_beta=0.83 if mbd else None,
        basis="tight",
        thresholds={
            field: control[keyword][0] if keyword in control else None
            for field, keyword in _THRESHOLDS.items()
        },
    )


DIPOLE = "  | Total dipole moment [eAng]          :    0.25E+00   -0.50E+00    0.75E+00"
"""Grafted where `output dipole` was not asked for; the numbers are made up."""


def completed() -> tuple[Recorded, ...]:
    """Two recordings with what they lack grafted in, so that they must be accepted."""
    zero = [
        f"  |    {atom}          0.0E+00          0.0E+00          0.0E+00" for atom in (1, 2, 3, 4)
    ]
    forces = ["  Total atomic forces (unitary forces cleaned) [eV/Ang]:", *zero]
    return (
        _completed(WATERS, []),
        _completed(H4, forces),
    )


def _completed(name: str, forces: Sequence[str]) -> Recorded:
    before = recording(name)
    compact, free = "  Energy and forces in a compact form:", "  | Electronic free energy        :"
    head, _, tail = text(name).partition(compact)
    place = tail.index("\n", tail.index(free)) + 1
    grafted = "".join(f"{line}\n" for line in forces)
    whole = f"{head}{DIPOLE}\n{compact}{tail[:place]}{grafted}{tail[place:]}"
    return Recorded(
        name=f"{name} with dipole{' and forces' if forces else ''}",
        job=before.job,
        files={**before.files, "stdout.txt": whole},
        ended=before.ended,
        kind=None,
        why="derived: what was not asked for is grafted in",
        energy=before.energy,
        forces=before.forces,
    )
