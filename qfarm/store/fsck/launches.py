"""FireWorks' launches: listed by their firework, there, and in its state."""

from collections.abc import Iterator
from datetime import datetime

from qfarm.store import documents, launches
from qfarm.store.codec import decode
from qfarm.store.connection import Document
from qfarm.store.fsck.changes import Change, Insert, Update
from qfarm.store.fsck.model import (
    Facts,
    Finding,
    Found,
    Group,
    Stage,
    archived,
    current,
    integer,
    moment,
)
from qfarm.store.fsck.states import UNDER_WAY
from qfarm.store.fsck.tools import Tools, move, new_id, set_aside, stage_of
from qfarm.store.fsck.workflows import just_claimed
from qfarm.store.lease import Lease, read_lease
from qfarm_schemas.attempt import Worker

_FOUND = "the launch was found running while its stage was not, by `qfarm fsck`"


def one_launch(group: Group, facts: Facts) -> Iterator[Found]:
    """Stages whose launch FireWorks would take for another state."""
    for stage in group.stages:
        state, ids = stage.state, stage.document.get("launches")
        if state in ("READY", "WAITING"):
            if ids:
                yield Found(stage.key, f"it is {state}, but has launch {_few(ids)}")
        elif state == "COMPLETED":
            if not isinstance(ids, list) or len(ids) != 1 or _state(stage, ids[0]) != state:
                yield Found(stage.key, f"it is done, but launch {_few(ids)} does not say so")
        elif state == "RUNNING" and (held := _lease_launch(stage)) is not None:
            if ids != [held]:
                yield Found(stage.key, f"it runs launch {held}, but lists {_few(ids)}")
            elif _state(stage, held) != state and not _settling(stage, held, facts):
                yield Found(stage.key, f"it runs, but launch {held} does not say so")


