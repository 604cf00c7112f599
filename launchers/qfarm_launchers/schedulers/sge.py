"""Grid Engine (SGE, Son of Grid Engine, Univa, Altair): qsub, qstat, qacct."""

import re
from collections.abc import Iterator
from signal import SIGKILL, SIGTERM, SIGUSR2
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, fromstring

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
    first_line,
    has,
    number,
)
from qfarm_schemas.config import Partition

_SIGNALS: Final = 128
"""What Grid Engine adds to the number of the signal that ended a job."""

_ENDED: Final = tuple(_SIGNALS + number for number in (SIGKILL, SIGTERM, SIGUSR2))
"""Exit codes of jobs that were ended; the last by the notice of it."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""No sign of XML; the name of a job may have one."""


def keywords(partition: Partition, order: JobOrder, size: Size) -> dict[str, Any]:
    """Cores by a parallel environment, whose name only the user knows; memory likewise.

    Raises
    ------
    ConfigError
        More than one core or node, and no parallel environment.
    """
    environment = any(line.split()[0] == "-pe" for line in partition.directives)
    if (size.cores > 1 or size.nodes > 1) and not environment:
        wanted = size.cores * size.nodes
        raise ConfigError(
            f"partition {partition.name!r} needs {wanted} cores on {size.nodes} node(s), and Grid "
            "Engine gives more than one only through a parallel environment, which each site "
            "names itself",
            f'Add directives = ["-pe NAME {wanted}"] to it; `qconf -spl` lists the names.',
        )
    lines = ["-S /bin/bash", f'-o "{order.log}"', "-r n"]  # else the queue's shell, often csh
    lines += ["-notify"]  # else it kills at once, and attempts are not handed back
    if order.exclude:
        lines += [f"-l hostname=!({'|'.join(order.exclude)})"]
    gpus = size.gpus and not has(partition, "gpu")
    return {
        "queue": partition.queue,
        "project": partition.account,
        "resource_spec": f"gpu={size.gpus}" if gpus else None,
        "job_extra_directives": [*lines, *partition.directives],
    }


def queue(user: str, ids: tuple[str, ...]) -> list[str]:
    """Jobs of a user; the plain list cuts names off."""
    return ["qstat", "-u", user, "-xml"]


def read_queue(text: str) -> dict[str, Queued]:
    """Jobs by id."""
    try:
        root = fromstring(_CONTROL.sub("", text))  # noqa: S314 (the scheduler's own)
    except ParseError:
        raise UnreadableError(f"XML expected: {first_line(text)!r}") from None
    if root.tag != "job_info":
        raise UnreadableError(f"job_info expected: {root.tag!r}")
    return {job.id: job for job in _queued(root) if job.id}


def _queued(root: Element) -> Iterator[Queued]:
    for job in root.iter("job_list"):
        state = job.findtext("state", "").strip()
        place = job.findtext("queue_name") or ""
        yield Queued(
            id=job.findtext("JB_job_number", ""),
            name=job.findtext("JB_name", ""),
            state=_state(state),
            reason=f"state {state}: qstat -j says why" if "E" in state else "",
            host=place.partition("@")[2],
        )


def _state(letters: str) -> QueueState:
    """Letters as of qstat: d deleted, E error, h held, q queued, w waits, r runs, t starts."""
    if "d" in letters:
        return QueueState.ENDING
    if re.search("[EhsSTN]", letters):
        return QueueState.OTHER
    if letters in ("r", "t", "Rr", "Rt"):
        return QueueState.RUNNING
    return QueueState.PENDING if "q" in letters else QueueState.OTHER


def read_account(text: str) -> Ending | None:
    """What ``qacct`` says of a job; the accounts lag by seconds."""
    blocks = re.split(r"^=+\s*$", text, flags=re.MULTILINE)
    facts = dict(re.findall(r"^(\S+)\s+(.*?)\s*$", blocks[-1], flags=re.MULTILINE))
    if "exit_status" not in facts or "failed" not in facts:
        return None
    code = number(next(iter(facts["exit_status"].split()), ""))
    kind = _kind(code, facts)
    said = f"failed {facts['failed']}, exit_status {facts['exit_status']}"
    return Ending(facts["failed"], kind, code, facts.get("hostname", ""), said)


def _kind(code: int | None, facts: dict[str, str]) -> EndingKind:
    failed = facts["failed"]
    limit = re.search(r"h_rt=(\d{1,15})", facts.get("category", ""))
    used = re.match(r"\d{1,15}", facts.get("ru_wallclock", ""))
    if limit and used and code and int(used[0]) >= int(limit[1]):
        return EndingKind.TIMEOUT
    if "h_vmem" in failed and "h_rt" not in failed:
        return EndingKind.OUT_OF_MEMORY
    if "deleted_by" in facts and facts["deleted_by"] not in ("NONE", "undefined"):
        return EndingKind.CANCELLED
    if code in _ENDED:
        return EndingKind.CANCELLED
    if failed.split()[:1] not in (["0"], ["100"]):
        return EndingKind.NODE_FAILURE  # it could not be set up: prolog, shell, folders
    return by_exit(code)


DIALECT: Final = Dialect(
    name="sge",
    cluster="SGECluster",
    keywords=keywords,
    queue=queue,
    read_queue=read_queue,
    accounts=(Account(lambda job: ["qacct", "-j", job], read_account),),
    job_variable="JOB_ID",
)
