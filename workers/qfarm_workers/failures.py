"""Failures that the worker finds, not the engine: limits, crashes, a missing program. Pure."""

import errno
import os
import signal
import traceback
from collections.abc import Mapping
from math import inf
from typing import Final

from pydantic import JsonValue

from qfarm.engines import endings
from qfarm.engines.base import Exit, PythonCall
from qfarm.engines.inprocess import STREAMS, TAIL_LINES, tails
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind
from qfarm_workers import supervisor
from qfarm_workers.process import Ended, Limits, Stopped

Evidence = dict[str, JsonValue]

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors that a full disk gives."""

_OF_THE_NODE: Final = (
    errno.EIO,
    errno.ESTALE,
    errno.EROFS,
    errno.EREMOTEIO,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
    errno.EACCES,
    errno.ENOTDIR,
)
"""Numbers of the errors that a file system gives which is ill, or mounted otherwise than it was."""

_NO_SPACE: Final = tuple(os.strerror(number) for number in FULL)
_VAGUE: Final = frozenset({FailureKind.CRASHED, FailureKind.BAD_OUTPUT})
_BY_A_SIGNAL: Final = _VAGUE | {FailureKind.WALLTIME}
"""How an engine seems to have ended that a signal to the whole batch job ended."""
_NOT_BY_STOPPING: Final = frozenset(
    {
        FailureKind.START_UP,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.SCRATCH_FULL,
        FailureKind.ENGINE_MISSING,
        FailureKind.WALLTIME,
        FailureKind.INTERRUPTED,
    }
)
"""What a program that was asked to stop says as it would have without."""

NEAR_SECONDS: Final = 300.0
"""s: a job that is told to end so long before its known end, or later, has used up its walltime.
Schedulers count in minutes, and send signals some minutes ahead where the site says so."""


def of_process(
    ended: Ended, limits: Limits, program: object, files: Mapping[str, str]
) -> Failure | None:
    """The failure that the way a process ended means by itself.

    None when the engine has to say what the end means.
    """
    if ended.missing:
        return _missing(ended.missing)
    if ended.stopped is Stopped.TIME:
        return _out_of_time(ended, limits)
    if ended.stopped is Stopped.MEMORY:
        return _out_of_memory(ended, limits)
    if ended.code is None:
        return _supervisor_lost(files)
    return _of_exit_code(ended.code, files) if isinstance(program, PythonCall) else None


def refined(failure: Failure, ended: Ended, files: Mapping[str, str]) -> Failure:
    """What an engine called a crash or bad output, with what the worker knows besides."""
    if failure.kind not in _VAGUE:
        return failure
    if any(mark in files.get(name, "") for mark in _NO_SPACE for name in STREAMS):
        return _scratch_full(failure.cause, failure.evidence | tails(files))
    if ended.code is None or ended.code == 0:  # who ended in order may have warned of anything
        return failure
    outside = _from_outside(failure, ended.code, files)
    if outside is not None:
        return outside
    return failure if ended.code > 0 else _with_signal(failure, ended, ended.code)


def _from_outside(failure: Failure, code: int, files: Mapping[str, str]) -> Failure | None:
    """What the system or the batch system says of a crash, in words or by the signal."""
    ended = Exit(code)
    by_signal = None if -code == signal.SIGKILL else endings.signalled(files, ended)
    known = endings.said(files, ended) or by_signal
    if known is None:
        return None
    evidence = failure.evidence | known.evidence
    return known.model_copy(update={"evidence": evidence, "checks": failure.checks})


def _with_signal(failure: Failure, ended: Ended, code: int) -> Failure:
    name = _signal_name(code)
    seen: Evidence = {"signal": name, "peak memory, MB": round(ended.peak_memory_mb)}
    evidence = failure.evidence | seen
    remedy = _KILLED if name == "SIGKILL" else failure.remedy
    return failure.model_copy(update={"evidence": evidence, "remedy": remedy})


def asked_to_stop(failure: Failure, ended: Ended, limits: Limits) -> Failure:
    """What a program that was asked to stop left undone is no failure of the chemistry."""
    if not ended.asked or failure.kind in _NOT_BY_STOPPING:
        return failure
    said: Evidence = {"the engine said": f"{failure.kind.value}: {failure.cause}"}
    late = _out_of_time(ended, limits)
    evidence = failure.evidence | late.evidence | said
    return late.model_copy(update={"evidence": evidence, "checks": failure.checks})


def job_ended(host: str, pid: int, left: float | None) -> Failure:
    """The batch job was told to end in the middle of the attempt; restart files are kept.

    Parameters
    ----------
    host, pid : str, int
        The worker's.
    left : float or None
        Seconds to the known end of the job, by its walltime; infinity: it has none; None: not
        known.
    """
    evidence: Evidence = {"host": host, "pid": pid}
    if left is not None and left < inf:
        evidence["walltime left, s"] = round(left, 1)
    return _told_at_the_end(evidence) if left is None or left <= NEAR_SECONDS else _told(evidence)


def _told_at_the_end(evidence: Evidence) -> Failure:
    return Failure(
        kind=FailureKind.WALLTIME,
        cause="the batch job was told to end in the middle of the attempt, as at the end of its "
        "walltime",
        evidence=evidence,
        remedy="Once is nothing to mend: the stage goes on in the next job. If it happens again "
        "and again, set walltime of the partition in qfarm.toml to what the scheduler grants: "
        "then workers end in time.",
    )


def _told(evidence: Evidence) -> Failure:
    return Failure(
        kind=FailureKind.INTERRUPTED,
        cause="the batch job was told to end long before its walltime, as when it is cancelled or "
        "gives way to another, in the middle of the attempt",
        evidence=evidence,
        remedy="Nothing: the stage goes on in the next job, and this costs no retry.",
    )


def ended_with_job(failure: Failure, ended: Ended, told: Failure | None) -> Failure:
    """What an engine left undone because its batch job was told to end is not its fault.

    The batch system signals every process of the job, the engine and its supervisor among them.

    Parameters
    ----------
    failure : Failure
        What was made of the engine's end.
    ended : Ended
        How it ended.
    told : Failure or None
        What `job_ended` says, if the worker was told to end; None if it was not.
    """
    stopped = ended.asked and failure.kind not in _NOT_BY_STOPPING
    if told is None or not (stopped or failure.kind in _BY_A_SIGNAL):
        return failure
    words: Evidence = {"the engine said": f"{failure.kind.value}: {failure.cause}"}
    evidence = failure.evidence | told.evidence | words
    return told.model_copy(update={"evidence": evidence, "checks": failure.checks})


def with_ranks(failure: Failure, ranks: int) -> Failure:
    """Say how many MPI ranks shared too little memory; the ladder may try fewer."""
    if failure.kind is not FailureKind.OUT_OF_MEMORY:
        return failure
    return failure.model_copy(update={"evidence": failure.evidence | {"ranks": ranks}})


def of_our_code(error: Exception, where: str) -> Failure:
    """An exception of qfarm's own code: one poisonous fragment must not stop the loop."""
    if isinstance(error, OSError) and error.errno in FULL:
        return _scratch_full(f"{where}: {error}", {})
    if isinstance(error, OSError) and error.errno in _OF_THE_NODE:
        return _file_system(f"{where}: {error}")
    trace = "".join(traceback.format_exception(error)[-TAIL_LINES:])
    return Failure(
        kind=FailureKind.CRASHED,
        cause=f"qfarm itself failed while {where}: {type(error).__name__}: {error}",
        evidence={"traceback": trace},
        remedy="This is an error in qfarm: please report it with the traceback.",
    )


