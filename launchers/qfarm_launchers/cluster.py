"""A partition becomes dask-jobqueue's class and keywords. Pure."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from qfarm.errors import ConfigError
from qfarm_launchers.schedulers import dialect
from qfarm_launchers.schedulers.base import NAME_LENGTH, Dialect, JobOrder, Size
from qfarm_schemas.config import Partition
from qfarm_workers.options import arguments

__all__ = ["Choice", "JobOrder", "choice", "job_name", "size"]

WORKER_MB: Final = 150
"""MB of a pull loop besides its engine: Python with NumPy and the driver of MongoDB takes 60-80 MB,
the supervisor of the engine as much again, most of it shared."""

JOB_MB: Final = 300
"""MB of what a job has once: its own process, the shell, the self-test, page tables."""

THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Without them every rank of an engine starts as many threads as the node has cores."""

MODULES: Final = "type module >/dev/null 2>&1 || . /etc/profile"
"""A batch shell is no login shell: on many clusters it does not know ``module`` before this."""

DIGITS: Final = 8
"""Hexadecimal digits in the name of a job."""

NUMBER: Final = "0" * DIGITS
"""Stands for them where only the rest of the name counts."""

_SCHEDULER: Final = "no-scheduler"
"""Stands where dask-jobqueue puts the address of Dask's scheduler: there is none."""

_WORD: Final = re.compile(r"[^\s\"'`\\$;&|<>#\x00-\x1f\x7f]+")
"""Queues and accounts stand in the script's header without quotes."""

_LOG: Final = re.compile(r"/[\w./+=@~% -]*")
"""Folders that every scheduler takes in a header, in quotes."""

_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class Choice:
    """What dask-jobqueue is asked for.

    Attributes
    ----------
    scheduler : str
        As in qfarm.toml.
    cluster : str
        Name of dask-jobqueue's cluster class.
    keywords : mapping
        Keywords of its job class.
    order : JobOrder
        The job.
    """

    scheduler: str
    cluster: str
    keywords: Mapping[str, Any]
    order: JobOrder


def job_name(partition: str, number: int | str) -> str:
    """Name of a job: the partition's, cut short, and a number or hexadecimal digits.

    >>> job_name("gpu", "1f3a9c")
    'gpu-1f3a9c'
    >>> job_name("a_long_partition", 12345678)
    'a_long-12345678'
    """
    end = f"-{number}"
    return partition[: NAME_LENGTH - len(end)] + end


def size(partition: Partition, order: JobOrder) -> Size:
    """What a job asks of each node.

    Cores: as the partition says, else room for all ranks of all slots, spread evenly over its
    nodes, each rank with its threads. Memory: as the partition says, else all slots' and the
    workers' own.
    """
    ranks = max([order.ranks, *(engine.ranks for engine in partition.engines.values())])
    on_a_node = -(-partition.slots * ranks // partition.nodes)
    workers = JOB_MB + partition.slots * WORKER_MB
    return Size(
        nodes=partition.nodes,
        cores=partition.cores or on_a_node * partition.threads,
        memory_mb=partition.job_memory_mb or partition.slots * partition.memory_mb + workers,
        gpus=partition.gpus,
        threads=partition.threads,
        parallel=partition.nodes > 1 or ranks > 1,
    )


def choice(partition: Partition, order: JobOrder) -> Choice:
    """Class and keywords for one job of a partition.

    Raises
    ------
    ConfigError
        The scheduler cannot do what the partition asks for, or a text cannot stand in a job script.
    """
    _check(partition, order)
    order = replace(order, exclude=tuple(h for h in order.exclude if _HOST.fullmatch(h)))
    spoken = dialect(partition.scheduler)
    asked = size(partition, order)
    keywords = {
        "scheduler": _SCHEDULER,
        "name": order.name,
        "job_name": order.name,
        "cores": asked.cores,
        "processes": 1,
        "memory": f"{asked.memory_mb}MB",
        "python": spoken.escape(f"exec {shlex.quote(order.python)}"),
        "worker_command": order.module,
        "worker_extra_args": [spoken.escape(word) for word in _arguments(partition, order)],
        "job_script_prologue": spoken.prologue(_prologue(partition, spoken)),
        "shebang": "#!/usr/bin/env bash",
        "walltime": _clock(partition.walltime),
    } | spoken.keywords(partition, order, asked)
    return Choice(partition.scheduler, spoken.cluster, MappingProxyType(keywords), order)


def _arguments(partition: Partition, order: JobOrder) -> list[str]:
    """What the job must know, as shell words."""
    named = {"farm": str(order.farm), "partition": partition.name, "job": order.name}
    words = [word for name, value in named.items() for word in (f"--{name}", shlex.quote(value))]
    return [*words, *arguments(partition), "--began", '"$QFARM_BEGAN"']


def _prologue(partition: Partition, spoken: Dialect) -> list[str]:
    lines = ["QFARM_BEGAN=$(date +%s)"]  # before modules: they may take a while of the walltime
    if partition.modules:
        lines += [MODULES, *(f"module load {shlex.quote(name)}" for name in partition.modules)]
    lines += [*partition.prologue, *(f"export {name}={partition.threads}" for name in THREADS)]
    if spoken.name != "htcondor":
        identity = spoken.identity or f"${{{spoken.job_variable}}}"
        lines += [f'export QFARM_JOB_ID="{identity}"']
    if spoken.end_variable:
        lines += [f'export QFARM_JOB_ENDS="${{{spoken.end_variable}:-}}"']
    return lines


def _clock(seconds: float | None) -> str | None:
    """``HH:MM:SS``, hours as many as there are."""
    if seconds is None:
        return None
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _check(partition: Partition, order: JobOrder) -> None:
    """Refuse what would end a line of the script, or its quotes."""
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,14}", order.name), order.name  # noqa: S101 (ours)
    for name in ("queue", "account"):
        given = getattr(partition, name)
        if given is not None and not _WORD.fullmatch(given):
            raise ConfigError(
                f"{name} {given!r} of partition {partition.name!r} has spaces, quotes or signs of "
                "the shell in it",
                f"Write the {name} as the scheduler itself shows it.",
            )
    if not _LOG.fullmatch(str(order.log_folder)) and partition.scheduler != "local":
        raise ConfigError(
            f"the folder of job logs {str(order.log_folder)!r} has signs in its path that "
            "schedulers take for something else",
            "Move the farm to a folder of letters, digits, spaces and ./_+=@~%- only.",
        )
    for text in (str(order.farm), order.python, *partition.directives, *partition.modules):
        if _CONTROL.search(text):
            raise ConfigError(
                f"{text!r} of partition {partition.name!r} has a line end or control sign in it",
                "Job scripts need a path or line without them.",
            )
