"""What an engine is: it writes input, names the process to run and parses output. All pure.

An attempt runs in a fresh scratch folder. The worker writes the files of `Engine.write` there,
starts what `Engine.run` names in a process group that can be killed, and gives the files it left,
with how the process ended, to `Engine.parse`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import Field

from qfarm.costs.model import UNKNOWN, Start
from qfarm.ladder import Ladder, Scalar
from qfarm_schemas.attempt import Failure
from qfarm_schemas.base import Model
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result


@dataclass(frozen=True)
class Parameters:
    """Parameter files that a calculation needs, below the folder that the site keeps for them.

    Attributes
    ----------
    names : tuple of str
        Paths below the folder, for instance ``tight/08_O_default``.
    linked : str
        Name in the scratch folder of a link to the whole folder; empty: the files' text is given
        to `Engine.write` instead.
    """

    names: tuple[str, ...] = ()
    linked: str = ""


@dataclass(frozen=True)
class Restart:
    """What a stopped or failed attempt leaves for the next.

    Attributes
    ----------
    texts : tuple of str
        Names of small text files, given to `Engine.write` in `Job.restart`.
    files : tuple of str
        Glob patterns of files, put into the next scratch folder as they are; `Job.restart` has
        their names with empty texts.
    """

    texts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Site(Model):
    """What the place of execution gives an engine that qfarm does not bring.

    Attributes
    ----------
    command : tuple of str
        Launch line, placeholders as in `EngineConfig`; empty: the engine's usual executable.
    prologue : tuple of str
        Shell lines before it.
    environment : dict
        Environment variables.
    ranks : int
        MPI ranks.
    gpu : bool
        Whether the program is built for GPUs and shall use them.
    texts : dict
        Text of each file of `Parameters.names` (empty where they are linked).
    digest : str
        Beginning of a SHA-256 over names and contents of these files; empty where there are none.
    """

    command: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    ranks: int = 1
    gpu: bool = False
    texts: dict[str, str] = Field(default_factory=dict)
    digest: str = ""


class Job(Model):
    """One calculation: a geometry, a level of theory and convergence aids.

    Attributes
    ----------
    fragment : Fragment
        Geometry to start from (for a later stage, the optimised one), charge, multiplicity.
    stage : Stage
        Task, force criterion and limits. Its level is the one to compute: after a basis
        fallback the worker has put the fallback's level in.
    scf, geometry, overlap, memory : dict
        Settings of the rung's aids.
    threads : int
        Threads the process may use.
    memory_mb : int
        Memory the process may use, MB.
    site : Site
        Launch line and parameter files.
    restart : dict
        What an earlier attempt at this stage and level left, by `Engine.restart`.
    after : FailureKind or None
        How the last attempt ended that was neither lost nor interrupted; None for the first, also
        the first after ``qfarm retry``.
    """

    fragment: Fragment
    stage: Stage
    scf: dict[str, Scalar] = Field(default_factory=dict)
    geometry: dict[str, Scalar] = Field(default_factory=dict)
    overlap: dict[str, Scalar] = Field(default_factory=dict)
    memory: dict[str, Scalar] = Field(default_factory=dict)
    threads: int = 1
    memory_mb: int = 4000
    site: Site = Site()
    restart: dict[str, str] = Field(default_factory=dict)
    after: FailureKind | None = None

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory to compute."""
        return self.stage.level


@dataclass(frozen=True)
class PythonCall:
    """Run ``module.function(folder: Path) -> None`` in a forked child process.

    `module` is imported once by the process that forks, so that an attempt does not pay for
    imports. The function reads its input from, and writes its output to, `folder`.
    """

    module: str
    function: str = "main"


@dataclass(frozen=True)
class Command:
    """Run an executable in the scratch folder; its output goes to ``stdout.txt``."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exit:
    """How the process ended.

    Attributes
    ----------
    code : int
        Exit code, negative for a signal, as in `subprocess`.
    stale : tuple of str
        Files that lay in the scratch folder before the start besides the input; a fresh folder has
        none.
    """

    code: int
    stale: tuple[str, ...] = ()


class EngineDefaults:
    """What most engines have no need to say otherwise: nothing from the site, no way to go on."""

    command: tuple[str, ...] = ()
    soft_stop: str | None = None
    restart: Restart = Restart()

    def parameters(self, fragment: Fragment, level: LevelOfTheory) -> Parameters:
        """No parameter files."""
        return Parameters()

    def wrong_parameters(
        self, fragment: Fragment, level: LevelOfTheory, texts: Mapping[str, str]
    ) -> str | None:
        """Nothing is wrong with files that are not read."""
        return None

    def goes_on(self, job: Job) -> bool:
        """Never: there is nothing to go on from."""
        return False

    def cost_size(self, level: LevelOfTheory, atoms: Mapping[int, int]) -> float:
        """Number of atoms."""
        return float(sum(atoms.values()))

    def start_costs(self, level: LevelOfTheory, task: TaskKind) -> Start:
        """Of something whose cost nobody knows."""
        return UNKNOWN


class Engine(Protocol):
    """A program or library that computes energies and forces.

    Every method is pure and deterministic: equal arguments give equal answers, nothing is read
    from disk, clock or environment.
    """

    @property
    def name(self) -> str:
        """Name in the engine table and in `LevelOfTheory.engine`."""

    @property
    def ladder(self) -> Ladder:
        """Convergence aids, mildest first."""

    @property
    def command(self) -> tuple[str, ...]:
        """Usual launch line of the program; empty for a library."""

    @property
    def soft_stop(self) -> str | None:
        """Name of a file that makes the program stop in order; None where there is no such way."""

    @property
    def restart(self) -> Restart:
        """What a stopped or failed attempt leaves for the next."""

    def parameters(self, fragment: Fragment, level: LevelOfTheory) -> Parameters:
        """Parameter files needed; only for what `refuse` does not refuse."""

    def wrong_parameters(
        self, fragment: Fragment, level: LevelOfTheory, texts: Mapping[str, str]
    ) -> str | None:
        """Why a text is not the parameter file that its name says; None when all are."""

    def goes_on(self, job: Job) -> bool:
        """Whether the input starts from what an earlier attempt left (`Job.restart`)."""

    def cost_size(self, level: LevelOfTheory, atoms: Mapping[int, int]) -> float:
        """What seconds and memory grow with: atoms, valence orbitals or basis functions.

        Parameters
        ----------
        level : LevelOfTheory
            Its basis tier counts.
        atoms : mapping
            Atomic number -> number of atoms.
        """

    def start_costs(self, level: LevelOfTheory, task: TaskKind) -> Start:
        """What a calculation costs on one core, as long as nothing was measured."""

    def basis_set(self, level: LevelOfTheory) -> str | None:
        """Name of the basis set behind the level's tier; None where the tier is the name."""

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        """Why the engine cannot do this, naming the remedy; None when it can."""

    def write(self, job: Job) -> Mapping[str, str]:
        """Input files: name -> text."""

    def run(self, job: Job) -> PythonCall | Command:
        """What to run in the folder that holds the input files."""

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
        """Read the output.

        Parameters
        ----------
        job : Job
            What was asked for.
        files : mapping
            Name -> text of every text file in the folder, ``stdout.txt`` and ``stderr.txt``
            among them.
        ended : Exit
            How the process ended; limits and kills by the worker never come here.

        Returns
        -------
        Result or Failure
            Never raises on any content of `files`.
        """
