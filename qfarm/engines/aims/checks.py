"""Checks: lines of a verdict on an output of FHI-aims, and what to do about a missed one. Pure."""

from typing import Final

from qfarm_schemas.check import Check
from qfarm_schemas.failure import FailureKind

SMALL_GAP: Final = 0.1
"""eV: a molecule whose gap is below this has the wrong charge, spin or geometry; no convergence aid
cures that."""

BAD: Final = FailureKind.BAD_OUTPUT

OTHER: Final = (
    "The output belongs to another calculation than the job: look at control.in, geometry.in and "
    "stdout.txt in the kept scratch folder, and at the launch line (`command` of the engine)."
)

CRASH: Final = (
    "Read the last lines of the output and of the error output; if it happens on one host only, "
    "mend that host."
)

SPIN: Final = (
    "The gap points to a wrong charge or multiplicity, separated ions or a stretched bond: correct "
    "the fragment and submit it again. Mixing does not cure it."
)

STATE: Final = "Check charge and multiplicity, and the geometry for stretched or very short bonds."


def check(
    name: str,
    passed: bool,
    required: str,
    found: str,
    kind: FailureKind = BAD,
    remedy: str = OTHER,
) -> Check:
    """Make one check; what is not said otherwise means an output of another calculation."""
    return Check(
        name=name, required=required, found=found, passed=bool(passed), kind=kind, remedy=remedy
    )