def no_engine(cause: str, remedy: str) -> Failure:
    """The engine table has no such engine."""
    return Failure(kind=FailureKind.ENGINE_MISSING, cause=cause, remedy=remedy)


def lost_worker(host: str, pid: int) -> Failure:
    """The worker died, or its lease ended without a sign of it."""
    return Failure(
        kind=FailureKind.LOST_WORKER,
        cause=f"the worker (process {pid} on {host}) vanished in the middle of the attempt",
        evidence={"host": host, "pid": pid},
        remedy="Nothing, if it was killed or the machine restarted; if it happens again, read "
        "the system log of that host for the kernel's out-of-memory killer.",
    )


def interrupted(host: str, pid: int) -> Failure:
    """The user stopped the run; this costs no retry."""
    return Failure(
        kind=FailureKind.INTERRUPTED,
        cause="the user stopped the run in the middle of the attempt",
        evidence={"host": host, "pid": pid},
        remedy="Start `qfarm run` again.",
    )


def _missing(trace: str) -> Failure:
    return Failure(
        kind=FailureKind.ENGINE_MISSING,
        cause=f"the engine cannot be started: {trace.strip().splitlines()[-1]}",
        evidence={"traceback": trace},
        remedy="Install it in the workers' Python environment, or put it on their PATH; then "
        "`qfarm retry`.",
    )


