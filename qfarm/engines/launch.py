"""Launch: from a site's launch line to the command that runs in the scratch folder. Pure."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from qfarm.engines.base import Command, Job
from qfarm.ladder import Scalar

SHELL: Final = ("bash", "-l", "-c")
"""A login shell, because that is where clusters define ``module``."""


def launch(job: Job, usual: tuple[str, ...]) -> Command:
    """Build the command of a job.

    Parameters
    ----------
    job : Job
        Its site gives launch line, prologue and environment, and with the rung the ranks.
    usual : tuple of str
        Launch line when the site has none.
    """
    site = job.site
    argv = tuple(word.format(**_numbers(job)) for word in site.command or usual)
    if site.prologue:
        script = "\n".join(("set -e", *site.prologue, 'exec "$@"'))
        argv = (*SHELL, script, "qfarm", *argv)
    return Command(argv, dict(site.environment))


def ranks(job: Job) -> int:
    """MPI ranks of a job; the rungs against a lack of memory divide what the site gives."""
    return divided(job.site.ranks, job.memory)


def divided(given: int, memory: Mapping[str, Scalar]) -> int:
    """MPI ranks that the settings of a rung against a lack of memory leave of those given."""
    return max(1, given // int(memory.get("ranks_divisor", 1)))


def out_of_sight(job: Job) -> bool:
    """Whether the ranks of a job are no descendants of its launch line: srun's are Slurm's."""
    return PurePath(next(iter(job.site.command), "")).name == "srun"


def _numbers(job: Job) -> dict[str, int]:
    return {"ranks": ranks(job), "threads": job.threads, "memory_mb": job.memory_mb}
