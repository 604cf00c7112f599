"""The machine itself as a scheduler; its jobs are what `qfarm_launchers.processes` starts."""

from typing import Any, Final

from qfarm_launchers.schedulers.base import Dialect, JobOrder, Queued, Size, one_node
from qfarm_schemas.config import Partition


def keywords(partition: Partition, order: JobOrder, size: Size) -> dict[str, Any]:
    """Nothing: a process has no limits but its own.

    Raises
    ------
    ConfigError
        Several nodes.
    """
    one_node(partition, size)
    return {}


def queue(user: str, ids: tuple[str, ...]) -> list[str]:
    """No command: processes are looked at."""
    return []


def read_queue(text: str) -> dict[str, Queued]:
    """Nothing."""
    return {}


DIALECT: Final = Dialect(
    name="local",
    cluster="LocalCluster",
    keywords=keywords,
    queue=queue,
    read_queue=read_queue,
    job_variable="QFARM_JOB_ID",
    identity="$$.$(cut -d' ' -f22 /proc/$$/stat)",  # see qfarm_launchers.processes
)