def one_launch_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Put old launches aside; write the one that belongs to the lease or the accepted attempt."""
    stage = stage_of(group, finding)
    if stage.state in ("READY", "WAITING"):
        return [move(stage, str(stage.state), tools, **set_aside(stage))]
    if stage.state == "RUNNING":
        return _running_again(stage)
    return _completed_again(stage, tools)


def _running_again(stage: Stage) -> list[Change]:
    lease = read_lease(stage.document.get("lease"))
    if not isinstance(lease, Lease):
        return []
    made = launches.running(stage.fw_id, lease)
    return [_listing(stage, lease.launch), _written(stage, lease.launch, made)]


def _completed_again(stage: Stage, tools: Tools) -> list[Change]:
    attempt = next(iter(stage.accepted), None)
    if attempt is None:
        return []
    number = _launch_of(stage, attempt)
    number = next(tools.launch_ids) if number is None else number
    made = _ended(stage, attempt, number, tools.now)
    return [_listing(stage, number), _written(stage, number, made)]


def _launch_of(stage: Stage, attempt: Document) -> int | None:
    """The launch that an attempt was, as far as anybody knows."""
    own = attempt.get("store")
    said = integer(own.get("launch")) if isinstance(own, dict) else -1
    known = [number for number in (said, *reversed(stage.listed)) if number in stage.launches]
    return known[0] if known else None


def _ended(stage: Stage, attempt: Document, number: int, now: datetime) -> Document:
    """A launch that gave the accepted result."""
    begun = moment(attempt.get("started")) or now
    ended = moment(attempt.get("finished")) or now
    try:
        worker = decode(Worker, attempt["worker"])
    except (ValueError, LookupError):
        worker = Worker(name="unknown", host="unknown", pid=0, started=begun)
    data = {"attempt": attempt.get("number"), "outcome": "success"}
    lease = _lease(worker, number, begun, ended)
    return launches.ended(stage.fw_id, lease, "COMPLETED", ended, data)


def _lease(worker: Worker, launch: int, begun: datetime, ended: datetime) -> Lease:
    """What a launch is made from, when its own lease is gone."""
    return Lease(
        token="",
        worker=worker,
        seconds=1.0,
        number=1,
        launch=launch,
        claimed=begun,
        expires=ended,
    )


def _listing(stage: Stage, number: int) -> Update:
    before = sorted(set(stage.listed) - {number})
    fields = {"launches": [number], "archived_launches": before}
    return Update("fireworks", stage.document["_id"], fields)


def _written(stage: Stage, number: int, made: Document) -> Change:
    there = stage.launches.get(number)
    if there is None:
        return Insert("launches", made | {"_id": new_id()})
    fields = {name: made[name] for name in _STATE_FIELDS if name in made}
    return Update("launches", there["_id"], fields)


_STATE_FIELDS = ("state", "action", "time_end", "runtime_secs", "state_history")


def ended(group: Group, _: Facts) -> Iterator[Found]:
    """Launches that run while their stage does not, or runs another."""
    for stage in group.stages:
        for number, launch in stage.launches.items():
            if launch.get("state") in UNDER_WAY and (
                stage.state != "RUNNING" or number not in current(stage.document)
            ):
                yield Found(stage.key, f"launch {number} runs, but the stage does not run it")


def ended_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """End these launches as failed."""
    stage = stage_of(group, finding)
    running = current(stage.document) if stage.state == "RUNNING" else []
    return [
        _failed(stage, launch, tools.now)
        for number, launch in stage.launches.items()
        if launch.get("state") in UNDER_WAY and number not in running
    ]


def _failed(stage: Stage, launch: Document, now: datetime) -> Update:
    begun = moment(launch.get("time_start")) or now
    worker = Worker(name="unknown", host="unknown", pid=0, started=begun)
    lease = _lease(worker, launch["launch_id"], begun, now)
    data = documents.failure_data(_FOUND)
    made = launches.ended(stage.fw_id, lease, "FIZZLED", now, data)
    return Update("launches", launch["_id"], {name: made[name] for name in _STATE_FIELDS})


def listed(group: Group, facts: Facts) -> Iterator[Found]:
    """Launches that are listed and not there, or there and not listed."""
    for stage in group.stages:
        ids = stage.listed
        if len(ids) == len(stage.launches) and all(number in stage.launches for number in ids):
            continue
        missing = [n for n in ids if n not in stage.launches and not _settling(stage, n, facts)]
        if missing:
            yield Found(stage.key, f"launch {_few(missing)} is not there")
        elif not stage.launches.keys() <= set(ids):
            yield Found(stage.key, f"launch {_few(set(stage.launches) - set(ids))} is not listed")
        elif len(set(ids)) != len(ids):
            yield Found(stage.key, "a launch is listed twice")


def listed_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """List what is there: the current launch as it is, all others as earlier ones."""
    stage = stage_of(group, finding)
    there = set(stage.launches)
    held = {_lease_launch(stage)} if stage.state == "RUNNING" else set()
    now = [number for number in current(stage.document) if number in there | held]
    now = list(dict.fromkeys(now))
    before = sorted((there | (set(archived(stage.document)) & there)) - set(now))
    fields = {"launches": now, "archived_launches": before}
    return [Update("fireworks", stage.document["_id"], fields)]


def _settling(stage: Stage, number: int, facts: Facts) -> bool:
    """Whether the launch of a claim may still be on its way."""
    return (
        stage.fresh
        and number == _lease_launch(stage)
        and number not in stage.launches
        and just_claimed(stage, facts)
    )


def _lease_launch(stage: Stage) -> int | None:
    lease = stage.document.get("lease")
    launch = lease.get("launch") if isinstance(lease, dict) else None
    return launch if type(launch) is int else None


def _state(stage: Stage, number: object) -> object:
    launch = stage.launches.get(integer(number))
    return None if launch is None else launch.get("state")


def _few(ids: object) -> str:
    if not isinstance(ids, list | set):
        return "nothing"
    shown = ", ".join(str(item) for item in list(ids)[:4])
    return shown or "none"
