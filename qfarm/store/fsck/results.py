"""Attempts and records: an accepted stage has one successful attempt and one record."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from qfarm.store import histories
from qfarm.store.codec import decode, encode
from qfarm.store.connection import Document
from qfarm.store.fsck.changes import Change, Insert, Update
from qfarm.store.fsck.model import Facts, Finding, Found, Group, Stage, integer, status
from qfarm.store.fsck.tools import (
    Tools,
    drop_record,
    move,
    stage_of,
    start_over,
)
from qfarm.store.histories import ATTEMPTS, RECORDS
from qfarm_schemas.attempt import Attempt, Failure, Outcome, Rung, Success, Worker
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.record import Provenance

_REMEDY = "qfarm computes the stage again; nothing needs to be done."
_LOST_ATTEMPT = "the document of this attempt was lost; `qfarm fsck` wrote this one in its place"
_MOST = 1000  # attempts at a stage; a number beyond was not given by qfarm
_LOST_RESULT = "its result is not in the database any more, found by `qfarm fsck`"


def accepted_number(stage: Stage) -> int:
    """Number of the attempt that the record names; -1 without one."""
    provenance = (stage.record or {}).get("provenance")
    return integer(provenance.get("attempt")) if isinstance(provenance, dict) else -1


def backed(stage: Stage) -> bool:
    """Whether the record names an attempt that succeeded."""
    number = accepted_number(stage)
    return any(integer(item.get("number")) == number for item in stage.accepted)


def numbers(group: Group, _: Facts) -> Iterator[Found]:
    """Attempts that are not numbered 1, 2, ... n."""
    for stage in group.stages:
        for place, item in enumerate(stage.attempts, start=1):
            if item.get("number") != place:
                found = [item.get("number") for item in stage.attempts]
                yield Found(stage.key, f"its attempts are numbered {_few(found)}")
                break


def numbers_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Fill each gap with a failed attempt that says so, or with what the record tells of it."""
    stage = stage_of(group, finding)
    there = [integer(item.get("number")) for item in stage.attempts]
    if not all(1 <= number <= _MOST for number in there):
        return []
    gaps = set(range(1, max(there))) - set(there)
    return [Insert(ATTEMPTS, _attempt_again(stage, number, tools)) for number in sorted(gaps)]


def one_success(group: Group, _: Facts) -> Iterator[Found]:
    """More than one successful attempt, or another than the record names."""
    for stage in group.stages:
        accepted = [item for item in stage.attempts if status(item) == "success"]
        if len(accepted) > 1:
            yield Found(stage.key, f"{len(accepted)} successful attempts")
        elif stage.record is not None and not (accepted and backed(stage)):
            yield Found(
                stage.key,
                f"its record names attempt {accepted_number(stage)}, which did "
                "not succeed or is not there",
            )


def one_success_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Believe the record where the firework bears it out; else put it aside and compute again."""
    stage = stage_of(group, finding)
    number = accepted_number(stage)
    if stage.record is not None and not backed(stage):
        if _only_attempt_lost(stage, number):
            return [Insert(ATTEMPTS, _attempt_again(stage, number, tools))]
        return [drop_record(stage, "no successful attempt bears it out")]
    spare = (
        stage.accepted
        if stage.record is None
        else [item for item in stage.accepted if item.get("number") != number]
    )
    return [_failed_instead(item, "another attempt was accepted") for item in spare]


def _only_attempt_lost(stage: Stage, number: int) -> bool:
    """Whether firework and record agree that the attempt, which is missing, succeeded."""
    there = {integer(item.get("number")) for item in stage.attempts}
    return (
        stage.state == "COMPLETED"
        and number not in there
        and 1 <= number <= stage.entry.get("attempts", 0)
        and not stage.accepted
        and _provenance(stage) is not None
    )


def has_record(group: Group, _: Facts) -> Iterator[Found]:
    """Accepted stages without a record."""
    for stage in group.stages:
        if stage.record is None:
            if stage.state == "COMPLETED":
                yield Found(stage.key, "done, but it has no record")
            elif any(status(item) == "success" for item in stage.attempts):
                yield Found(stage.key, "an attempt succeeded, but it has no record")


def compute_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Make the stage ready again; what it succeeded in is lost."""
    stage = stage_of(group, finding)
    demoted: list[Change] = [_failed_instead(item, _LOST_RESULT) for item in stage.accepted]
    again = stage.state == "COMPLETED"
    return [*demoted, start_over(group, stage, tools)] if again else demoted


def is_accepted(group: Group, _: Facts) -> Iterator[Found]:
    """Records of stages that are not done."""
    for stage in group.stages:
        if stage.record is not None and stage.state not in _WITH_RECORD:
            yield Found(stage.key, f"it has a record, but is {stage.state}")


