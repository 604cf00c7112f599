"""Parse: from what FHI-aims left to a result, or to the failure that the output means. Pure."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from pydantic import JsonValue

from qfarm.engines.aims import judge
from qfarm.engines.aims.output import Output, properties, read, run, scf
from qfarm.engines.base import Exit, Job
from qfarm.engines.endings import ending
from qfarm.engines.inprocess import tails
from qfarm.verdict import refused
from qfarm_schemas.attempt import Failure
from qfarm_schemas.check import Check
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.result import Result
from qfarm_schemas.units import AIMS_HARTREE

KEPT: Final = 300
"""SCF iterations that a failure keeps, the last ones."""

LAST: Final = 200
"""Lines of the output in which the system may say why it ended the program."""

_OF_SCF: Final = (FailureKind.SCF_NOT_CONVERGED, FailureKind.NO_GAP)

_READY: Final = (
    "The next rung starts from this density at the level's own functional and thresholds."
)


def parse(job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
    """Read the output; never raises on any text.

    Parameters
    ----------
    job : Job
        What was asked for.
    files : mapping
        Name -> text of what the folder holds; the output is ``stdout.txt``.
    ended : Exit
        How the process ended.
    """
    output = read(files.get(judge.OUTPUT_NAME, ""))
    started = judge.of_run(job, output, files, ended)
    if not _passed(started):
        return _broken(job, output, started, files, ended)
    asked = started + judge.of_task(job, output, files)
    if job.scf.get("start_up"):
        return _start_up(output, asked, files)
    checks = asked + judge.of_numbers(job, output)
    return _result(job, output, checks) or _refused(output, checks, files)


def _passed(checks: tuple[Check, ...]) -> bool:
    return all(check.passed for check in checks)


def _broken(
    job: Job, output: Output, checks: tuple[Check, ...], files: Mapping[str, str], ended: Exit
) -> Failure:
    """A run that did not end in order: what ended it, where that is known."""
    first = next(check for check in checks if not check.passed)
    known = ending(_ends(files), ended) if first.kind is FailureKind.CRASHED else None
    if known is None:
        return _refused(output, checks, files)
    evidence = {**_evidence(output, files), **known.evidence}
    return known.model_copy(update={"evidence": evidence, "checks": checks})


def _ends(files: Mapping[str, str]) -> dict[str, str]:
    """The files, of the output the last lines alone: what the system says stands there."""
    if judge.OUTPUT_NAME not in files:
        return dict(files)
    lines = files[judge.OUTPUT_NAME].splitlines()
    return {**files, judge.OUTPUT_NAME: "\n".join(lines[-LAST:])}


def _start_up(output: Output, checks: tuple[Check, ...], files: Mapping[str, str]) -> Failure:
    if not _passed(checks):
        return _refused(output, checks, files)
    return Failure(
        kind=FailureKind.START_UP,
        cause=f"no failure: the density of this start-up converged in {len(output.trace)} "
        "iterations and is ready for the next rung",
        evidence=_evidence(output, {}),
        remedy=_READY,
        checks=checks,
    )


def _refused(output: Output, checks: tuple[Check, ...], files: Mapping[str, str]) -> Failure:
    """Failure of the first check missed, in one sentence."""
    failure = refused(checks, _evidence(output, files))
    missed = tuple(check for check in checks if not check.passed)
    scf_said = [check.found for check in missed if check.name == "SCF"]
    if failure.kind in _OF_SCF and scf_said:
        return failure.model_copy(update={"cause": f"the SCF was {scf_said[0]}"})
    return failure.model_copy(update={"cause": _cause(missed)})


def _cause(missed: tuple[Check, ...]) -> str:
    first, others = missed[0], ", ".join(check.name for check in missed[1:])
    cause = f"{first.name}: required {first.required}, found {first.found}"
    return cause + (f"; missed as well: {others}" if others else "")


def _evidence(output: Output, files: Mapping[str, str]) -> dict[str, JsonValue]:
    kept = [step.model_dump(exclude_none=True) for step in scf.record(output.trace)[-KEPT:]]
    return {
        "iterations": len(output.trace),
        "scf_trace": list(kept),
        "HOMO-LUMO gap, eV": output.gap,
        "tracked memory of a rank, MB": run.memory_mb(output.page),
        **tails(files),
    }


def _result(job: Job, output: Output, checks: tuple[Check, ...]) -> Result | None:
    """The numbers; None when one is missing, which a check has said."""
    fragment = job.fragment
    rows = {len(output.forces), len(output.hirshfeld)}
    if output.energy is None or output.dipole is None or rows != {fragment.n_atoms}:
        return None
    homo, lumo = output.frontier
    return Result(
        numbers=fragment.numbers,
        positions=fragment.positions,
        energy=output.energy,
        energy_parts=_parts(job, output.energy, output.mbd_energy),
        forces=output.forces,
        dipole=properties.about_nuclei(
            output.dipole, fragment.charge, fragment.numbers, fragment.positions
        ),
        charges={"hirshfeld": [atom.charge for atom in output.hirshfeld]},
        hirshfeld_ratios=np.array([atom.volume / atom.free for atom in output.hirshfeld]),
        homo=homo,
        lumo=lumo,
        convergence=scf.convergence(output.trace),
        scf_trace=scf.record(output.trace),
        notes=_notes(output),
        engine_version=_version(job, output),
        checks=checks,
    )


def _parts(job: Job, energy: float, mbd: float | None) -> dict[str, float]:
    """Energy by part, eV; libMBD's Hartree is converted as FHI-aims does to add it."""
    if mbd is None:
        return {job.level.method: energy}
    dispersion = mbd * AIMS_HARTREE
    return {job.level.method: energy - dispersion, "MBD": dispersion}


def _notes(output: Output) -> tuple[str, ...]:
    net = properties.net_force(output.page)
    size = "" if net is None else f" (net force removed: {float(np.linalg.norm(net)):.1e} eV/A)"
    return (f"FHI-aims removed net force and torque from the forces{size}",)


def _version(job: Job, output: Output) -> str:
    species = f" (species {job.site.digest[:12]})" if job.site.digest else ""
    return f"FHI-aims {output.version}{species}"
