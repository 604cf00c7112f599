"""Attempt: one try at one stage of one fragment, and how it ended."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue

from qfarm_schemas.base import Model
from qfarm_schemas.check import Check
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import BasisTier
from qfarm_schemas.result import OptimisationStep, ScfIteration


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
    checks : tuple of Check
        What the engine required of the output, as far as it could be read; the worker moves them
        to the attempt.
    """

    status: Literal["failure"] = "failure"
    kind: FailureKind
    cause: str
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
    remedy: str = ""
    checks: tuple[Check, ...] = ()


Outcome = Annotated[Success | Failure, Field(discriminator="status")]


class Rung(Model):
    """Where on the ladder an attempt stands.

    Attributes
    ----------
    scf, geometry, overlap, memory : str
        Names of the engine's aids against a failed SCF, a failed optimisation, an ill-conditioned
        overlap matrix and a lack of memory; empty where the engine has none.
    basis : BasisTier or None
        Basis tier in place of the level's own; only above 350 atoms.
    """

    scf: str = ""
    geometry: str = ""
    overlap: str = ""
    memory: str = ""
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


class Environment(Model):
    """Where and with what an attempt ran, beside its `Worker`; empty where not known.

    Attributes
    ----------
    cpu, gpu : str
        Model of the processor, and of the GPUs that the attempt could see.
    modules : tuple of str
        Environment modules that were loaded.
    qfarm : str
        Version of qfarm, and its commit where it is known.
    scheduler_job : str
        Id of the batch job, as its scheduler knows it.
    node_list : str
        Nodes of the batch job, where there are several.
    """

    cpu: str = ""
    gpu: str = ""
    modules: tuple[str, ...] = ()
    qfarm: str = ""
    scheduler_job: str = ""
    node_list: str = ""


class Attempt(Model):
    """One try at one stage.

    `number` counts from 1 within the stage; (`key`, `number`) is unique in the store.
    `continued_from` is the number of the attempt whose density or geometry it started from;
    `environment` is None where the worker could not tell any more.
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
    continued_from: int | None = None
    environment: Environment | None = None
