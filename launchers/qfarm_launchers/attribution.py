"""Attribution: what a scheduler's account of a batch job says of an attempt lost with it.

Pure. Without an account a lost attempt is a lost worker, which the infrastructure pays for.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import JsonValue

from qfarm_launchers.schedulers.base import Ending, EndingKind
from qfarm_schemas.attempt import Failure, Worker
from qfarm_schemas.failure import FailureKind
from qfarm_workers import failures

EndingOf = Callable[[Worker], Ending | None]
"""How a worker's batch job ended; None when it is not known, or the job goes on."""


class _Meaning(NamedTuple):
    kind: FailureKind
    cause: str = ""  # empty: as of any lost worker
    remedy: str = ""


_FREE: Final = "Nothing: the stage goes on in the next job, and this costs no retry."

_MEANINGS: Final[Mapping[EndingKind, _Meaning]] = MappingProxyType(
    {
        EndingKind.TIMEOUT: _Meaning(
            FailureKind.WALLTIME,
            "the batch job reached its walltime in the middle of the attempt",
            "Once is nothing to mend. If it happens again and again, set walltime of the partition "
            "in qfarm.toml to what the scheduler grants: then workers end in time.",
        ),
        EndingKind.OUT_OF_MEMORY: _Meaning(
            FailureKind.OUT_OF_MEMORY,
            "the batch job used more memory than it has, and the scheduler ended it in the middle "
            "of the attempt",
            "Raise job_memory_mb of the partition in qfarm.toml, or lower its slots; if memory_mb "
            "of the stage is above what the job has for a slot, raise memory_mb of the partition; "
            "then `qfarm retry`.",
        ),
        EndingKind.NODE_FAILURE: _Meaning(
            FailureKind.LOST_WORKER,
            "the node of the batch job failed in the middle of the attempt",
            "Nothing: the stage goes on elsewhere. Tell the operators, if it is always the same "
            "node.",
        ),
        EndingKind.PREEMPTED: _Meaning(
            FailureKind.INTERRUPTED,
            "the scheduler gave the batch job's place to others in the middle of the attempt",
            _FREE,
        ),
        EndingKind.CANCELLED: _Meaning(
            FailureKind.INTERRUPTED,
            "the batch job was cancelled in the middle of the attempt",
            _FREE,
        ),
        EndingKind.FAILED: _Meaning(FailureKind.LOST_WORKER),
        EndingKind.COMPLETED: _Meaning(FailureKind.LOST_WORKER),
        EndingKind.UNKNOWN: _Meaning(FailureKind.LOST_WORKER),
    }
)

_SHARED: Final = "; another attempt of the same job may have used it"


def failure_of(worker: Worker, ending: Ending, slots: int = 1, ranks: int = 1) -> Failure:
    """The failure of an attempt that was lost with its batch job.

    Parameters
    ----------
    worker : Worker
        Who made it.
    ending : Ending
        Of its job.
    slots : int
        Attempts that ran at once in the job. Where there are several, the one that ran out of
        memory is not known, and none of them is given up for it.
    ranks : int
        MPI ranks of the attempt. Where there are several, fewer of them may have memory enough.
    """
    lost, meaning = failures.lost_worker(worker.host, worker.pid), _MEANINGS[ending.kind]
    evidence = lost.evidence | _said(ending)
    if not meaning.cause:
        words = f"{lost.cause}; the scheduler calls its batch job {ending.state or 'ended'}"
        return lost.model_copy(update={"cause": words, "evidence": evidence})
    kind, cause = meaning.kind, meaning.cause
    if kind is FailureKind.OUT_OF_MEMORY and slots > 1:
        kind, cause = FailureKind.LOST_WORKER, cause + _SHARED
    words = f"{cause} (worker {worker.pid} on {worker.host})"
    made = Failure(kind=kind, cause=words, evidence=evidence, remedy=meaning.remedy)
    return failures.with_ranks(made, ranks)


def _said(ending: Ending) -> dict[str, JsonValue]:
    """What the scheduler says, as evidence; what it leaves open is left out."""
    said: dict[str, JsonValue] = {
        "the scheduler says": ending.state,
        "exit code of the job": ending.exit_code,
        "its words": ending.text,
    }
    return {name: value for name, value in said.items() if value not in (None, "")}
