"""The queue: take a stage under a lease, keep the lease, refuse what is not qfarm's own.

Claiming is done in two steps. An atomic update puts a short hold on the first ready stage, so that
many workers do not meet in the same document; it changes no state. The hold of a worker that dies
now is lifted by a reaper, or ends. Then the entry is examined, and one transaction makes it RUNNING
with its lease and launch, or fails it as foreign.

All times come from the database's clock, so the clocks of the nodes do not matter.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import uuid4

from pymongo import ASCENDING, DESCENDING, ReturnDocument

from qfarm.plan import stage_key
from qfarm.store import documents, histories
from qfarm.store.codec import decode, encode
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.contents import Contents
from qfarm.store.entry import Entry, Foreign, read
from qfarm.store.histories import UnreadableError
from qfarm.store.lease import Lease, read_lease
from qfarm.store.protocol import Claim, Refusal
from qfarm.store.transitions import Transition, archived, moved
from qfarm_schemas.attempt import Attempt, Rung, Worker
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment

HOLD_SECONDS: Final = 90
"""s: a stage that a worker held and died over is offered again after this, unless a reaper knows
of its death. mongod keeps the transaction of a killed process for 60 s
(transactionLifetimeLimitSeconds); whoever met its document earlier would wait for that, and all
claims with it."""

_ORDER: Final = [("spec._priority", DESCENDING), ("fw_id", ASCENDING)]
_REFUSED: Final = "it was not run; see who writes to this database besides qfarm"


@dataclass(frozen=True)
class Task:
    """A queue entry that was found to be qfarm's own."""

    entry: Entry
    fragment: Fragment
    start: Fragment
    stage: Stage
    attempts: tuple[Attempt, ...]

    @property
    def number(self) -> int:
        """Number of the next attempt."""
        return max((attempt.number for attempt in self.attempts), default=0) + 1

    def claim(self, lease: Lease, worker: Worker) -> Claim:
        """The right to make the attempt of a lease."""
        counting = (item for item in self.attempts if item.number > self.entry.since)
        return Claim(
            key=self.entry.key,
            workflow=self.entry.workflow,
            submitted=self.fragment,
            start=self.start,
            stage=self.stage,
            history=tuple(counting),
            number=lease.number,
            token=lease.token,
            worker=worker,
            claimed=lease.claimed,
            taken_from=lease.taken_from,
        )


