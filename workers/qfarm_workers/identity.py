"""Identity: which process a worker is, and whether it still lives."""

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import psutil

from qfarm.store.fleet import Standing
from qfarm_schemas.attempt import Worker

CLOCK_TOLERANCE: Final = 5.0
"""s: Linux derives a process's start time from a boot time that moves when the clock is set."""


def this_process(
    name: str, partition: str = "local", job: str = "", host: str | None = None
) -> Worker:
    """Describe the calling process as a worker; `host` None: the name of this machine."""
    process = psutil.Process()
    return Worker(
        name=name,
        host=host or socket.gethostname(),
        pid=process.pid,
        started=datetime.fromtimestamp(process.create_time(), UTC),
        partition=partition,
        job=job,
    )


def node_name(environment: Mapping[str, str] | None = None) -> str:
    """Name of this node: as Slurm knows it, which alone can leave it out, else the host's."""
    variables = os.environ if environment is None else environment
    return variables.get("SLURMD_NODENAME") or socket.gethostname()


def launched(standing: Standing) -> bool:
    """Whether the launcher of a partition lives; one of this host is looked for itself.

    It may be busy for longer than its lease: schedulers that hang keep it waiting.
    """
    if standing.launcher is None or not _here(standing.launcher):
        return standing.alive
    return (standing.alive or standing.lost) and not gone(standing.launcher)


def gone(worker: Worker) -> bool:
    """Whether the worker is known to be dead.

    Only a process of this host can be known; for any other the lease has to end.
    """
    if not _here(worker):
        return False
    try:
        process = psutil.Process(worker.pid)
        same = abs(process.create_time() - worker.started.timestamp()) <= CLOCK_TOLERANCE
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _here(worker: Worker) -> bool:
    return worker.host in (socket.gethostname(), node_name())
