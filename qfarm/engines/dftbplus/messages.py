"""Error messages of DFTB+ and what they mean for the attempt."""

import re
from dataclasses import dataclass
from typing import Final

from qfarm_schemas.failure import FailureKind


@dataclass(frozen=True)
class Meaning:
    """Kind of failure and what the user can do."""

    kind: FailureKind
    remedy: str


SCC: Final = Meaning(
    FailureKind.SCF_NOT_CONVERGED,
    "If every rung fails, check charge and multiplicity, and the geometry for stretched bonds or "
    "separated ions.",
)

COLLAPSE: Final = Meaning(
    FailureKind.METHOD_FAILED,
    "The dipoles of MBD couple too strongly: look for atoms that are too close, and check mbd_beta "
    "of the level (a small one couples them more).",
)

RELAX: Final = Meaning(
    FailureKind.GEOMETRY_NOT_CONVERGED,
    "Raise max_steps or max_force in the protocol, or pre-optimise by hand.",
)

INPUT: Final = Meaning(
    FailureKind.BAD_OUTPUT,
    "qfarm wrote an input that this DFTB+ does not understand (it is written for release 25.1): "
    "read the first lines of stdout.txt for its release; with a right one, report the kept "
    "scratch folder.",
)

TOO_OLD: Final = Meaning(
    FailureKind.ENGINE_MISSING,
    "This DFTB+ is too old for qfarm's input: put release 24.1 or newer (25.1 is the one known) "
    "into [engines.dftbplus] of qfarm.toml, then `qfarm retry`.",
)

NO_MBD: Final = Meaning(
    FailureKind.ENGINE_MISSING,
    "This DFTB+ was built without MBD: put one built with libMBD (WITH_MBD) into "
    "[engines.dftbplus] of qfarm.toml, then `qfarm retry`; or plan dispersion = 'none'.",
)

UNKNOWN: Final = Meaning(
    FailureKind.CRASHED, "Look the message up in the DFTB+ manual; read the kept scratch folder."
)

_TABLE: Final = (
    (re.compile(r"SCC is NOT converged"), SCC),
    (
        re.compile(r"SK file .* not found", re.DOTALL),
        Meaning(
            FailureKind.ENGINE_MISSING,
            "Put the whole 3ob-3-1 set into the folder that [engines.dftbplus] parameters names.",
        ),
    ),
    (re.compile(r"negative (eigenvalues|polarizability)"), COLLAPSE),
    (
        re.compile(r"too close|too near", re.IGNORECASE),
        Meaning(FailureKind.BAD_GEOMETRY, "Atoms lie on top of each other: check the geometry."),
    ),
    (re.compile(r"compiled with the mbd library|Invalid dispersion model"), NO_MBD),
    (re.compile(r"Invalid parser version"), TOO_OLD),
    (re.compile(r"dftb_in file|HSD parser error|dftbplusinput|[Pp]arser version"), INPUT),
)


def meaning(message: str, steps: int) -> Meaning:
    """What an error message means.

    Parameters
    ----------
    message : str
        What stands behind ``ERROR!``.
    steps : int
        Geometry steps that were finished before. Where MBD breaks down at a geometry that the
        optimiser made up, another optimiser may avoid it.
    """
    found = next((known for pattern, known in _TABLE if pattern.search(message)), UNKNOWN)
    if found is COLLAPSE and steps > 0:
        return Meaning(FailureKind.GEOMETRY_NOT_CONVERGED, COLLAPSE.remedy)
    return found
