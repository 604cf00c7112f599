"""What went wrong in words a chemist can act on, with the measured evidence."""

import numpy as np
from pydantic import JsonValue

from qfarm.engines.base import Job
from qfarm.engines.hirshfeld import FreeAtomError
from qfarm.engines.mbd import MbdCollapse
from qfarm.engines.pyscf.properties import spin_squared
from qfarm.engines.pyscf.scf import Solution, frontier
from qfarm.verdict import CLOSEST
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.units import HARTREE

CLOSE_LEVELS = 2.0
"""eV: a gap below this in a PBE0 calculation points to a wrong charge, spin or geometry."""


def not_converged(solution: Solution) -> Failure:
    """The SCF used up its iterations."""
    cycles = len(solution.trace.iterations)
    gap = _gap(solution)
    return Failure(
        kind=FailureKind.SCF_NOT_CONVERGED,
        cause=f"the SCF did not converge in {cycles} iterations{_gap_words(gap)}",
        evidence=_evidence(solution),
        remedy=_remedy(gap),
    )


def unstable(solution: Solution) -> Failure:
    """The SCF converged to a saddle point in orbital space."""
    return Failure(
        kind=FailureKind.UNSTABLE_SOLUTION,
        cause="the SCF converged to an internally unstable solution: a lower one exists"
        + _gap_words(_gap(solution)),
        evidence=_evidence(solution),
        remedy="Check the multiplicity, a stretched bond or separated ions, a biradical: a single "
        "closed-shell determinant may be the wrong state. Submit it with another multiplicity or "
        "geometry.",
    )


def collapsed(closest: float) -> Failure:
    """Two atoms lie on one another, where no SCF is worth starting."""
    return Failure(
        kind=FailureKind.BAD_GEOMETRY,
        cause=f"two atoms are {closest:.3f} A apart, less than {CLOSEST} A",
        evidence={"closest atoms, A": closest},
        remedy="Check the geometry and its unit of length.",
    )


def matrices_too_large(n_basis: int) -> Failure:
    """Matrices were asked for that no worker could read."""
    return Failure(
        kind=FailureKind.METHOD_FAILED,
        cause=f"the matrices of {n_basis} basis functions are too large to be handed over",
        evidence={"basis functions": n_basis},
        remedy="Ask for fewer matrices (option `matrices`), for a smaller basis, or for none with "
        "fragments of this size.",
    )


def broken_down(error: Exception) -> Failure:
    """The SCF gave NaN, or a matrix could not be diagonalised."""
    return Failure(
        kind=FailureKind.SCF_NOT_CONVERGED,
        cause=f"the SCF broke down: {error}",
        evidence={"error": str(error)},
        remedy="Look for atoms that are too close, then check charge and multiplicity.",
    )


def no_free_atom(error: FreeAtomError) -> Failure:
    """No reference for the Hirshfeld partition."""
    return Failure(
        kind=FailureKind.METHOD_FAILED,
        cause=f"Hirshfeld partition: {error}",
        evidence={"error": str(error)},
        remedy="The element needs a tabulated free atom (tools/make_free_atoms.py).",
    )


def mbd_collapse(error: MbdCollapse) -> Failure:
    """MBD has no solution for these atoms."""
    return Failure(
        kind=FailureKind.METHOD_FAILED,
        cause=str(error),
        evidence={"stage": error.stage, "lowest": error.lowest},
        remedy="Atoms that are too close or very polarizable (bare metal atoms, anions) break MBD: "
        "check the geometry, or use a level without MBD.",
    )


def out_of_memory(error: MemoryError, job: Job) -> Failure:
    """An array did not fit."""
    return Failure(
        kind=FailureKind.OUT_OF_MEMORY,
        cause=f"out of memory: {error}",
        evidence={"memory_mb": job.memory_mb},
        remedy="Raise memory_mb of stage and partition.",
    )


def _evidence(solution: Solution) -> dict[str, JsonValue]:
    iterations = [step.model_dump(exclude_none=True) for step in solution.trace.iterations]
    evidence: dict[str, JsonValue] = {"cycles": len(iterations), "scf_trace": list(iterations)}
    evidence["last"] = iterations[-1] if iterations else None
    evidence["HOMO-LUMO gap, eV"] = _gap(solution)
    if solution.mode is not None:
        evidence["lowest orbital Hessian eigenvalue, Ha"] = solution.mode.eigenvalue
    evidence["<S^2>"] = spin_squared(solution.mean_field)
    return evidence


def _gap(solution: Solution) -> float | None:
    solver = solution.mean_field
    homo, lumo = frontier(np.asarray(solver.mo_energy), np.asarray(solver.mo_occ))
    return None if homo is None or lumo is None else (lumo - homo) * HARTREE


def _gap_words(gap: float | None) -> str:
    return "" if gap is None else f" (HOMO-LUMO gap {gap:.2f} eV)"


def _remedy(gap: float | None) -> str:
    if gap is not None and gap < CLOSE_LEVELS:
        return (
            "The small gap points to a wrong charge or multiplicity, a stretched bond or separated "
            "ions: correct the fragment and submit it again."
        )
    return "Check charge and multiplicity, and the geometry for stretched or very short bonds."
