"""Attribution: what a scheduler's account of a batch job says of an attempt lost with it.

Pure. Without an account a lost attempt is a lost worker, which the infrastructure pays for.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from pydantic import JsonValue

from qfarm_schemas.attempt import Failure, Worker
from qfarm_schemas.failure import FailureKind
from qfarm_workers import failures


class JobEnding(Protocol):
    """How a batch job ended, as its scheduler says (`qfarm_launchers.schedulers.base.Ending`)."""

    @property
    def state(self) -> str:
        """In the scheduler's own words, for instance ``NODE_FAIL``."""

    @property
    def kind(self) -> str:
        """One of the keys of `KINDS`; anything else counts as unknown."""

    @property
    def exit_code(self) -> int | None:
        """Of the job script, if it is known."""

    @property
    def host(self) -> str:
        """Where it ran, if it is known."""

    @property
    def text(self) -> str:
        """What the scheduler says besides."""


EndingOf = Callable[[Worker], JobEnding | None]
"""How a worker's batch job ended; None when it is not known, or the job goes on."""

KINDS: Final[Mapping[str, FailureKind]] = MappingProxyType(
    {
        "timeout": FailureKind.WALLTIME,
        "out-of-memory": FailureKind.OUT_OF_MEMORY,
        "node-failure": FailureKind.LOST_WORKER,
        "preempted": FailureKind.INTERRUPTED,
        "cancelled": FailureKind.INTERRUPTED,
        "failed": FailureKind.LOST_WORKER,
        "completed": FailureKind.LOST_WORKER,
        "unknown": FailureKind.LOST_WORKER,
    }
)
"""Kind of a job's ending -> what it means for the attempts that ran in it."""

_CAUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "timeout": "the batch job reached its walltime in the middle of the attempt",
        "out-of-memory": "the batch job used more memory than it has, and the scheduler ended it "
        "in the middle of the attempt",
        "node-failure": "the node of the batch job failed in the middle of the attempt",
        "preempted": "the scheduler took the batch job's place for others in the middle of the "
        "attempt",
        "cancelled": "the batch job was cancelled in the middle of the attempt",
    }
)

_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "timeout": "Once is nothing to mend. If it happens again and again, set walltime of the "
        "partition in qfarm.toml to what the scheduler grants: then workers end in time.",
        "out-of-memory": "Raise job_memory_mb of the partition in qfarm.toml, or lower its slots; "
        "if memory_mb of the stage is above what the job has for a slot, raise memory_mb of the "
        "partition; then `qfarm retry`.",
        "node-failure": "Nothing: the stage goes on elsewhere. Tell the operators, if it is always "
        "the same node.",
        "preempted": "Nothing: the stage goes on in the next job, and this costs no retry.",
        "cancelled": "Nothing: the stage goes on in the next job, and this costs no retry.",
    }
)

_SHARED: Final = "; another attempt of the same job may have used it"


def failure_of(worker: Worker, ending: JobEnding, slots: int = 1) -> Failure:
    """The failure of an attempt that was lost with its batch job.

    Parameters
    ----------
    worker : Worker
        Who made it.
    ending : JobEnding
        Of its job.
    slots : int
        Attempts that ran at once in the job. Where there are several, the one that ran out of
        memory is not known, and none of them is given up for it.
    """
    lost = failures.lost_worker(worker.host, worker.pid)
    cause, said = _CAUSES.get(ending.kind), lost.evidence | _said(ending)
    if cause is None:
        words = f"{lost.cause}; the scheduler calls its batch job {ending.state or 'ended'}"
        return lost.model_copy(update={"cause": words, "evidence": said})
    kind = KINDS[ending.kind]
    if kind is FailureKind.OUT_OF_MEMORY and slots > 1:
        kind, cause = FailureKind.LOST_WORKER, cause + _SHARED
    words = f"{cause} (worker {worker.pid} on {worker.host})"
    return Failure(kind=kind, cause=words, evidence=said, remedy=_REMEDIES[ending.kind])


def _said(ending: JobEnding) -> dict[str, JsonValue]:
    """What the scheduler says, as evidence; what it leaves open is left out."""
    said: dict[str, JsonValue] = {
        "the scheduler says": ending.state,
        "exit code of the job": ending.exit_code,
        "its words": ending.text,
    }
    return {name: value for name, value in said.items() if value not in (None, "")}