def accept_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Call the stage done if the successful attempt is there; else put the record aside."""
    stage = stage_of(group, finding)
    if not backed(stage):
        return [drop_record(stage, "no successful attempt bears it out")]
    return [move(stage, "COMPLETED", tools), *_release(group, stage, tools)]


def _release(group: Group, stage: Stage, tools: Tools) -> Iterator[Change]:
    """Make the next stage ready."""
    for other in group.stages:
        if other.entry["position"] == stage.entry["position"] + 1 and other.state == "WAITING":
            yield move(other, "READY", tools)


def in_place(group: Group, _: Facts) -> Iterator[Found]:
    """Records that exports would not find or would sort wrongly."""
    for stage in group.stages:
        if stage.record is not None:
            own = stage.record.get("store")
            if not (
                isinstance(own, dict)
                and own.get("fw_id") == stage.fw_id
                and own.get("workflow") == group.key
            ):
                yield Found(stage.key, "its record does not say to which workflow it belongs")


def into_place(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Write it there."""
    stage = stage_of(group, finding)
    before = (stage.record or {}).get("store")
    own = {"level_id": stage.entry.get("level_id"), "committed": tools.now}
    own |= before if isinstance(before, dict) else {}
    own |= {"workflow": group.key, "fw_id": stage.fw_id}
    return [Update(RECORDS, stage.key, {"store": own})]


def counted(group: Group, _: Facts) -> Iterator[Found]:
    """Stages that count their attempts wrongly."""
    for stage in group.stages:
        number = len(stage.attempts)
        said, since = stage.entry.get("attempts", 0), stage.entry.get("since", 0)
        if said != number:
            yield Found(stage.key, f"counts {said} attempts, there are {number}")
        elif not 0 <= since <= number:
            yield Found(stage.key, f"leaves out {since} attempts of {number}")


def count_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Count them."""
    stage = stage_of(group, finding)
    number = len(stage.attempts)
    since = min(max(stage.entry.get("since", 0), 0), number)
    fields = {"spec.qfarm.attempts": number, "spec.qfarm.since": since}
    return [Update("fireworks", stage.document["_id"], fields)]


def _failed_instead(attempt: Document, why: str) -> Update:
    """Turn a success into a failure of nobody's fault; the old outcome stays beside it."""
    failure = Failure(kind=FailureKind.LOST_WORKER, cause=why, remedy=_REMEDY)
    fields = {"outcome": encode(failure), "store.outcome": attempt.get("outcome")}
    return Update(ATTEMPTS, attempt["_id"], fields)


def _attempt_again(stage: Stage, number: int, tools: Tools) -> Document:
    """An attempt in place of a lost one: as the record tells it, or failed for that reason."""
    told = _provenance(stage) if number == accepted_number(stage) else None
    if told is not None and stage.state == "COMPLETED":
        worker = Worker(
            name="unknown", host=told.host, pid=0, started=_start(told), partition=told.partition
        )
        attempt = _attempt(stage, number, Success(), worker, told.rung, told.finished)
        attempt = attempt.model_copy(update={"cost": told.cost})
    else:
        worker = Worker(name="unknown", host="unknown", pid=0, started=tools.now)
        failure = Failure(kind=FailureKind.LOST_WORKER, cause=_LOST_ATTEMPT, remedy=_REMEDY)
        attempt = _attempt(stage, number, failure, worker, Rung(), tools.now)
    document = histories.attempt_document(attempt, "fsck", next(reversed(stage.listed), 0))
    document["store"]["written"] = "by qfarm fsck"
    return document


def _attempt(
    stage: Stage, number: int, outcome: Outcome, worker: Worker, rung: Rung, finished: datetime
) -> Attempt:
    return Attempt(
        key=stage.key,
        number=number,
        fragment_id=stage.entry["fragment_id"],
        stage=stage.entry["stage"],
        level_id=str(stage.entry.get("level_id")),
        rung=rung,
        worker=worker,
        started=worker.started,
        finished=finished,
        outcome=outcome,
    )


def _provenance(stage: Stage) -> Provenance | None:
    try:
        return decode(Provenance, (stage.record or {})["provenance"])
    except (ValueError, LookupError):
        return None


def _start(told: Provenance) -> datetime:
    return told.finished - timedelta(seconds=told.cost.wall_seconds)


def _few(found: list[object]) -> str:
    shown = ", ".join(map(str, found[:8]))
    return f"{shown}, ..." if len(found) > 8 else shown


_WITH_RECORD = ("COMPLETED", "ARCHIVED")
