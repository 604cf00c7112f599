"""Check: one line of a verdict."""

from qfarm_schemas.base import Model
from qfarm_schemas.failure import FailureKind


class Check(Model):
    """One line of a verdict: what was required, what was found.

    Attributes
    ----------
    name, required, found : str
        In words, measured values with their units.
    passed : bool
        Whether it was met.
    kind : FailureKind or None
        What it means when it was not; None: as the verdict's own table says.
    remedy : str
        What the user can do then.
    """

    name: str
    required: str
    found: str
    passed: bool
    kind: FailureKind | None = None
    remedy: str = ""
