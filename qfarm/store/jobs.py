"""Jobs: batch jobs of launchers, one document each, that the launcher and the job both write to.

They write different fields, so neither undoes what the other says, in whichever order they come::

    jobs: {_id: name, partition, submitted,
           noted: {state, scheduler_id, slots, host},                by the launcher
           told: {scheduler_id, slots, host, started, ends, seen, busy, attempts,
                  worked},                                            by the job
           drain, ended, why}
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import DESCENDING, ReturnDocument

from qfarm.store.connection import Connection, Document
from qfarm.store.expressions import by_database, literal, or_else
from qfarm.store.fleet import JobNote, JobState
from qfarm.store.loose import part, put, text, time, whole

JOBS: Final = "jobs"

_SHOWN: Final = 100
"""Ended jobs that are listed."""

_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


def note(connection: Connection, job: JobNote) -> None:
    """See `Fleet.note`."""
    known: Document = {
        "noted.state": job.state.value,
        "noted.scheduler_id": literal(job.scheduler_id) if job.scheduler_id else None,
        "noted.host": literal(job.host) if job.host else None,
        "noted.slots": job.slots,
    }
    changes = {name: value for name, value in known.items() if value is not None}
    changes |= _identity(job)
    if job.drain:
        changes["drain"] = True
    if job.state is JobState.ENDED:
        changes |= _ended(job.why)
    collection = connection[JOBS]
    connection.retry(lambda: put(collection, job.name, [{"$set": changes}]))


def begin(connection: Connection, job: JobNote) -> None:
    """See `Fleet.begin`."""
    told: Document = {
        "scheduler_id": literal(job.scheduler_id),
        "host": literal(job.host),
        "slots": job.slots,
        "started": "$$NOW" if job.started is None else by_database(job.started),
        "ends": None if job.ends is None else by_database(job.ends),
        "seen": "$$NOW",
        "busy": job.busy,
        "attempts": job.attempts,
    }
    # A scheduler that runs a job again does so under the same name.
    pipeline: list[Document] = [
        {"$set": {"told": told} | _identity(job)},
        {"$unset": ["ended", "why"]},
    ]
    collection = connection[JOBS]
    connection.retry(lambda: put(collection, job.name, pipeline))


def beat(connection: Connection, name: str, busy: int, attempts: int, worked: bool) -> bool:
    """See `Fleet.beat`."""
    changes: Document = {"told.seen": "$$NOW", "told.busy": busy, "told.attempts": attempts}
    changes["told.worked"] = worked
    collection = connection.volatile(JOBS)
    found = connection.retry(
        lambda: collection.find_one_and_update(
            {"_id": name},
            [{"$set": changes}],
            {"drain": 1, "ended": 1},
            return_document=ReturnDocument.AFTER,
        )
    )
    return found is None or not (found.get("drain") or found.get("ended"))


def end(connection: Connection, name: str, why: str) -> None:
    """See `Fleet.end`."""
    collection = connection[JOBS]
    connection.retry(lambda: collection.update_one({"_id": name}, [{"$set": _ended(why)}]))


def drain(connection: Connection, names: Sequence[str]) -> None:
    """See `Fleet.drain`."""
    query, change = {"_id": {"$in": list(names)}}, {"$set": {"drain": True}}
    connection.retry(lambda: connection[JOBS].update_many(query, change))


def jobs(connection: Connection, partition: str, ended: bool) -> tuple[JobNote, ...]:
    """See `Fleet.jobs`."""
    collection = connection[JOBS]
    running: Document = {"partition": partition, "ended": None}
    over: Document = {"partition": partition, "ended": {"$gt": _LONG_AGO}}
    found = connection.retry(lambda: list(collection.find(running)))
    if ended:
        last = [("ended", DESCENDING)]
        found += connection.retry(lambda: list(collection.find(over, sort=last, limit=_SHOWN)))
    return _notes(found)


def named(connection: Connection, names: Sequence[str]) -> tuple[JobNote, ...]:
    """See `Fleet.named`."""
    query = {"_id": {"$in": list(names)}}
    return _notes(connection.retry(lambda: list(connection[JOBS].find(query))))


def _notes(found: Iterable[Mapping[str, Any]]) -> tuple[JobNote, ...]:
    notes = [_note(item) for item in found if isinstance(item["_id"], str)]
    return tuple(sorted(notes, key=lambda job: (job.submitted or _LONG_AGO, job.name)))


def _identity(job: JobNote) -> Document:
    return {"partition": literal(job.partition), "submitted": or_else("submitted", "$$NOW")}


def _ended(why: str) -> Document:
    """Changes of a job that has ended; the first end and the first reason stay."""
    without: Document = {"$in": [or_else("why", ""), [""]]}
    return {
        "ended": or_else("ended", "$$NOW"),
        "why": {"$cond": [without, literal(why), "$why"]},
    }


def _note(document: Mapping[str, Any]) -> JobNote:
    noted, told = part(document, "noted"), part(document, "told")
    return JobNote(
        name=str(document["_id"]),
        partition=text(document, "partition"),
        state=_state(document, noted, told),
        scheduler_id=text(told, "scheduler_id") or text(noted, "scheduler_id"),
        host=text(told, "host") or text(noted, "host"),
        slots=whole(told, "slots") or whole(noted, "slots", 1),
        busy=whole(told, "busy"),
        submitted=time(document, "submitted"),
        started=time(told, "started"),
        ends=time(told, "ends"),
        ended=time(document, "ended"),
        seen=time(told, "seen"),
        why=text(document, "why"),
        attempts=whole(told, "attempts"),
        worked=told.get("worked") is True,
        drain=document.get("drain") is True,
    )


def _state(
    document: Mapping[str, Any], noted: Mapping[str, Any], told: Mapping[str, Any]
) -> JobState:
    if time(document, "ended") is not None:
        return JobState.ENDED
    if time(told, "started") is not None:
        return JobState.RUNNING
    named = text(noted, "state")
    return JobState(named) if named in set(JobState) else JobState.SUBMITTING
