"""OAR: oarsub, oarstat."""

import json
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
    text_of,
)
from qfarm_schemas.config import Partition

_STATES: Final = {
    "Waiting": QueueState.PENDING,
    "toLaunch": QueueState.PENDING,
    "Launching": QueueState.PENDING,
    "toAckReservation": QueueState.PENDING,
    "Running": QueueState.RUNNING,
    "Finishing": QueueState.ENDING,
    "toError": QueueState.ENDING,
}
_ENDED: Final = ("Terminated", "Error")


def keywords(partition: Partition, order: JobOrder, size: Size) -> dict[str, Any]:
    """Cores of each node, or GPUs and the cores that come with them; one line of properties.

    Memory is not asked for: its property has another name at each site; the user gives it as a
    directive ``-p``.
    """
    gpus = size.gpus and not has(partition, "gpu")
    what = f"gpu={size.gpus}" if gpus else f"core={size.cores}"
    lines = [f'-O "{order.log}"', f'-E "{order.log}"', *_properties(partition, order)]
    return {
        "queue": partition.queue,
        "project": partition.account,
        "resource_spec": f"/nodes={size.nodes}/{what}",
        "memory_per_core_property_name": "not_applicable",
        "job_extra_directives": lines,
    }


def _properties(partition: Partition, order: JobOrder) -> list[str]:
    """The user's directives, with the hosts left out added to their last ``-p``: OAR reads one."""
    own = [line for line in partition.directives if not line.startswith("-p ")]
    given = [line[3:].strip() for line in partition.directives if line.startswith("-p ")]
    if not order.exclude:
        return list(partition.directives)
    hosts = ", ".join(f"'{host}'" for host in order.exclude)
    left = f"network_address NOT IN ({hosts})"
    if not given:
        return [*own, f'-p "{left}"']
    before = given[-1]
    if before[:1] in "'\"" and before[-1:] == before[:1]:
        before = before[1:-1]
    return [*own, f'-p "({before}) AND {left}"']


def queue(user: str, ids: tuple[str, ...]) -> list[str]:
    """Jobs of a user that have not ended."""
    return ["oarstat", "-u", user, "-J"]


def read_queue(text: str) -> dict[str, Queued]:
    """Jobs by id."""
    return {
        job: Queued(
            id=job,
            name=text_of(facts, "name"),
            state=_STATES.get(text_of(facts, "state"), QueueState.OTHER),
            reason=text_of(facts, "message"),
            host=_host(facts),
        )
        for job, facts in _jobs(text).items()
        if text_of(facts, "state") not in _ENDED
    }


def _jobs(text: str) -> dict[str, dict[str, Any]]:
    if not text.strip():
        return {}  # some versions say nothing when there is nothing
    try:
        found = json.loads(text, strict=False)  # a job's name may have control signs
    except ValueError:
        raise UnreadableError(f"JSON expected: {first_line(text)!r}") from None
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise UnreadableError(f"jobs by id expected: {first_line(text)!r}")
    return found


def _host(facts: dict[str, Any]) -> str:
    hosts = facts.get("assigned_network_address")
    return str(hosts[0]) if isinstance(hosts, list) and hosts else ""


def read_account(text: str) -> Ending | None:
    """What ``oarstat -j`` says of a job that has ended."""
    facts = next(iter(_jobs(text).values()), {})
    state = text_of(facts, "state")
    if state not in _ENDED:
        return None
    wait = number(text_of(facts, "exit_code").split(" ")[0])
    code = None if wait is None else wait >> 8  # what wait() gave
    events = json.dumps(facts.get("events") or [])
    said = f"{state}, exit code {code}"
    message = text_of(facts, "message")
    return Ending(
        state,
        _kind(state, code, events),
        code,
        _host(facts),
        f"{said}, {message}" if message else said,
    )


def _kind(state: str, code: int | None, events: str) -> EndingKind:
    if "WALLTIME" in events and (code or state == "Error"):
        return EndingKind.TIMEOUT
    if "FRAG" in events:
        return EndingKind.CANCELLED
    if "BESTEFFORT_KILL" in events:
        return EndingKind.PREEMPTED
    if state == "Error" and code is None:
        return EndingKind.NODE_FAILURE
    return by_exit(code)


DIALECT: Final = Dialect(
    name="oar",
    cluster="OARCluster",
    keywords=keywords,
    queue=queue,
    read_queue=read_queue,
    accounts=(Account(lambda job: ["oarstat", "-j", job, "-J"], read_account),),
    job_variable="OAR_JOB_ID",
)
