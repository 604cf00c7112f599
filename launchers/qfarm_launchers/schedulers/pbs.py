"""PBS Professional, OpenPBS and Torque: qsub, qselect, qstat."""

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
    UnreadableError,
    by_exit,
    first_line,
    has,
    number,
)
from qfarm_schemas.config import Partition

_STATES: Final = {
    "Q": QueueState.PENDING,
    "W": QueueState.PENDING,
    "T": QueueState.PENDING,
    "M": QueueState.PENDING,
    "R": QueueState.RUNNING,
    "B": QueueState.RUNNING,
    "E": QueueState.ENDING,
}
_ENDED: Final = ("F", "C", "X")

_WALLTIME_CODES: Final = (-29, -11)
"""Exit_status of a job killed at its walltime: PBS Professional, Torque."""

_MEMORY_CODES: Final = (-27, -26, -10)
"""Exit_status of a job killed for its memory: PBS Professional (two limits), Torque."""

_SIGNAL_BASE: Final = 256
"""What PBS adds to the number of the signal that ended a job."""


def keywords(partition: Partition, order: JobOrder, size: Size) -> dict[str, Any]:
    """A select statement of equal chunks, one on each node; bash whatever the login shell is."""
    chunk = [f"select={size.nodes}", f"ncpus={size.cores}", f"mem={size.memory_mib}mb"]
    if size.parallel:
        chunk[2:2] = [f"mpiprocs={size.tasks}", f"ompthreads={size.threads}"]
    if size.gpus and not has(partition, "gpu"):
        chunk += [f"ngpus={size.gpus}"]
    lines = ["-S /bin/bash", "-j oe", f'-o "{order.log}"', "-r n"]
    if partition.account:
        lines += [f"-A {partition.account}"]
    if size.nodes > 1 and not has(partition, "place="):
        lines += ["-l place=scatter"]
    return {
        "queue": partition.queue,
        "resource_spec": ":".join(chunk),
        "job_directives_skip": ["#PBS -A"],  # else PBS_ACCOUNT of the environment would count
        "job_extra_directives": [*lines, *partition.directives],
    }


def ids(user: str) -> list[str]:
    """Ids of the user's jobs."""
    return ["qselect", "-u", user]


def queue(user: str, found: tuple[str, ...]) -> list[str]:
    """All about these jobs; the short lists cut names off."""
    return ["qstat", "-f", *found]


def read_queue(text: str) -> dict[str, Queued]:
    """Jobs by the number of their id."""
    jobs = _jobs(text)
    if text.strip() and not jobs:
        raise UnreadableError(f"'Job Id:' expected: {first_line(text)!r}")
    return {
        job: Queued(
            id=job,
            name=facts.get("Job_Name", ""),
            state=_STATES.get(facts.get("job_state", ""), QueueState.OTHER),
            reason=facts.get("comment", ""),
            host=_host(facts),
        )
        for job, facts in jobs.items()
        if facts.get("job_state") not in _ENDED
    }


def _jobs(text: str) -> dict[str, dict[str, str]]:
    """Attributes by number of the job; values that go on after a tab are put together."""
    whole = re.sub(r"\n\t", "", text)
    blocks = re.split(r"^Job Id:\s*", whole, flags=re.MULTILINE)[1:]
    return {
        match[0]: dict(re.findall(r"^\s+([\w.]+) = (.*)$", block, flags=re.MULTILINE))
        for block in blocks
        if (match := re.match(r"\d+", block))
    }


def _host(facts: dict[str, str]) -> str:
    return re.split(r"[/+*]", facts.get("exec_host", "").lstrip("("))[0]


def read_account(text: str) -> Ending | None:
    """What ``qstat -f`` says of a job that has ended."""
    facts = next(iter(_jobs(text).values()), {})
    if facts.get("job_state") not in _ENDED:
        return None
    code = number(facts.get("Exit_status", facts.get("exit_status", "")))
    comment = facts.get("comment", "")
    said = f"Exit_status = {code}" + (f", {comment}" if comment else "")
    return Ending(facts["job_state"], _kind(code, facts), code, _host(facts), said)


def _kind(code: int | None, facts: dict[str, str]) -> EndingKind:
    if code in _MEMORY_CODES:
        return EndingKind.OUT_OF_MEMORY
    if code in _WALLTIME_CODES:
        return EndingKind.TIMEOUT
    if code is None or code <= _SIGNAL_BASE:
        return by_exit(code) if code is None or code >= 0 else EndingKind.NODE_FAILURE
    used, limit = (
        _clock(facts.get(f"{name}.walltime", "")) for name in ("resources_used", "Resource_List")
    )
    if used is not None and limit is not None and used >= limit:
        return EndingKind.TIMEOUT
    return EndingKind.CANCELLED if code - _SIGNAL_BASE == 15 else EndingKind.FAILED


def _clock(text: str) -> int | None:
    """Seconds of ``HH:MM:SS``."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+)", text.strip())
    return (
        None
        if match is None
        else sum(int(n) * s for n, s in zip(match.groups(), (3600, 60, 1), strict=True))
    )


DIALECT: Final = Dialect(
    name="pbs",
    cluster="PBSCluster",
    keywords=keywords,
    ids=ids,
    queue=queue,
    read_queue=read_queue,
    accounts=(
        Account(lambda job: ["qstat", "-x", "-f", job], read_account),  # Torque answers in XML
        Account(lambda job: ["qstat", "-f", job], read_account),
    ),
    job_variable="PBS_JOBID",
    identity="${PBS_JOBID%%.*}",  # the number alone, as after qsub
    clean=r"PBS_(?!CONF|EXEC|HOME|SERVER|DEFAULT)",
)
