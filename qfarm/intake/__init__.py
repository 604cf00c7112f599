"""Intake: from structure files to plans, or to a list of everything that is wrong with them."""

from qfarm.intake.batch import Batch, Fate, Spool, open_spool, read, size_of
from qfarm.intake.examine import Examiner
from qfarm.intake.problem import Flaw, Problem, Where

__all__ = [
    "Batch",
    "Examiner",
    "Fate",
    "Flaw",
    "Problem",
    "Spool",
    "Where",
    "open_spool",
    "read",
    "size_of",
]
