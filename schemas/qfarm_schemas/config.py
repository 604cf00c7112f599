"""FarmConfig, Partition and Protocol: what the user writes, validated."""

import re
import shlex
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from qfarm_schemas.base import Model, digest, identity, none_by_name
from qfarm_schemas.failure import Budget
from qfarm_schemas.level import BasisTier, LevelOfTheory


class TaskKind(StrEnum):
    """What a stage does with its geometry."""

    OPTIMISATION = "optimisation"
    SINGLE_POINT = "single-point"


class Policy(Model):
    """How often a stage may be retried, by who is to blame.

    Each number counts failures: with ``chemistry = 6`` the sixth chemistry failure ends the
    stage. INTERRUPTED costs nothing, WALLTIME and LOST_WORKER are infrastructure.
    """

    chemistry: int = Field(default=6, ge=1)
    node: int = Field(default=3, ge=1)
    infrastructure: int = Field(default=10, ge=1)
    basis_above_350: Annotated[BasisTier | None, BeforeValidator(none_by_name)] = Field(
        default=BasisTier.INTERMEDIATE,
        description="basis tier to fall back to above 350 atoms when the level's own fails; "
        '"none": no fallback',
    )

    def allowed(self, budget: Budget) -> int:
        """Failures that `budget` bears."""
        return {
            Budget.CHEMISTRY: self.chemistry,
            Budget.NODE: self.node,
            Budget.INFRASTRUCTURE: self.infrastructure,
        }[budget]