def _out_of_time(ended: Ended, limits: Limits) -> Failure:
    how = "was asked to stop in order" if ended.stopped is None else "was killed"
    used: Evidence = {
        "wall time, s": round(ended.wall_seconds, 1),
        "CPU time, s": round(ended.cpu_seconds, 1),
    }
    if not limits.walltime:
        return _time_limit(how, used, limits)
    return _longer_than_a_life(how, used, limits) if limits.final else _walltime(how, used, limits)


def _walltime(how: str, used: Evidence, limits: Limits) -> Failure:
    return Failure(
        kind=FailureKind.WALLTIME,
        cause="the walltime of the partition ended before the attempt, which had "
        f"{limits.seconds:.4g} s left; it {how}",
        evidence={"walltime left, s": round(limits.seconds, 1), **used},
        remedy="Once is nothing to mend: the next attempt has a worker's whole life, or goes on "
        "from restart files. If it happens again and again, raise walltime of the partition in "
        "qfarm.toml, then `qfarm retry`.",
    )


def _longer_than_a_life(how: str, used: Evidence, limits: Limits) -> Failure:
    """The next worker would come no further, so this ends the stage as a time limit does."""
    return Failure(
        kind=FailureKind.TIME_LIMIT,
        cause="the attempt needs more than the walltime of the partition, of which it had "
        f"{limits.seconds:.4g} s, and its engine cannot go on from restart files; it {how}",
        evidence={"walltime left, s": round(limits.seconds, 1), **used},
        remedy="Raise walltime of the partition in qfarm.toml (or give it more threads), then "
        "`qfarm retry`.",
    )


def _time_limit(how: str, used: Evidence, limits: Limits) -> Failure:
    return Failure(
        kind=FailureKind.TIME_LIMIT,
        cause=f"the attempt reached the stage's limit of {limits.seconds:g} s; it {how}",
        evidence={"time limit, s": limits.seconds, **used},
        remedy="Raise time_limit of this stage in the protocol, submit the fragments again and "
        "`qfarm retry`; or give the partition more threads. CPU time far below wall time means "
        "an overloaded machine.",
    )


def _out_of_memory(ended: Ended, limits: Limits) -> Failure:
    return Failure(
        kind=FailureKind.OUT_OF_MEMORY,
        cause=f"the attempt used {ended.peak_memory_mb:.0f} MB of {limits.memory_mb:.0f} MB",
        evidence={
            "memory limit, MB": limits.memory_mb,
            "peak memory, MB": round(ended.peak_memory_mb),
        },
        remedy="Raise memory_mb of the partition in qfarm.toml and of this stage in the protocol, "
        "lower the number of slots so that all fit, submit the fragments again and `qfarm retry`.",
    )


def _supervisor_lost(files: Mapping[str, str]) -> Failure:
    return Failure(
        kind=FailureKind.CRASHED,
        cause="the process that watches over the engine was killed, and the engine with it",
        evidence=tails(files),
        remedy=_KILLED,
    )


def _of_exit_code(code: int, files: Mapping[str, str]) -> Failure | None:
    evidence: Evidence = {"exit code": code, **tails(files)}
    if code == supervisor.MISSING:
        return _missing(files.get("stderr.txt", "") or "an import failed")
    if code == supervisor.DISK_FULL:
        return _scratch_full("the engine found no space on the device", evidence)
    if code == supervisor.NO_MEMORY:
        return Failure(
            kind=FailureKind.OUT_OF_MEMORY,
            cause="the system refused the engine more memory",
            evidence=evidence,
            remedy="Lower the number of slots, or run this fragment on a larger machine.",
        )
    return None


def _scratch_full(cause: str, evidence: Evidence) -> Failure:
    return Failure(
        kind=FailureKind.SCRATCH_FULL,
        cause=f"the scratch disk is full ({cause})",
        evidence=evidence,
        remedy="Free space, or set `scratch` in qfarm.toml to a larger disk.",
    )


def _file_system(cause: str) -> Failure:
    return Failure(
        kind=FailureKind.CRASHED,
        cause=f"a file system of the node failed ({cause})",
        remedy="Nothing, if it happened once: the stage is tried again. If it is always the same "
        "node, look whether its file systems are mounted and writable, and tell the operators.",
    )


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"  # real-time signals have no name


_KILLED: Final = (
    "If nobody killed it by hand, the kernel's out-of-memory killer did: read the system log, "
    "lower the number of slots or memory_mb."
)
