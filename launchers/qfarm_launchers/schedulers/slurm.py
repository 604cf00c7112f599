"""Slurm: sbatch, squeue, scontrol, sacct, sinfo."""

import re
from typing import Any, Final

from qfarm_launchers.schedulers.base import (
    Account,
    Dialect,
    Ending,
    EndingKind,
    Gate,
    JobOrder,
    Queued,
    QueueState,
    Size,
    has,
    number,
    table,
)
from qfarm_schemas.config import Partition

_QUEUE: Final = "JOBID|STATE|EXEC_HOST|REASON|NAME"
_SACCT: Final = "JobIDRaw|State|ExitCode|NodeList"

_STATES: Final = {
    "PENDING": QueueState.PENDING,
    "CONFIGURING": QueueState.PENDING,
    "RUNNING": QueueState.RUNNING,
    "SIGNALING": QueueState.RUNNING,
    "COMPLETING": QueueState.ENDING,
    "STAGE_OUT": QueueState.ENDING,
}

_STUCK: Final = (
    r"JobHeld|launch failed requeued held|job requeued in held state|JobHoldMaxRequeue"
    r"|DependencyNeverSatisfied|BadConstraints|PartitionTimeLimit|InvalidAccount|InvalidQOS"
    r"|(Assoc|QOS)\w*PerJob"
)
"""Reasons why a job is held, or can never start: it asks for more than one job may have."""

_KINDS: Final = {
    "COMPLETED": EndingKind.COMPLETED,
    "FAILED": EndingKind.FAILED,
    "TIMEOUT": EndingKind.TIMEOUT,
    "DEADLINE": EndingKind.TIMEOUT,
    "OUT_OF_MEMORY": EndingKind.OUT_OF_MEMORY,
    "NODE_FAIL": EndingKind.NODE_FAILURE,
    "BOOT_FAIL": EndingKind.NODE_FAILURE,
    "CANCELLED": EndingKind.CANCELLED,
    "REVOKED": EndingKind.CANCELLED,
    "PREEMPTED": EndingKind.PREEMPTED,
}

_UNUSABLE: Final = frozenset({"down", "drained", "draining", "drain", "fail", "failing", "error"})


def keywords(partition: Partition, order: JobOrder, size: Size) -> dict[str, Any]:
    """Queue, account, layout of ranks, memory in Slurm's own units, GPUs, hosts left out."""
    log = str(order.log).replace("%", "%%")
    lines = [f'--output="{log}"', "--no-requeue"]
    skip = []
    if size.parallel:
        skip = ["#SBATCH -n 1", "#SBATCH --cpus-per-task"]
        lines += [f"--nodes={size.nodes}", f"--ntasks-per-node={size.tasks}"]
        lines += [f"--cpus-per-task={size.threads}"]
    else:
        lines += ["--nodes=1"]
    if has(partition, "--mem"):  # --mem and --mem-per-cpu exclude each other
        skip += ["#SBATCH --mem"]
    if size.gpus and not has(partition, "gpu"):
        lines += [f"--gres=gpu:{size.gpus}"]
    if order.exclude:
        lines += [f"--exclude={','.join(order.exclude)}"]
    return {
        "queue": partition.queue,
        "account": partition.account,
        "job_cpu": size.cores,
        "job_mem": f"{size.memory_mib}M",
        "job_directives_skip": skip,
        "job_extra_directives": [*lines, *partition.directives],
    }


def queue(user: str, ids: tuple[str, ...]) -> list[str]:
    """Jobs of a user that have not ended, also those of hidden partitions."""
    return ["squeue", "--all", f"--user={user}", "--format=%i|%T|%B|%r|%j"]


def read_queue(text: str) -> dict[str, Queued]:
    """Jobs by id; the header line proves that the controller has answered."""
    rows = table(text, _QUEUE, "|")
    return {row[0]: _queued(*row) for row in rows if row[1] not in _KINDS}


def _queued(job: str, state: str, host: str, reason: str, name: str) -> Queued:
    nothing = ("None", "n/a", "(null)")
    return Queued(
        id=job,
        name=name,
        state=_state(state, reason),
        reason="" if reason in nothing else reason,
        host="" if host in nothing else host,
    )


