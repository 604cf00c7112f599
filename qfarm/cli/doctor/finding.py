"""Finding: one line of what the doctor saw, and the cure."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended; the value is what the table says."""

    OK = "ok"
    NOT_SET_UP = "not set up"  # and nothing needs it
    UNKNOWN = "unknown"
    WARNING = "warning"
    FAULT = "FAULT"


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes
    ----------
    check : str
        What was looked at.
    found : str
        What is there, a few words.
    verdict : Verdict
        Whether that will do.
    what : str
        What is missing or wrong; empty when all is well.
    cure : str
        What to do: the exact command, or the lines for ``qfarm.toml``.
    """

    check: str
    found: str
    verdict: Verdict = Verdict.OK
    what: str = ""
    cure: str = ""
