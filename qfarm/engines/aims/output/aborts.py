"""Aborts: what the messages mean by which FHI-aims stops itself. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qfarm.engines.aims.output.run import Abort
from qfarm_schemas.failure import FailureKind


@dataclass(frozen=True)
class Meaning:
    """What a message means, and what the user can do."""

    kind: FailureKind
    remedy: str


ILL_CONDITIONED: Final = Meaning(
    FailureKind.ILL_CONDITIONED,
    "The basis is nearly linearly dependent: look for atoms that are too close; else raise "
    "basis_threshold (recorded as a deviation of the method).",
)

_UNKNOWN: Final = Meaning(
    FailureKind.CRASHED,
    "Read the last lines of the output: FHI-aims says there why it stopped. If it happens on one "
    "host only, mend that host.",
)

_MEANINGS: Final[Mapping[str, Meaning]] = {
    r"scf cycle not converged": Meaning(
        FailureKind.SCF_NOT_CONVERGED,
        "Check charge and multiplicity, and the geometry for stretched or very short bonds.",
    ),
    r"ill-conditioned|overlap matrix is not positive definite": ILL_CONDITIONED,
    r"close_encounters|too close|atoms .*identical position": Meaning(
        FailureKind.BAD_GEOMETRY, "Two atoms are too close: check the geometry and its unit."
    ),
    r"\ballocat|out of memory|insufficient memory|not enough memory": Meaning(
        FailureKind.OUT_OF_MEMORY,
        "Give the calculation more memory: fewer ranks a node, more nodes.",
    ),
    r"read_species|species .*(missing|not (found|defined))|no species": Meaning(
        FailureKind.BAD_OUTPUT,
        "The species of an element is missing from control.in or unreadable: check the folder "
        "`species` of the site for this element and tier.",
    ),
    r"read_control|read_geo|(unknown|unrecogni[sz]ed) keyword|syntax error|control\.in": Meaning(
        FailureKind.BAD_OUTPUT,
        "This version of FHI-aims refuses a line of the input: compare control.in in the kept "
        "scratch folder with the last lines of the output, and tell the authors of qfarm.",
    ),
}
"""Pattern in ``routine: message`` (lower case) -> meaning; the first that fits."""

_ANYWHERE: Final = (
    "Ill-conditioned overlap matrix detected",
    "overlap matrix is not positive definite",
)


def meaning(abort: Abort) -> Meaning:
    """What an abort means."""
    said = str(abort).lower()
    known = (of for pattern, of in _MEANINGS.items() if re.search(pattern, said))
    return next(known, _UNKNOWN)


def ill_conditioned(*texts: str) -> bool:
    """Whether the run complained of the overlap matrix; only of weight when it then failed.

    Old versions say it to the error output, one line a rank.
    """
    return any(words in text for text in texts for words in _ANYWHERE)