def _state(state: str, reason: str) -> QueueState:
    """Where a job stands; one that waits for what never comes has to be looked at."""
    if state == "PENDING" and re.match(_STUCK, reason.replace("_", " "), re.IGNORECASE):
        return QueueState.OTHER
    return _STATES.get(state, QueueState.OTHER)


def read_scontrol(text: str) -> Ending | None:
    """What ``scontrol show job`` says of a job that has ended; it forgets it after minutes."""
    facts = dict(re.findall(r"(\w+)=(\S*)", text))
    state = facts.get("JobState", "")
    if state not in _KINDS:
        return None
    code, signal = _exit(facts.get("ExitCode", ""))
    reason = facts.get("Reason", "None")
    said = f"{state}, reason {reason}" if reason != "None" else state
    host = facts.get("BatchHost", "")
    return _ending(state, code, signal, host, said)


def read_sacct(text: str) -> Ending | None:
    """What the accounting says: the job first, then its steps."""
    rows = [line.split("|") for line in text.splitlines() if line.count("|") >= 3]
    if rows and rows[0][0] == "JobIDRaw":
        rows = rows[1:]
    if not rows:
        return None
    states = [words[0] for row in rows if (words := row[1].split())]
    if not states or states[0] not in _KINDS:
        return None
    # a step is told of the lack of memory, the job often only that it failed
    state = "OUT_OF_MEMORY" if "OUT_OF_MEMORY" in states else states[0]
    code, signal = _exit(rows[0][2])
    said = "; ".join(f"{row[0]} {row[1]} {row[2]}" for row in rows)
    return _ending(state, code, signal, rows[0][3], said)


def _exit(text: str) -> tuple[int | None, int]:
    code, _, signal = text.partition(":")
    return number(code), number(signal) or 0


def _ending(state: str, code: int | None, signal: int, host: str, said: str) -> Ending:
    text = f"{said}, signal {signal}" if signal else said
    several = host in ("None assigned", "(null)") or "[" in host
    first = "" if several else host.split(",", maxsplit=1)[0]
    return Ending(state, _KINDS[state], code, first, text)


def read_sinfo(text: str, partition: Partition) -> str:
    """Why a partition takes no jobs: it is closed, or none of its nodes can be used."""
    rows = table(text, "PARTITION|AVAIL|STATE", "|", first=r".+")
    wanted = partition.queue.split(",") if partition.queue else []
    # without a name: the default partition, which sinfo marks with a star
    ours = [row for row in rows if (row[0].rstrip("*") in wanted if wanted else "*" in row[0])]
    if not ours:
        there = ", ".join(sorted({row[0].rstrip("*") for row in rows}))
        return f"Slurm has no partition {partition.queue or 'by default'}; it has: {there}"
    name = f"partition {partition.queue}" if partition.queue else "default partition"
    if all(row[1] != "up" for row in ours):
        return f"Slurm's {name} is {ours[0][1]}"
    states = {re.sub(r"\W+$", "", row[2]) for row in ours if row[1] == "up"}
    if states <= _UNUSABLE:
        return f"all nodes of Slurm's {name} are {' or '.join(sorted(states))}"
    return ""


DIALECT: Final = Dialect(
    name="slurm",
    cluster="SLURMCluster",
    keywords=keywords,
    queue=queue,
    read_queue=read_queue,
    accounts=(
        Account(lambda job: ["scontrol", "show", "job", "--oneliner", job], read_scontrol),
        Account(
            lambda job: [
                "sacct",
                f"--jobs={job}",
                "--parsable2",
                f"--format={_SACCT.replace('|', ',')}",
            ],
            read_sacct,
        ),
    ),
    gate=Gate(["sinfo", "--all", "--format=%P|%a|%T"], read_sinfo),
    job_variable="SLURM_JOB_ID",
    unknown_host=r"Invalid node name",
    end_variable="SLURM_JOB_END_TIME",  # not in all versions
    clean=r"SLURM_(?!CONF)|SLURMD_|S(ALLOC|BATCH|RUN|QUEUE|INFO|ACCT|CANCEL)_",
)
