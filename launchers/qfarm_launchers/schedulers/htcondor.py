"""HTCondor: condor_submit, condor_q, condor_history."""

import json
import re
import shlex
from typing import Any, Final

from qfarm.errors import ConfigError
from qfarm_launchers.schedulers.base import (
    Account,
    Dialect,
    Ending,
    EndingKind,
    JobOrder,
    Queued,
    QueueState,
    Size,
    UnreadableError,
    by_exit,
    either,
    first_line,
    has,
    number,
    one_node,
    text_of,
)
from qfarm_schemas.config import Partition

DISK_GB: Final = 10
"""Disk of a job, GB, where no directive ``request_disk`` says more: HTCondor wants a number."""

_ATTRIBUTES: Final = "ClusterId,ProcId,JobBatchName,JobStatus,HoldReason,RemoteHost,LastRemoteHost"
_HISTORY: Final = (
    f"{_ATTRIBUTES},ExitCode,ExitBySignal,ExitSignal,RemoveReason,RemoteWallClockTime,QfarmWalltime"
)

_STATES: Final = {
    1: QueueState.PENDING,
    2: QueueState.RUNNING,
    6: QueueState.ENDING,  # it transfers its output
}
_REMOVED, _COMPLETED = 3, 4


def keywords(partition: Partition, order: JobOrder, size: Size) -> dict[str, Any]:
    """Submit file entries; a job that is evicted does not start again, for its work has gone on.

    Raises
    ------
    ConfigError
        Several nodes, a queue; or a directive that is no entry of a submit file.
    """
    one_node(partition, size)
    if partition.queue:
        raise ConfigError(
            f"partition {partition.name!r} names the queue {partition.queue!r}; HTCondor has none",
            'Leave queue out, and choose machines with directives = ["requirements = ..."].',
        )
    entries: dict[str, Any] = {
        "Output": order.log,
        "Error": order.log_folder / f"{order.name}.err",
        "Log": order.log_folder / f"{order.name}.condor",
        "Stream_Output": True,
        "Stream_Error": True,
        "periodic_remove": _removal(partition.walltime),
    }
    if partition.walltime is not None:
        entries["MY.QfarmWalltime"] = int(partition.walltime)
    if partition.account:
        entries["accounting_group"] = partition.account
    if size.gpus and not has(partition, "gpu"):
        entries["request_gpus"] = size.gpus
    own = dict(_entry(partition, line) for line in partition.directives)
    requirements = next((own.pop(key) for key in list(own) if key.lower() == "requirements"), "")
    entries |= own
    if left := _left_out(order.exclude):
        requirements = f"({requirements}) && {left}" if requirements else left
    if requirements:
        entries["requirements"] = requirements
    return {
        "shebang": "#!/usr/bin/env condor_submit",
        "disk": f"{DISK_GB}GB",
        "job_directives_skip": _given(own),
        "job_extra_directives": entries,
    }


def _removal(walltime: float | None) -> str:
    evicted = "(JobStatus == 1 && NumJobStarts > 0)"
    if walltime is None:
        return evicted
    return f"{evicted} || (JobStatus == 2 && time() - EnteredCurrentStatus > {int(walltime)})"


def _entry(partition: Partition, line: str) -> tuple[str, str]:
    key, sign, value = (part.strip() for part in line.partition("="))
    if not sign or not re.fullmatch(r"\+?[\w.]+", key) or value.endswith("\\"):
        raise ConfigError(
            f"directive {line!r} of partition {partition.name!r} is no entry of a submit file",
            'HTCondor wants "name = value" on one line.',
        )
    return key, value


def _given(own: dict[str, str]) -> list[str]:
    """Entries of dask-jobqueue that the user names, there written without underscores."""
    written = {key.lower().replace("_", "") for key in own}
    return [
        key for key in ("RequestCpus", "RequestMemory", "RequestDisk") if key.lower() in written
    ]


def _left_out(hosts: tuple[str, ...]) -> str:
    """Requirement on machines, which HTCondor knows by their full names."""
    pattern = either(hosts).replace("\\", "\\\\")
    return f'!regexp("^({pattern})(\\\\..*)?$", TARGET.Machine)' if hosts else ""


