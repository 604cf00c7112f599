"""Attempt: one try at one stage of one fragment, and how it ended."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue

from qfarm_schemas.base import Model
from qfarm_schemas.level import BasisTier
from qfarm_schemas.result import OptimisationStep, ScfIteration


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
    BAD_OUTPUT = "bad-output"  # missing, truncated or contradictory output
    OUT_OF_MEMORY = "out-of-memory"
    ENGINE_MISSING = "engine-missing"
    CRASHED = "crashed"
    SCRATCH_FULL = "scratch-full"
    TIME_LIMIT = "time-limit"  # the stage's own limit, as OUT_OF_MEMORY: too large for it
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


class Check(Model):
    """One line of a verdict: what was required, what was found."""

    name: str
    required: str
    found: str
    passed: bool


class Success(Model):
    """The attempt gave a result that passed every check."""

    status: Literal["success"] = "success"


class Failure(Model):
    """The attempt gave no acceptable result.

    Attributes
    ----------
    kind : FailureKind
        What went wrong.
    cause : str
        One sentence that a chemist understands.
    evidence : dict
        Measured values, exit status, last lines of output.
    remedy : str
        What the user can do if the ladder does not cure it.
    """

    status: Literal["failure"] = "failure"
    kind: FailureKind
    cause: str
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
    remedy: str = ""


Outcome = Annotated[Success | Failure, Field(discriminator="status")]


class Rung(Model):
    """Where on the ladder an attempt stands.

    Attributes
    ----------
    scf, geometry : str
        Names of the engine's SCF aid and geometry aid; empty where the engine has none.
    basis : BasisTier or None
        Basis tier in place of the level's own; only above 350 atoms.
    """

    scf: str = ""
    geometry: str = ""
    basis: BasisTier | None = None


class Worker(Model):
    """The process that ran an attempt.

    `started` is the process's start time: with host and pid it names one process for ever,
    although the system uses pids again.
    """

    name: str
    host: str
    pid: int
    started: AwareDatetime
    partition: str = "local"
    job: str = ""


class Cost(Model):
    """What an attempt used."""

    wall_seconds: float = Field(default=0.0, ge=0)
    cpu_seconds: float = Field(default=0.0, ge=0)
    peak_memory_mb: float = Field(default=0.0, ge=0)
    threads: int = Field(default=1, ge=1)


class Attempt(Model):
    """One try at one stage.

    `number` counts from 1 within the stage; (`key`, `number`) is unique in the store.
    """

    key: str
    number: int = Field(ge=1)
    fragment_id: str
    stage: str
    level_id: str
    rung: Rung
    worker: Worker
    started: AwareDatetime
    finished: AwareDatetime
    cost: Cost = Cost()
    outcome: Outcome
    checks: tuple[Check, ...] = ()
    scf_trace: tuple[ScfIteration, ...] = ()
    optimisation_trace: tuple[OptimisationStep, ...] = ()
    engine_version: str = ""
