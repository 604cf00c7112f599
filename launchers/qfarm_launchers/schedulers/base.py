"""Dialect: what is special to one scheduler, as data and pure functions."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from qfarm.errors import ConfigError
from qfarm_schemas.config import Partition

NAME_LENGTH: Final = 15
"""Characters of a job's name: PBS takes no more."""

ID: Final = r"\d\S*"
"""Regular expression of a job's id, as ``12``, ``12_3`` or ``12[1-5]``."""


class QueueState(StrEnum):
    """Where a job stands that has not ended."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"
    OTHER = "other"  # held, suspended, in error: somebody has to look at it


class EndingKind(StrEnum):
    """How a job ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"  # it reached its walltime
    OUT_OF_MEMORY = "out-of-memory"
    NODE_FAILURE = "node-failure"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class JobOrder:
    """One batch job to be submitted.

    Attributes
    ----------
    name : str
        Unique name, also in the scheduler's queue; see `qfarm_launchers.cluster.job_name`.
    farm : Path
        Folder of qfarm.toml, absolute; the job sees it under the same path.
    log_folder : Path
        Folder of its log, ``NAME.log``.
    python : str
        Python on the nodes.
    exclude : tuple of str
        Hosts that must not run it, where the scheduler can leave hosts out.
    ranks : int
        MPI ranks of one attempt of the largest engine, where the farm's own settings say more
        than the partition's.
    module : str
        Module that the job runs.
    """

    name: str
    farm: Path
    log_folder: Path
    python: str
    exclude: tuple[str, ...] = ()
    ranks: int = 1
    module: str = "qfarm_workers.job"

    @property
    def log(self) -> Path:
        """Where the job's standard output and error go."""
        return self.log_folder / f"{self.name}.log"