class StageSettings(Model):
    """What a stage of a protocol and the stage planned for one fragment share.

    Attributes
    ----------
    name : str
        Unique within the protocol, for instance ``preopt``.
    task : TaskKind
        Optimisation or single point.
    max_force : float
        Optimisation ends when no atom feels more, eV/A.
    max_steps : int
        Geometry steps an attempt may take.
    time_limit : float
        Seconds of wall time an attempt may take.
    memory_mb : int
        Resident memory an attempt may use, MB.
    partition : str or None
        Partition that must run it; None for any.
    policy : Policy
        Retry budgets.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    task: TaskKind
    max_force: float = Field(default=0.01, gt=0)
    max_steps: int = Field(default=500, ge=1)
    time_limit: float = Field(default=86400.0, gt=0)
    memory_mb: int = Field(default=4000, ge=100)
    partition: str | None = None
    policy: Policy = Policy()


class Stage(StageSettings):
    """One stage as planned for one fragment: all that a worker must know besides the geometry."""

    level: LevelOfTheory

    @cached_property
    def id(self) -> str:
        """``s`` and the SHA-256 of the canonical JSON, defaults left out."""
        return digest("s", identity(self))


class LevelRule(Model):
    """The level of theory for the fragments it matches; the first match of a stage counts.

    Attributes
    ----------
    classes : tuple of str
        Fragment classes; empty: all.
    min_atoms, max_atoms : int
        Size, both ends included; `max_atoms` None: no upper end.
    elements : tuple of str
        Symbols; a fragment matches when it has no other element. Empty: all.
    level : LevelOfTheory or None
        What to compute.
    skip : bool
        In place of `level`: such fragments go without this stage.
    partition : str or None
        Partition that must run it, in place of the stage's own; for instance a GPU partition for
        what has many atoms.
    """

    classes: tuple[str, ...] = ()
    min_atoms: int = Field(default=1, ge=1)
    max_atoms: int | None = Field(default=None, ge=1)
    elements: tuple[str, ...] = ()
    level: LevelOfTheory | None = None
    skip: bool = False
    partition: str | None = None

    @model_validator(mode="after")
    def _level_or_skip(self) -> Self:
        if self.skip == (self.level is not None):
            raise ValueError("give either a level, or skip = true")
        return self

    def matches(self, fragment_class: str, n_atoms: int, elements: frozenset[str]) -> bool:
        """Whether a fragment of this class, size and composition is meant."""
        of_class = not self.classes or fragment_class in self.classes
        of_elements = not self.elements or elements <= set(self.elements)
        of_size = self.min_atoms <= n_atoms <= (self.max_atoms or n_atoms)
        return of_class and of_elements and of_size


class StageTemplate(StageSettings):
    """One stage of a protocol, with a level of theory for each class and size."""

    levels: tuple[LevelRule, ...] = Field(min_length=1)

    @cached_property
    def stages(self) -> tuple[Stage | None, ...]:
        """The stage that each rule of `levels` gives, None where it skips; made once for all."""
        return tuple(map(self._stage, self.levels))

    def _stage(self, rule: LevelRule) -> Stage | None:
        shared = {name: getattr(self, name) for name in StageSettings.model_fields}
        shared["partition"] = rule.partition or self.partition
        return None if rule.level is None else Stage(level=rule.level, **shared)


class Protocol(Model):
    """Ordered stages; each starts from the geometry that the one before it accepted."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    description: str = ""
    stages: tuple[StageTemplate, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_unique(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names are not unique: {', '.join(names)}")
        return self


PLACEHOLDERS: Final = ("ranks", "threads", "memory_mb")
"""What a launch line may hold in braces."""


class EngineConfig(Model):
    """How a program that qfarm does not bring is started, and where its parameter files lie.

    Attributes
    ----------
    command : str or None
        Launch line, split as a shell would, without a shell; ``{ranks}``, ``{threads}`` and
        ``{memory_mb}`` (of one attempt) stand for numbers. None: the engine's usual executable.
    parameters : str or None
        Folder of the species defaults (FHI-aims) or Slater-Koster files (DFTB+); relative paths
        start where qfarm.toml lies.
    prologue : tuple of str
        Shell lines before it, for instance ``module load aims``.
    environment : dict
        Environment variables.
    ranks : int
        MPI ranks of one attempt.
    by : str or None
        Engine that computes this engine's levels here in its place, because it gives the same
        numbers: ``gpu4pyscf`` for ``pyscf``. Records keep the level of theory that was asked for.
    gpu : bool
        Whether the program is built for GPUs and shall use them (FHI-aims: ``use_gpu``).
    """

    command: str | None = None
    parameters: str | None = None
    prologue: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    ranks: int = Field(default=1, ge=1)
    by: str | None = None
    gpu: bool = False

    @model_validator(mode="after")
    def _splits(self) -> Self:
        try:
            words = shlex.split("x" if self.command is None else self.command)
            filled = [word.format(**dict.fromkeys(PLACEHOLDERS, 1)) for word in words]
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"command is no launch line ({error}); in braces: {known}") from None
        if not filled:
            raise ValueError("command is empty")
        return self


Scheduler = Literal["local", "slurm", "pbs", "sge", "lsf", "htcondor", "oar"]


def _seconds(value: object) -> object:
    """Seconds of a walltime such as ``"1-12:00:00"``, ``"24:00:00"`` or ``"30:00"``."""
    match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return value
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(86400 * days + 3600 * hours + 60 * minutes + seconds)


_CLOCK: Final = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")


class Partition(Model):
    """Where workers run. `local` starts them on this machine.

    Attributes
    ----------
    name : str
        Name that stages refer to; unique among all clusters that work on one database.
    scheduler : str
        Kind of scheduler behind it.
    queue, account : str or None
        The scheduler's own names: Slurm's partition or PBS's queue, and who pays.
    nodes : int
        Nodes of one job. More than one for engines that spread over nodes by MPI (``srun``,
        ``mpirun`` in their launch line).
    cores : int or None
        Cores of one job on each of its nodes; None: what `slots` attempts need together.
    job_memory_mb : int or None
        Memory of one job on each of its nodes, MB; None: `slots` times `memory_mb`, and some for
        the workers.
    gpus : int
        GPUs of one job on each of its nodes; its slots share them in turn.
    slots : int
        Attempts that run at once in one job.
    threads : int
        Threads of one attempt, or of each MPI rank of it.
    memory_mb : int
        Memory of one attempt, MB; the smaller of this and the stage's own limit counts.
    walltime : float or None
        Seconds, or text such as ``"24:00:00"``, after which what holds a worker (a batch job)
        ends. Before, the worker stops its engine softly, so that the next worker goes on from
        there. None: no end.
    modules : tuple of str
        Environment modules that a job loads.
    prologue : tuple of str
        Shell lines of the job script before the workers start.
    directives : tuple of str
        Further directives of the job script, without the scheduler's mark: ``"--constraint=rome"``.
    scratch : str or None
        Scratch folder on its nodes, in place of the farm's own; environment variables of the
        node are filled in (``"$TMPDIR"``).
    python : str or None
        Python on its nodes; None: the one that runs the launcher.
    takes_stages : tuple of str
        Names of the stages that it works on; empty: all.
    takes_engines : tuple of str
        Engines whose levels it works on; empty: all.
    spill_to : tuple of str
        Partitions that take this one's stages, too, while it is closed.
    max_jobs : int
        Jobs at once, those that wait in the scheduler's queue included.
    submit_per_minute : float
        Jobs that may be submitted a minute.
    idle_seconds : float
        Seconds without work after which a job ends.
    engines : dict
        Engine settings of this partition, each in place of the farm's own of that name.
    """

    name: str = Field(default="local", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    scheduler: Scheduler = "local"
    queue: str | None = None
    account: str | None = None
    nodes: int = Field(default=1, ge=1)
    cores: int | None = Field(default=None, ge=1)
    job_memory_mb: int | None = Field(default=None, ge=100)
    gpus: int = Field(default=0, ge=0)
    slots: int = Field(default=2, ge=1)
    threads: int = Field(default=1, ge=1)
    memory_mb: int = Field(default=4000, ge=100)
    walltime: Annotated[float | None, BeforeValidator(_seconds)] = Field(default=None, ge=1)
    modules: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    scratch: str | None = None
    python: str | None = None
    takes_stages: tuple[str, ...] = ()
    takes_engines: tuple[str, ...] = ()
    spill_to: tuple[str, ...] = ()
    max_jobs: int = Field(default=10, ge=1)
    submit_per_minute: float = Field(default=20.0, gt=0)
    idle_seconds: float = Field(default=60.0, ge=0)
    engines: dict[str, EngineConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_line_each(self) -> Self:
        for name in ("queue", "account", "modules", "directives", "python"):
            given = getattr(self, name) or ()
            lines = (given,) if isinstance(given, str) else given
            if any("\n" in line or not line.strip() for line in lines):
                raise ValueError(f"{name}: each must be one line that is not empty")
        return self


class MongoConfig(Model):
    """Which MongoDB holds the farm. Without `uri` or `uri_file`, `qfarm up` keeps a private one."""

    uri: str | None = Field(default=None, description="mongodb:// address of a replica set")
    uri_file: str | None = Field(
        default=None, description="file of mode 0600 that holds the address, instead of `uri`"
    )
    database: str = Field(default="qfarm", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    mongod: str | None = Field(default=None, description="path of the mongod executable to start")
    port: int | None = Field(default=None, ge=1024, le=65535, description="None: any free port")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.uri and self.uri_file:
            raise ValueError("both uri and uri_file are set; leave one of them out")
        return self


class LeaseConfig(Model):
    """How long a claim lives without a sign of its worker."""

    seconds: float = Field(default=60.0, gt=0)
    heartbeat: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _beats_before_it_ends(self) -> Self:
        if self.heartbeat * 2 > self.seconds:
            raise ValueError("lease.seconds must be at least twice lease.heartbeat")
        return self


class FarmConfig(Model):
    """A farm: its folder, its MongoDB, its partitions, its engines."""

    folder: str = Field(default=".qfarm", description="farm folder, relative to qfarm.toml")
    scratch: str | None = Field(
        default=None, description="scratch folder; None: in the farm folder"
    )
    keep_scratch: Literal["never", "failed", "always"] = "failed"
    mongo: MongoConfig = MongoConfig()
    lease: LeaseConfig = LeaseConfig()
    partitions: tuple[Partition, ...] = Field(default=(Partition(),), min_length=1)
    engines: dict[str, EngineConfig] = Field(
        default_factory=dict, description="engine name -> how to start it"
    )

    @model_validator(mode="after")
    def _partitions_unique(self) -> Self:
        names = [partition.name for partition in self.partitions]
        if len(set(names)) != len(names):
            raise ValueError(f"partition names are not unique: {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _spills_to_others(self) -> Self:
        names = {partition.name for partition in self.partitions}
        for partition in self.partitions:
            wrong = [name for name in partition.spill_to if name not in names - {partition.name}]
            if wrong:
                others = ", ".join(sorted(names - {partition.name})) or "none"
                raise ValueError(
                    f"spill_to of partition {partition.name!r} names {', '.join(wrong)}; there are "
                    f"these other partitions: {others}"
                )
        return self
