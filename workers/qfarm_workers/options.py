"""Options: what a batch job is told, on its command line and by its batch system."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qfarm_schemas.config import Partition


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
    """

    farm: Path
    partition: str
    job: str
    began: float


def options(arguments: Sequence[str]) -> Options:
    """Read the command line; what dask-jobqueue puts there besides is for Dask's workers."""
    parser = argparse.ArgumentParser(prog="qfarm_workers.job", allow_abbrev=False)
    parser.add_argument("--farm", type=Path, required=True)
    parser.add_argument("--partition", required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--began", type=float, default=time.time())
    known, _ = parser.parse_known_args(list(arguments))
    return Options(**vars(known))


def ends(given: Options, partition: Partition, environment: Mapping[str, str]) -> float | None:
    """When the batch system ends the job, s since the epoch; None where nothing ends it."""
    told = environment.get("QFARM_JOB_ENDS", "")
    if told.isdecimal():
        return float(told)
    return None if partition.walltime is None else given.began + partition.walltime
