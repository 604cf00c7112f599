"""Intake: from structure files to plans, or to a list of everything that is wrong with them."""

from qfarm.intake.batch import Batch, Fate, Spool, open_spool, read, size_of
from qfarm.intake.examine import Examiner, Once
from qfarm.intake.problem import Flaw, Kind, Problem, Where

__all__ = [
    "Batch",
    "Examiner",
    "Fate",
    "Flaw",
    "Kind",
    "Once",
    "Problem",
    "Spool",
    "Where",
    "open_spool",
    "read",
    "size_of",
]
