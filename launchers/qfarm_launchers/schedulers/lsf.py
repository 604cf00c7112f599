"""LSF: bsub, bjobs, bhist."""

import re
from typing import Any, Final

from qfarm_launchers.schedulers.base import (
    Account,
    Dialect,
    Ending,
    EndingKind,
    JobOrder,
    Queued,
    QueueState,
    Size,
    by_exit,
    has,
    number,
    table,
)
from qfarm_schemas.config import Partition

_QUEUE: Final = "JOBID|STAT|EXEC_HOST|JOB_NAME"
_ACCOUNT: Final = "JOBID|STAT|EXIT_CODE|EXEC_HOST|EXIT_REASON"

_STATES: Final = {
    "PEND": QueueState.PENDING,
    "WAIT": QueueState.PENDING,
    "RUN": QueueState.RUNNING,
    "PROV": QueueState.PENDING,
}
_ENDED: Final = ("DONE", "EXIT")

_REASONS: Final = {
    "RUNLIMIT": EndingKind.TIMEOUT,
    "DEADLINE": EndingKind.TIMEOUT,
    "WINDOW": EndingKind.TIMEOUT,
    "MEMLIMIT": EndingKind.OUT_OF_MEMORY,
    "SWAP": EndingKind.OUT_OF_MEMORY,
    "OWNER": EndingKind.CANCELLED,
    "FORCE_OWNER": EndingKind.CANCELLED,
    "ADMIN": EndingKind.CANCELLED,
    "FORCE_ADMIN": EndingKind.CANCELLED,
    "PREEMPT": EndingKind.PREEMPTED,
    "LOAD": EndingKind.PREEMPTED,
    "CWD_NOTEXIST": EndingKind.NODE_FAILURE,
    "REMOVE_HUNG_JOB": EndingKind.NODE_FAILURE,
}
"""TERM_... reasons -> what they mean."""


def keywords(partition: Partition, order: JobOrder, size: Size) -> dict[str, Any]:
    """Cores of all nodes, spread by ``ptile``; the walltime has minutes, never seconds."""
    lines = [f'-o "{order.log}"', "-rn"]
    skip = []
    if size.nodes > 1:
        skip = ["span[hosts=1]"]
        lines += [f'-R "span[ptile={size.cores}]"']
    if size.gpus and not has(partition, "gpu"):
        lines += [f'-gpu "num={size.gpus}"']
    if order.exclude:
        left = " && ".join(f"hname!='{host}'" for host in order.exclude)
        lines += [f'-R "select[{left}]"']
    return {
        "queue": partition.queue,
        "project": partition.account,
        "ncpus": size.cores * size.nodes,
        "mem": size.memory_mb * 10**6,
        "walltime": _minutes(partition.walltime),
        "use_stdin": True,
        "job_directives_skip": skip,
        "job_extra_directives": [*lines, *partition.directives],
    }


def _minutes(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes = -int(-seconds // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def queue(user: str, ids: tuple[str, ...]) -> list[str]:
    """Jobs of a user that have not ended."""
    return ["bjobs", "-u", user, "-o", "jobid stat exec_host job_name delimiter='|'"]


def read_queue(text: str) -> dict[str, Queued]:
    """Jobs by id."""
    if re.match(r"No (unfinished )?job found", text.strip()):
        return {}
    rows = table(text, _QUEUE, "|")
    return {
        job: Queued(job, name, _STATES.get(state, QueueState.OTHER), _reason(state), _host(hosts))
        for job, state, hosts, name in rows
        if state not in _ENDED
    }


def _reason(state: str) -> str:
    return f"state {state}: bjobs -l says why" if state not in _STATES else ""


def _host(hosts: str) -> str:
    """First of ``4*node1:4*node2``."""
    return hosts.split(":", maxsplit=1)[0].rpartition("*")[2].strip("-")


def read_account(text: str) -> Ending | None:
    """What ``bjobs`` says of a job that ended in the last hour."""
    if not text.lstrip().startswith("JOBID"):
        return None
    row = next(iter(table(text, _ACCOUNT, "|")), None)
    if row is None or row[1] not in _ENDED:
        return None
    _, state, code, hosts, reason = row
    exit_code = 0 if state == "DONE" else number(code)
    kind = _kind(reason, exit_code)
    said = f"{state}, exit code {exit_code}" + (f", {reason}" if reason.strip("-") else "")
    return Ending(state, kind, exit_code, _host(hosts), said)


def read_history(text: str) -> Ending | None:
    """What ``bhist -l`` says of a job that ended long ago."""
    whole = re.sub(r"\n\s+", " ", text)
    done = re.search(r"Done successfully", whole)
    ended = re.search(r"Exited(?: with exit code (\d+))?|Completed <exit>", whole)
    if not done and not ended:
        return None
    code = 0 if done else number(ended[1]) if ended and ended[1] else None
    host = re.search(r"(?:Started|Dispatched)[^<]* <(?:\d+\*)?([^>]+)>", whole)
    term = re.search(r"TERM_\w+[^.;]*", whole)
    said = "Done successfully" if done else f"Exited, exit code {code}"
    return Ending(
        state="DONE" if done else "EXIT",
        kind=_kind(term[0] if term else "", code),
        exit_code=code,
        host=host[1] if host else "",
        text=f"{said}, {term[0]}" if term else said,
    )


def _kind(reason: str, code: int | None) -> EndingKind:
    term = re.search(r"TERM_(\w+)", reason)
    known = _REASONS.get(term[1]) if term else None
    return known or (EndingKind.FAILED if code is None and term else by_exit(code))


DIALECT: Final = Dialect(
    name="lsf",
    cluster="LSFCluster",
    keywords=keywords,
    queue=queue,
    read_queue=read_queue,
    accounts=(
        Account(
            lambda job: [
                *("bjobs", "-a", "-o"),
                *("jobid stat exit_code exec_host exit_reason delimiter='|'", job),
            ],
            read_account,
        ),
        Account(lambda job: ["bhist", "-l", job], read_history),
    ),
    job_variable="LSB_JOBID",
)