@dataclass(frozen=True)
class Size:
    """What a job asks of each of its nodes.

    Attributes
    ----------
    nodes : int
        Nodes of the job.
    cores, memory_mb, gpus : int
        On each node; memory in MB.
    threads : int
        Threads of one MPI rank.
    parallel : bool
        Whether engines start MPI ranks inside the job.
    """

    nodes: int
    cores: int
    memory_mb: int
    gpus: int
    threads: int
    parallel: bool

    @property
    def memory_mib(self) -> int:
        """Memory in MiB, which Slurm and PBS call M and mb."""
        return -(-self.memory_mb * 10**6 // 2**20)

    @property
    def tasks(self) -> int:
        """MPI ranks that a node has room for."""
        return max(1, self.cores // self.threads)


@dataclass(frozen=True)
class Queued:
    """A job that has not ended.

    Attributes
    ----------
    id, name : str
        Its id as `submit` gave it, and its name.
    state : QueueState
        Where it stands.
    reason : str
        Why it waits, or what is wrong, in the scheduler's words; empty where it says nothing.
    host : str
        First node; empty while it has none.
    """

    id: str
    name: str
    state: QueueState
    reason: str = ""
    host: str = ""


@dataclass(frozen=True)
class Ending:
    """How a job ended, by the scheduler's accounts.

    Attributes
    ----------
    state : str
        In the scheduler's words.
    kind : EndingKind
        What that means.
    exit_code : int or None
        Of the job script; None where it is not known.
    host : str
        First node; empty where it is not known.
    text : str
        What the scheduler says, for people.
    """

    state: str
    kind: EndingKind
    exit_code: int | None = None
    host: str = ""
    text: str = ""


@dataclass(frozen=True)
class Account:
    """One way to ask how a job ended.

    Attributes
    ----------
    command : callable
        Id -> words of the command.
    read : callable
        Its output -> how the job ended; None while it has not, or where it knows nothing of it.
    """

    command: Callable[[str], list[str]]
    read: Callable[[str], Ending | None]


@dataclass(frozen=True)
class Gate:
    """How to ask whether the scheduler takes jobs.

    Attributes
    ----------
    command : list of str
        Words of the command.
    read : callable
        Its output, the partition -> why it takes none; empty when it does.
    """

    command: list[str]
    read: Callable[[str, Partition], str]


class UnreadableError(Exception):
    """A scheduler's answer is not what its command prints."""


@dataclass(frozen=True)
class Dialect:
    """What is special to one scheduler.

    Attributes
    ----------
    name : str
        As in qfarm.toml.
    cluster : str
        Class of dask-jobqueue.
    keywords : callable
        Partition, order and size -> keywords of that class that others do not have.
    ids : callable or None
        User -> command that lists the ids of the user's jobs, where `queue` needs them.
    queue : callable
        User and ids -> command that lists the user's jobs.
    read_queue : callable
        Its output -> jobs by id. Raises `UnreadableError` for what does not prove that the
        scheduler has answered.
    accounts : tuple of Account
        Ways to ask how a job ended, best first.
    gate : Gate or None
        How to ask whether it takes jobs.
    job_variable : str
        Environment variable of a job with its id.
    end_variable : str
        Environment variable with the time when its walltime ends, s since 1970; may be empty.
    identity : str
        Shell words that give the id, where it is not simply that variable.
    escape : callable
        A word of the worker's command -> how the job script writes it.
    prologue : callable
        Shell lines before the worker -> how the job script writes them.
    unknown_host : str
        Regular expression of what it says when it refuses a job because it does not know a host
        that is to be left out.
    clean : str
        Regular expression of environment variables that its commands must not see: they would
        change what is asked for or shown.
    """

    name: str
    cluster: str
    keywords: Callable[[Partition, JobOrder, Size], dict[str, Any]]
    queue: Callable[[str, tuple[str, ...]], list[str]]
    read_queue: Callable[[str], dict[str, Queued]]
    job_variable: str
    ids: Callable[[str], list[str]] | None = None
    accounts: tuple[Account, ...] = ()
    gate: Gate | None = None
    end_variable: str = ""
    clean: str = r"(?!)"
    identity: str = ""
    escape: Callable[[str], str] = str
    prologue: Callable[[list[str]], list[str]] = list
    unknown_host: str = r"(?!)"


def first_line(text: str) -> str:
    """First line of a text that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def has(partition: Partition, *marks: str) -> bool:
    """Whether the user's own directives speak of something, so that theirs count."""
    return any(mark in line.lower() for line in partition.directives for mark in marks)


def by_exit(code: int | None) -> EndingKind:
    """What an exit code means, where the scheduler says no more."""
    if code is None:
        return EndingKind.UNKNOWN
    return EndingKind.COMPLETED if code == 0 else EndingKind.FAILED


def table(text: str, header: str, separator: str, first: str = ID) -> list[list[str]]:
    """Rows below a header line, which proves that the scheduler has answered.

    Lines that are no rows are passed over: the name of a job may have a line end in it.

    Parameters
    ----------
    text : str
        What the command printed.
    header, separator : str
        Its first line, and what stands between its words.
    first : str
        Regular expression of a row's first field.

    Raises
    ------
    UnreadableError
        There is no such header, no line below it is a row, or the last one is cut off.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    titles = header.split(separator)
    if not lines or [part.strip() for part in lines[0].split(separator)] != titles:
        raise UnreadableError(f"the line {header!r} expected: {first_line(text)!r}")
    rows = [_row(line, separator, len(titles), first) for line in lines[1:]]
    found = [row for row in rows if row is not None]
    if rows and (not found or (rows[-1] is None and not text.endswith("\n"))):
        raise UnreadableError(f"{len(titles)} fields expected: {lines[-1]!r}")
    return found


def _row(line: str, separator: str, number: int, first: str) -> list[str] | None:
    """Fields of a line, of which the last keeps further separators; None where it is no row."""
    found = [part.strip() for part in line.split(separator, number - 1)]
    return found if len(found) == number and re.fullmatch(first, found[0]) else None


def number(text: object) -> int | None:
    """An integer, or None where there is none."""
    try:
        return int(str(text).strip())
    except ValueError:
        return None


def one_node(partition: Partition, size: Size) -> None:
    """Refuse jobs of several nodes.

    Raises
    ------
    ConfigError
        The partition asks for more than one.
    """
    if size.nodes > 1:
        raise ConfigError(
            f"partition {partition.name!r} asks for nodes = {size.nodes}, and "
            f"scheduler {partition.scheduler!r} gives a job one node",
            "Set nodes = 1, or name another scheduler.",
        )


def either(names: Iterable[str]) -> str:
    """A regular expression that matches one of the host names, as ``a|b``."""
    return "|".join(name.replace(".", r"\.") for name in names)


def text_of(mapping: Mapping[str, Any], name: str) -> str:
    """An entry of decoded JSON as text; empty where it is missing or null."""
    value = mapping.get(name)
    return "" if value is None else str(value)
