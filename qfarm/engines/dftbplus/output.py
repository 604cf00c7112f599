"""One run of DFTB+ as read, and the result made of it. Pure; never raises."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from qfarm.engines.base import Exit, Job
from qfarm.engines.dftbplus import detailed, gen, stdout, tags
from qfarm.engines.dftbplus.hsd_input import PREFIX
from qfarm.engines.dftbplus.parameters import PARAMETER_SET, orbitals
from qfarm.engines.inprocess import tails
from qfarm_schemas.config import TaskKind
from qfarm_schemas.elements import NUMBERS
from qfarm_schemas.level import Dispersion
from qfarm_schemas.result import Convergence, OptimisationStep, Result, ScfIteration
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE

FloatArray = NDArray[np.float64]

OCCUPIED: Final = 1.0
"""Electrons in a level from which it counts as occupied; a closed shell has 2 or 0."""

KEPT: Final = 300
"""SCC iterations and geometry steps that a failure keeps, the last ones."""

_ATOMIC_FORCE: Final = DFTBPLUS_HARTREE / DFTBPLUS_BOHR

_FROZEN_RATIOS: Final = (
    "MBD forces neglect how the charge ratios answer to a displacement: up to 1.5e-4 Ha/bohr "
    "(8e-3 eV/A) off the gradient of the energy"
)

_IONS: Final = (
    "MBD gives Na+ and other metal ions nearly the polarisability of the neutral atom, because its "
    "ratios compare the on-site population with the nuclear charge"
)

_METALS: Final = frozenset(NUMBERS[symbol] for symbol in ("Na", "Mg", "K", "Ca", "Zn"))


@dataclass(frozen=True)
class Output:
    """Everything that a run left, read.

    Attributes
    ----------
    job, ended
        What was asked for, how the process ended.
    said : Stdout
        Standard output.
    tags : mapping
        ``results.tag``.
    details : Detailed
        ``detailed.out``.
    geometry : Geometry or None
        Geometry that the numbers belong to: of an optimisation the one it left.
    tails : dict
        Last lines of the output streams.
    """

    job: Job
    ended: Exit
    said: stdout.Stdout
    tags: tags.Tags
    details: detailed.Detailed
    geometry: gen.Geometry | None
    tails: Mapping[str, JsonValue]

    @property
    def optimises(self) -> bool:
        """Whether atoms were to move."""
        return self.job.stage.task is TaskKind.OPTIMISATION

    @property
    def disperses(self) -> bool:
        """Whether the level asks for MBD."""
        return self.job.level.dispersion is Dispersion.MBD

    @property
    def n_atoms(self) -> int:
        """Atoms of the fragment."""
        return self.job.fragment.n_atoms

    @property
    def iterations(self) -> tuple[stdout.Iteration, ...]:
        """The last SCC."""
        return self.said.steps[-1].iterations if self.said.steps else ()


@dataclass(frozen=True)
class Numbers:
    """Numbers of a result in atomic units, all of them there and of the right shape."""

    energy: float
    electrons: float
    forces: FloatArray
    charges: FloatArray
    dipole: FloatArray
    eigenvalues: FloatArray
    fillings: FloatArray


def read(job: Job, files: Mapping[str, str], ended: Exit) -> Output:
    """Read the files of a run."""
    return Output(
        job=job,
        ended=ended,
        said=stdout.read(files.get(stdout.NAME, "")),
        tags=tags.read(files.get(tags.NAME, "")),
        details=detailed.read(files.get(detailed.NAME, "")),
        geometry=_geometry(job, files),
        tails=tails(files),
    )


def numbers(output: Output) -> Numbers | None:
    """Numbers of ``results.tag``; None when one is missing."""
    found = _values(output)
    return None if missing(output) else Numbers(**found)  # type: ignore[arg-type]  # none is None


def missing(output: Output) -> tuple[str, ...]:
    """Names of the numbers that ``results.tag`` lacks, or has in another shape."""
    return tuple(name for name, value in _values(output).items() if value is None)


def result(output: Output) -> Result | None:
    """The result without its checks; None when numbers are missing."""
    known, geometry = numbers(output), output.geometry
    dispersion = output.details.energies.get(detailed.DISPERSION)
    if known is None or geometry is None or (output.disperses and dispersion is None):
        return None
    return Result(
        numbers=geometry.numbers,
        positions=geometry.positions,
        energy=known.energy * DFTBPLUS_HARTREE,
        energy_parts=_parts(known.energy, dispersion),
        forces=known.forces * _ATOMIC_FORCE,
        dipole=_about_nuclear_charge(known, geometry),
        charges={"mulliken": known.charges},
        homo=_highest(known),
        lumo=_lowest(known),
        convergence=_convergence(output),
        scf_trace=scf_trace(output),
        optimisation_trace=_to_the_end(optimisation_trace(output), known),
        geometry_converged=output.details.geometry_converged if output.optimises else None,
        notes=_notes(output),
        engine_version=version(output),
    )


def version(output: Output) -> str:
    """Release of the program, and which Slater-Koster files it read."""
    files = f"{PARAMETER_SET} {output.job.site.digest[:12]}".strip()
    return f"DFTB+ {output.said.release} ({files})" if output.said.release else ""


def evidence(output: Output) -> dict[str, JsonValue]:
    """What a failure shows besides its checks."""
    iterations = [i.model_dump(exclude_none=True) for i in scf_trace(output)[-KEPT:]]
    steps = [step.model_dump() for step in optimisation_trace(output)[-KEPT:]]
    traces: dict[str, JsonValue] = {
        "scf_trace": list(iterations),
        "optimisation_trace": list(steps),
    }
    shown = {name: trace for name, trace in traces.items() if trace}
    return {"exit code": output.ended.code, **output.tails, **shown}


def scf_trace(output: Output) -> tuple[ScfIteration, ...]:
    """Iterations of the last SCC; repulsion and dispersion are added to the electronic energy."""
    known = output.details.energies
    rest = known.get(detailed.TOTAL, 0.0) - known.get(detailed.ELECTRONIC, 0.0)
    constant = rest if detailed.TOTAL in known and detailed.ELECTRONIC in known else 0.0
    late = (None, *(row.change for row in output.iterations[2:]), None)  # see `stdout`
    return tuple(
        ScfIteration(
            energy=(iteration.energy + constant) * DFTBPLUS_HARTREE,
            energy_change=None if change is None else change * DFTBPLUS_HARTREE,
            density_change=iteration.error,
        )
        for iteration, change in zip(output.iterations, late, strict=False)
    )


def optimisation_trace(output: Output) -> tuple[OptimisationStep, ...]:
    """Energy and an upper bound of the largest force of each step; empty for a single point."""
    if not output.optimises:
        return ()
    return tuple(
        OptimisationStep(energy=step.energy * DFTBPLUS_HARTREE, max_force=step.max_force)
        for step in output.said.steps
        if step.energy is not None and step.max_force is not None
    )


def dipole_of_charges(charges: FloatArray, positions: FloatArray) -> FloatArray:
    """Dipole moment of point charges about the origin, e bohr, with DFTB+'s bohr.

    Parameters
    ----------
    charges : (n_atoms,) float
        e.
    positions : (n_atoms, 3) float
        A.
    """
    moment: FloatArray = charges @ positions / DFTBPLUS_BOHR
    return moment


def _values(output: Output) -> dict[str, float | FloatArray | None]:
    found, n_atoms = output.tags, output.n_atoms
    n_orbitals = orbitals(output.job.fragment.numbers)
    dipole = tags.vectors(found, "dipole_moments", 1)
    return {
        "energy": tags.scalar(found, "mermin_energy"),
        "electrons": tags.scalar(found, "number_of_electrons"),
        "forces": tags.vectors(found, "forces", n_atoms),
        "charges": tags.scalars(found, "gross_atomic_charges", n_atoms),
        "dipole": None if dipole is None else dipole[0],
        "eigenvalues": tags.scalars(found, "eigenvalues", n_orbitals),
        "fillings": tags.scalars(found, "filling", n_orbitals),
    }


def _geometry(job: Job, files: Mapping[str, str]) -> gen.Geometry | None:
    if job.stage.task is TaskKind.OPTIMISATION:
        return gen.read(files.get(f"{PREFIX}.gen", ""))
    return gen.Geometry(job.fragment.numbers, job.fragment.positions)


def _parts(energy: float, dispersion: float | None) -> dict[str, float]:
    if dispersion is None:
        return {"DFTB3": energy * DFTBPLUS_HARTREE}
    return {
        "DFTB3": (energy - dispersion) * DFTBPLUS_HARTREE,
        "MBD": dispersion * DFTBPLUS_HARTREE,
    }


def _about_nuclear_charge(known: Numbers, geometry: gen.Geometry) -> FloatArray:
    """Dipole moment, e*A, moved from the origin to the centre of nuclear charge."""
    centre = geometry.numbers @ geometry.positions / geometry.numbers.sum()
    moved: FloatArray = known.dipole * DFTBPLUS_BOHR - known.charges.sum() * centre
    return moved


def _highest(known: Numbers) -> float | None:
    occupied = known.eigenvalues[known.fillings > OCCUPIED]
    return float(occupied.max()) * DFTBPLUS_HARTREE if occupied.size else None


def _lowest(known: Numbers) -> float | None:
    empty = known.eigenvalues[known.fillings <= OCCUPIED]
    return float(empty.min()) * DFTBPLUS_HARTREE if empty.size else None


def _convergence(output: Output) -> Convergence:
    iterations = output.iterations
    change = stdout.energy_change(iterations)
    return Convergence(
        energy=None if change is None else change * DFTBPLUS_HARTREE,
        density=abs(iterations[-1].error) if iterations else None,
    )


def _to_the_end(
    trace: tuple[OptimisationStep, ...], known: Numbers
) -> tuple[OptimisationStep, ...]:
    """The last step with its largest force itself in place of the bound."""
    if not trace:
        return ()
    largest = float(np.linalg.norm(known.forces, axis=1).max()) * _ATOMIC_FORCE
    return (*trace[:-1], trace[-1].model_copy(update={"max_force": largest}))


def _notes(output: Output) -> tuple[str, ...]:
    if not output.disperses:
        return ()
    metals = _METALS & set(output.job.fragment.numbers.tolist())
    return (_FROZEN_RATIOS, _IONS) if metals else (_FROZEN_RATIOS,)
