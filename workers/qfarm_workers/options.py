"""Options: what a batch job is told, on its command line and by its batch system."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from qfarm.config import Farm
from qfarm_schemas.config import Partition

NO_WALLTIME: Final = "none"
"""Stands where a batch job was granted time without end."""

GRANTED: Final[tuple[str, ...]] = ("walltime", "slots", "threads", "memory_mb", "gpus", "nodes")
"""Settings of a partition that a job keeps as they were when it was submitted: its scheduler gave
no more, whatever ``qfarm.toml`` says meanwhile."""


@dataclass(frozen=True)
class Options:
    """What stands on the command line.

    Attributes
    ----------
    farm : Path
        Folder of ``qfarm.toml``.
    partition : str
        Whose work is done.
    job : str
        Name of the job.
    began : float
        When the job script began, s since the epoch.
    granted : mapping
        Settings of the partition as they were when the job was submitted; those that are missing
        are as the file says.
    """

    farm: Path
    partition: str
    job: str
    began: float
    granted: Mapping[str, float | None] = field(default_factory=dict)


def arguments(partition: Partition) -> list[str]:
    """Words of the command line for what a job of a partition is granted."""
    given = {name: getattr(partition, name) for name in GRANTED}
    return [word for name, value in given.items() for word in (_option(name), _word(value))]


def options(arguments: Sequence[str]) -> Options:
    """Read the command line; what dask-jobqueue puts there besides is for Dask's workers."""
    parser = argparse.ArgumentParser(prog="qfarm_workers.job", allow_abbrev=False)
    parser.add_argument("--farm", type=Path, required=True)
    parser.add_argument("--partition", required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--began", type=float, default=time.time())
    for name in GRANTED:
        kind = _walltime if name == "walltime" else int
        parser.add_argument(_option(name), dest=name, type=kind, default=argparse.SUPPRESS)
    known = vars(parser.parse_known_args(list(arguments))[0])
    granted = {name: known.pop(name) for name in GRANTED if name in known}
    return Options(**known, granted=MappingProxyType(granted))


def as_granted(partition: Partition, given: Options) -> Partition:
    """The partition with what the job was granted in place of what the file says now. Pure."""
    return partition.model_copy(update=dict(given.granted))


def farm_with(farm: Farm, partition: Partition) -> Farm:
    """The farm with this partition in place of the file's own of that name. Pure."""
    named = {one.name: one for one in farm.config.partitions} | {partition.name: partition}
    changed = farm.config.model_copy(update={"partitions": tuple(named.values())})
    return replace(farm, config=changed)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _word(value: float | None) -> str:
    if value is None:
        return NO_WALLTIME
    return str(int(value)) if value == int(value) else str(value)


def _walltime(word: str) -> float | None:
    return None if word == NO_WALLTIME else float(word)


def ends(given: Options, partition: Partition, environment: Mapping[str, str]) -> float | None:
    """When the batch system ends the job, s since the epoch; None where nothing ends it."""
    told = environment.get("QFARM_JOB_ENDS", "")
    if told.isdecimal():
        return float(told)
    return None if partition.walltime is None else given.began + partition.walltime
