"""What went wrong in words a chemist can act on, with the measured evidence. Pure."""

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.result import OptimisationStep, ScfIteration

KEPT: Final = 300
"""SCC iterations that a failure keeps, the last ones."""

NOT_CONVERGED: Final = "SCF not converged"
TOO_CLOSE: Final = "Too close interatomic distances"
"""How tblite's messages begin, by which its failures are told apart."""

_STATE: Final = (
    "Check charge and multiplicity, and the geometry for stretched bonds or separated ions."
)


def of_tblite(message: str, trace: Sequence[ScfIteration], kelvin: float) -> Failure:
    """Failure that an error message of tblite means.

    Parameters
    ----------
    message : str
        What tblite said.
    trace : sequence of ScfIteration
        Iterations so far.
    kelvin : float
        Electronic temperature at which it happened, K.
    """
    if message.startswith(NOT_CONVERGED):
        return not_converged(message, trace, kelvin)
    if message.startswith(TOO_CLOSE):
        return Failure(
            kind=FailureKind.BAD_GEOMETRY,
            cause="atoms lie on top of each other",
            evidence={"message": message},
            remedy="Check the geometry.",
        )
    return Failure(
        kind=FailureKind.METHOD_FAILED,
        cause=f"tblite refused: {message}",
        evidence={"message": message, **scc_evidence(trace)},
        remedy=_STATE,
    )


def not_converged(message: str, trace: Sequence[ScfIteration], kelvin: float) -> Failure:
    """The charges did not become self-consistent."""
    return Failure(
        kind=FailureKind.SCF_NOT_CONVERGED,
        cause=f"the SCC did not converge in {len(trace)} iterations, the last ones at "
        f"{kelvin:.0f} K electronic temperature",
        evidence={"message": message, "temperature, K": kelvin, **scc_evidence(trace)},
        remedy=_STATE,
    )


def not_finite(trace: Sequence[ScfIteration]) -> Failure:
    """Energy or forces came back as NaN or infinity, without an error."""
    return Failure(
        kind=FailureKind.METHOD_FAILED,
        cause="energy or forces are not finite numbers",
        evidence=scc_evidence(trace),
        remedy="Look for atoms that are too close.",
    )


def lost_electrons(fragment: Fragment, total: float) -> Failure:
    """The minimal basis cannot hold so many unpaired electrons, and tblite dropped some."""
    return Failure(
        kind=FailureKind.METHOD_FAILED,
        cause=f"the charges add up to {total:+.3f} e, not {fragment.charge:+d} e: the minimal "
        f"basis has no room for multiplicity {fragment.multiplicity}",
        evidence={"sum of charges, e": total, "charge, e": fragment.charge},
        remedy="Check the multiplicity.",
    )


def not_relaxed(
    trace: Sequence[OptimisationStep], required: float, optimiser: str, error: str = ""
) -> Failure:
    """The forces did not fall below the limit.

    Parameters
    ----------
    trace : sequence of OptimisationStep
        Every step, at least one.
    required : float
        Largest force asked for, eV/A.
    optimiser : str
        Who tried.
    error : str
        What the optimiser said when it gave up before the last step.
    """
    said = f" ({error})" if error else ""
    return Failure(
        kind=FailureKind.GEOMETRY_NOT_CONVERGED,
        cause=f"the geometry did not converge in {len(trace) - 1} steps of {optimiser}{said}: "
        f"largest force {trace[-1].max_force:.4f} eV/A, required {required:g} eV/A",
        evidence={"steps": len(trace) - 1, **step_evidence(trace)},
        remedy="Raise max_steps of the stage, check the submitted geometry, or optimise by hand.",
    )


def during_optimisation(failure: Failure, trace: Sequence[OptimisationStep]) -> Failure:
    """Failure at a later geometry: says where, keeps the way to it.

    What is not a matter of SCC convergence happened at a geometry the optimiser made up, so
    another optimiser may avoid it.
    """
    if not trace:
        return failure
    of_scc = failure.kind is FailureKind.SCF_NOT_CONVERGED
    return failure.model_copy(
        update={
            "kind": failure.kind if of_scc else FailureKind.GEOMETRY_NOT_CONVERGED,
            "cause": f"{failure.cause} (after geometry step {len(trace) - 1})",
            "evidence": {**failure.evidence, "steps": len(trace) - 1, **step_evidence(trace)},
        }
    )


def scc_evidence(trace: Sequence[ScfIteration]) -> dict[str, JsonValue]:
    """The last `KEPT` iterations as plain data."""
    kept = [iteration.model_dump(exclude_none=True) for iteration in trace[-KEPT:]]
    return {"iterations": len(trace), "scf_trace": list(kept)}


def step_evidence(trace: Sequence[OptimisationStep]) -> dict[str, JsonValue]:
    """Energy (to 1e-6 eV) and largest force (to 1e-6 eV/A) of every step as plain data."""
    steps: list[JsonValue] = [
        {"energy": round(step.energy, 6), "max_force": round(step.max_force, 6)} for step in trace
    ]
    return {"optimisation_trace": steps}
