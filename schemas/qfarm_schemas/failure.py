"""FailureKind: what can go wrong with an attempt, and which budget pays for it."""

from enum import StrEnum
from typing import Final


class Budget(StrEnum):
    """Which budget a failure is paid from; each is spent on its own."""

    CHEMISTRY = "chemistry"
    NODE = "node"
    INFRASTRUCTURE = "infrastructure"


class FailureKind(StrEnum):
    """What went wrong. `budget` says who pays, the ladder says what comes next."""

    SCF_NOT_CONVERGED = "scf-not-converged"
    THRESHOLD_MISSED = "threshold-missed"
    UNSTABLE_SOLUTION = "unstable-solution"
    GEOMETRY_NOT_CONVERGED = "geometry-not-converged"
    BAD_GEOMETRY = "bad-geometry"
    NO_GAP = "no-gap"  # occupied above empty orbitals: wrong charge or multiplicity
    METHOD_FAILED = "method-failed"  # the method itself broke down, as MBD with a negative mode
    ILL_CONDITIONED = "ill-conditioned"  # the overlap matrix of the basis is nearly singular
    START_UP = "start-up"  # no failure: a rung that only prepares the density for the next
    BAD_OUTPUT = "bad-output"  # missing, truncated or contradictory output
    OUT_OF_MEMORY = "out-of-memory"
    ENGINE_MISSING = "engine-missing"
    CRASHED = "crashed"
    SCRATCH_FULL = "scratch-full"
    TIME_LIMIT = "time-limit"  # too large for the stage's limit, or for a whole walltime
    WALLTIME = "walltime"  # the batch job ended
    LOST_WORKER = "lost-worker"
    INTERRUPTED = "interrupted"  # by the user

    @property
    def budget(self) -> Budget:
        """The budget that pays for a retry after this failure."""
        return _BUDGETS[self]


_BUDGETS: dict[FailureKind, Budget] = {
    FailureKind.SCF_NOT_CONVERGED: Budget.CHEMISTRY,
    FailureKind.THRESHOLD_MISSED: Budget.CHEMISTRY,
    FailureKind.UNSTABLE_SOLUTION: Budget.CHEMISTRY,
    FailureKind.GEOMETRY_NOT_CONVERGED: Budget.CHEMISTRY,
    FailureKind.BAD_GEOMETRY: Budget.CHEMISTRY,
    FailureKind.NO_GAP: Budget.CHEMISTRY,
    FailureKind.METHOD_FAILED: Budget.CHEMISTRY,
    FailureKind.ILL_CONDITIONED: Budget.CHEMISTRY,
    FailureKind.START_UP: Budget.CHEMISTRY,
    FailureKind.BAD_OUTPUT: Budget.NODE,
    FailureKind.OUT_OF_MEMORY: Budget.NODE,
    FailureKind.ENGINE_MISSING: Budget.NODE,
    FailureKind.CRASHED: Budget.NODE,
    FailureKind.SCRATCH_FULL: Budget.NODE,
    FailureKind.TIME_LIMIT: Budget.NODE,
    FailureKind.WALLTIME: Budget.INFRASTRUCTURE,
    FailureKind.LOST_WORKER: Budget.INFRASTRUCTURE,
    FailureKind.INTERRUPTED: Budget.INFRASTRUCTURE,
}

OF_SIZE: Final = frozenset({FailureKind.TIME_LIMIT, FailureKind.OUT_OF_MEMORY})
"""Paid from the node budget, but they tell how large a fragment is, or how narrow a partition's
limits are; not how a node does."""