def escape(word: str) -> str:
    """A word of a command in a submit file, where a dollar would begin a macro."""
    return word.replace("$", "$(DOLLAR)")


def prologue(lines: list[str]) -> list[str]:
    """All lines as one, for an entry of a submit file has no line ends.

    The shell prints the whole text and evaluates it: comments, quotes and line ends mean what they
    mean in a script. The id comes from the submit file's own macros.
    """
    text = "\n".join(lines).replace("\\", "\\\\").replace("%", "%%").replace("\n", "\\n")
    identity = "export QFARM_JOB_ID=$(ClusterId).$(ProcId)"
    return [identity, escape(f'eval "$(printf {shlex.quote(text)})"')]


def queue(user: str, ids: tuple[str, ...]) -> list[str]:
    """Jobs of a user that have not ended."""
    return ["condor_q", user, "-json", "-attributes", _ATTRIBUTES]


def read_queue(text: str) -> dict[str, Queued]:
    """Jobs by id, as ``12.0``."""
    found = {}
    for facts in _jobs(text):
        status = number(facts.get("JobStatus"))
        if status in (_REMOVED, _COMPLETED):
            continue
        job = f"{text_of(facts, 'ClusterId')}.{text_of(facts, 'ProcId')}"
        found[job] = Queued(
            id=job,
            name=text_of(facts, "JobBatchName"),
            state=_STATES.get(status or 0, QueueState.OTHER),
            reason=text_of(facts, "HoldReason"),
            host=_host(facts),
        )
    return found


def _jobs(text: str) -> list[dict[str, Any]]:
    if not text.strip():
        return []  # how condor_q and condor_history say that there is nothing
    try:
        found = json.loads(text, strict=False)  # a job's name may have control signs
    except ValueError:
        raise UnreadableError(f"JSON expected: {first_line(text)!r}") from None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UnreadableError(f"a list of jobs expected: {first_line(text)!r}")
    return found


def _host(facts: dict[str, Any]) -> str:
    """Machine of ``slot1_2@node.example.org``."""
    return (text_of(facts, "RemoteHost") or text_of(facts, "LastRemoteHost")).rpartition("@")[2]


def read_account(text: str) -> Ending | None:
    """What ``condor_history`` says of a job that has ended."""
    facts = next(iter(_jobs(text)), {})
    status = number(facts.get("JobStatus"))
    if status not in (_REMOVED, _COMPLETED):
        return None
    code = number(facts.get("ExitCode", ""))
    state = "Removed" if status == _REMOVED else "Completed"
    reason = text_of(facts, "RemoveReason")
    said = f"{state}, exit code {code}" + (f", {reason}" if reason else "")
    return Ending(state, _kind(status, code, facts), code, _host(facts), said)


def _kind(status: int, code: int | None, facts: dict[str, Any]) -> EndingKind:
    if status == _COMPLETED:
        return by_exit(code if code is not None or not facts.get("ExitBySignal") else 1)
    if "memory" in text_of(facts, "RemoveReason").lower():
        return EndingKind.OUT_OF_MEMORY
    if "PeriodicRemove" not in text_of(facts, "RemoveReason"):
        return EndingKind.CANCELLED
    used, limit = (
        number(text_of(facts, n).split(".")[0]) for n in ("RemoteWallClockTime", "QfarmWalltime")
    )
    timeout = used is not None and limit is not None and used >= limit
    return EndingKind.TIMEOUT if timeout else EndingKind.PREEMPTED


DIALECT: Final = Dialect(
    name="htcondor",
    cluster="HTCondorCluster",
    keywords=keywords,
    queue=queue,
    read_queue=read_queue,
    accounts=(
        Account(
            lambda job: ["condor_history", "-limit", "1", "-json", "-attributes", _HISTORY, job],
            read_account,
        ),
    ),
    job_variable="QFARM_JOB_ID",  # there is none of its own: `prologue` sets it
    escape=escape,
    prologue=prologue,
)
