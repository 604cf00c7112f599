"""Intake: from structure files to plans, or to a list of everything that is wrong with them."""

from qfarm.intake.batch import Batch, Fate, read, size_of
from qfarm.intake.examine import Examiner, Once
from qfarm.intake.pool import processes_for
from qfarm.intake.problem import Flaw, Kind, Problem, Where
from qfarm.intake.spool import Spool, open_spool

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
    "processes_for",
    "read",
    "size_of",
]