class Queue:
    """Claims of one connection."""

    def __init__(self, connection: Connection, contents: Contents) -> None:
        self._connection = connection
        self._contents = contents

    def claim(self, worker: Worker, lease_seconds: float) -> Claim | Refusal | None:
        """See `Store.claim`."""
        while True:
            token = uuid4().hex
            held = self._connection.retry(partial(self._hold, worker, token))
            if held is None:
                return None
            found = self._settle(held, token, worker, lease_seconds)
            if found is not None:
                return found

    def heartbeat(self, claim: Claim, lease_seconds: float, rung: Rung | None) -> bool:
        """See `Store.heartbeat`."""
        changes: Document = {
            "lease.expires": from_now(lease_seconds),
            "lease.seconds": lease_seconds,
        }
        if rung is not None:
            changes["lease.rung"] = {"$literal": encode(rung)}
        lease = self._connection.retry(lambda: self._prolong(claim, changes))
        if not isinstance(lease, Lease):
            return False
        self._connection.retry(lambda: self._ping(lease))
        return True

    def _hold(self, worker: Worker, token: str) -> Document | None:
        mine = {"$eq": ["$hold.token", token]}
        over = {"$lt": ["$hold.until", "$$NOW"]}
        bogus = {"$gt": ["$hold.until", from_now(HOLD_SECONDS)]}
        query = {
            "state": "READY",
            "spec._category": {"$in": [None, worker.partition]},
            "$expr": {"$or": [mine, over, bogus]},
        }
        until, holder = from_now(HOLD_SECONDS), {"$literal": encode(worker)}
        hold = [{"$set": {"hold": {"token": token, "until": until, "worker": holder}}}]
        fireworks = self._connection.volatile("fireworks")
        return fireworks.find_one_and_update(
            query, hold, sort=_ORDER, return_document=ReturnDocument.AFTER
        )

    def _settle(
        self, held: Document, token: str, worker: Worker, lease_seconds: float
    ) -> Claim | Refusal | None:
        """Claim, refuse or complete what is held; None when there is nothing to hand out."""
        task = self.examine(held)
        if isinstance(task, Foreign):
            return self.refuse({"_id": held["_id"]}, token, task)
        accepted = histories.accepted(task.attempts)
        if accepted is not None:
            self._connection.transact(lambda t: self._complete_again(t, held, token, accepted))
            return None
        launch = self._connection.retry(self._next_launch)
        lease = {
            "token": token,
            "worker": encode(worker),
            "seconds": lease_seconds,
            "number": task.number,
            "launch": launch,
        }
        started = self._connection.transact(lambda t: self._start(t, held, lease, worker))
        return None if started is None else task.claim(started, worker)

    def examine(self, document: Document) -> Task | Foreign:
        """What a firework asks for, if it is qfarm's own and all it refers to is whole."""
        try:
            return self._task(document)
        except UnreadableError as error:
            return Foreign(error.what)

    def _task(self, document: Document) -> Task | Foreign:
        if not isinstance(document.get("fw_id"), int):
            return Foreign(f"document {document['_id']} of fireworks has no fw_id")
        entry = read(document.get("spec"))
        if isinstance(entry, Foreign):
            return entry
        contents = self._contents.resolve(entry, document["spec"].get("_category"))
        if isinstance(contents, Foreign):
            return contents
        fragment, stage = contents
        start = self._geometry(entry, fragment)
        if isinstance(start, Foreign):
            return start
        attempts = histories.attempts_of(self._connection, [entry.key])
        return Task(entry, fragment, start, stage, attempts)

    def _geometry(self, entry: Entry, fragment: Fragment) -> Fragment | Foreign:
        """The fragment at the geometry that the stage before accepted."""
        if entry.position == 0:
            return fragment
        before = self._contents.stage(entry.stage_ids[entry.position - 1])
        if isinstance(before, Foreign):
            return before
        key = stage_key(entry.workflow, before.name)
        found = self._connection.retry(
            lambda: self._connection[histories.RECORDS].find_one({"_id": key})
        )
        if found is None:
            return Foreign(f"the stage before it, {before.name}, has no record")
        positions = histories.read_record(found).result.positions
        if len(positions) != fragment.n_atoms:
            return Foreign(f"record {key} has {len(positions)} atoms, not {fragment.n_atoms}")
        try:
            return fragment.model_copy(update={"positions": positions})
        except ValueError as error:
            return Foreign(f"record {key} has no valid geometry: {error}"[:300])

    def _next_launch(self) -> int:
        counters = self._connection["fw_id_assigner"]
        before = counters.find_one_and_update({}, {"$inc": {"next_launch_id": 1}})
        if before is None:
            raise RuntimeError("fw_id_assigner holds no counters")
        return int(before["next_launch_id"])

    def _start(
        self, transaction: Transaction, held: Document, lease: Document, worker: Worker
    ) -> Lease | None:
        change = Transition(self._connection, transaction)
        mine = [
            {"state": "READY", "hold.token": lease["token"]},
            {"state": "RUNNING", "lease.token": lease["token"]},  # the acknowledgement was lost
        ]
        head = change.head({"_id": held["_id"], "$or": mine})
        if head is None:
            return None
        now = head["now"]
        expires = now + timedelta(seconds=lease["seconds"])
        lease = lease | {"claimed": now, "expires": expires}
        before = sorted(set(archived(head)["archived_launches"]) - {lease["launch"]})
        launches = {"launches": [lease["launch"]], "archived_launches": before}
        change.move(moved(head, "RUNNING", unset=["failure"], lease=lease, **launches))
        launch = documents.launch_running(lease["launch"], head["fw_id"], worker, now)
        self._connection["launches"].replace_one(
            {"launch_id": lease["launch"]}, launch, upsert=True, session=change.session
        )
        change.refresh([head["fw_id"]], now)
        return decode(Lease, lease)

    def _complete_again(
        self, transaction: Transaction, held: Document, token: str, accepted: Attempt
    ) -> None:
        """Put a stage that has its record, but was made ready by other hands, back to done."""
        change = Transition(self._connection, transaction)
        head = change.head({"_id": held["_id"], "state": "READY", "hold.token": token})
        if head is None:
            return
        identity = histories.attempt_id(accepted.key, accepted.number)
        attempt = self._connection[histories.ATTEMPTS].find_one(
            {"_id": identity}, {"store": 1}, session=change.session
        )
        own = attempt.get("store") if attempt else None
        launch = own.get("launch") if isinstance(own, dict) else None
        before = set(archived(head)["archived_launches"]) - {launch}
        last = [launch] if isinstance(launch, int) else []
        launches = {"launches": last, "archived_launches": sorted(before)}
        change.move(moved(head, "COMPLETED", unset=["failure", "lease"], **launches))
        change.release_next(head)
        change.refresh([head["fw_id"]], head["now"])

    def refuse(self, query: Document, token: str, foreign: Foreign) -> Refusal | None:
        """Fail the firework of a query for good and note it under the token, once."""
        return self._connection.transact(
            lambda transaction: self._put_out(transaction, query, token, foreign)
        )

    def _put_out(
        self, transaction: Transaction, query: Document, token: str, foreign: Foreign
    ) -> Refusal | None:
        """Fail an entry that is not qfarm's own and note it."""
        change = Transition(self._connection, transaction)
        refusals = self._connection["refusals"]
        head = change.head(query)
        if head is None:
            return None
        noted = refusals.find_one({"_id": token}, session=change.session)
        number = head.get("fw_id")
        refusal = Refusal(number if isinstance(number, int) else -1, foreign.reason, head["now"])
        if noted is not None:
            return refusal
        if head["state"] not in {"READY", "RUNNING"}:
            return None
        failure = {"reason": f"refused: {foreign.reason}", "remedy": _REFUSED}
        change.move(moved(head, "FIZZLED", unset=["lease"], failure=failure))
        note = {"_id": token, "fw_id": refusal.fw_id, "reason": refusal.reason, "at": refusal.at}
        refusals.insert_one(note, session=change.session)
        change.refresh([refusal.fw_id], head["now"])
        return refusal

    def _prolong(self, claim: Claim, changes: Document) -> Lease | Foreign | None:
        found = self._connection.volatile("fireworks").find_one_and_update(
            held_by(claim), [{"$set": changes}], {"lease": 1}, return_document=ReturnDocument.AFTER
        )
        return read_lease(found["lease"]) if found else None

    def _ping(self, lease: Lease) -> None:
        """Show the sign of life to FireWorks too, whose `detect_lostruns` looks for it."""
        now = lease.expires - timedelta(seconds=lease.seconds)
        self._connection.volatile("launches").update_one(
            {"launch_id": lease.launch, "state": "RUNNING"},
            {"$set": {"state_history.0.updated_on": documents.iso(now)}},
        )


def held_by(claim: Claim) -> Document:
    """Query of the stage that a claim is about, as long as the claim is valid."""
    return {"spec.qfarm.key": claim.key, "state": "RUNNING", "lease.token": claim.token}


def from_now(seconds: float) -> Document:
    """Expression: so many seconds from now."""
    return {"$add": ["$$NOW", round(seconds * 1000)]}
