"""The queue: take stages under a lease, keep the lease, refuse what is not qfarm's own.

A claim is one atomic update that makes the first ready stage RUNNING under a lease with a new
fencing token. Then the entry is examined; what is not qfarm's own is failed under that token. What
FireWorks shows of a running stage, its launch and the state of its workflow, is written with the
first sign of life, so attempts that are over before it cost nothing. Until then a crash of mongod
may undo the claim: then the stage is ready, and its worker's token is not valid any more.

All times come from the database's clock, so the clocks of the nodes do not matter.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from secrets import randbelow
from typing import Final
from uuid import uuid4

from bson.binary import Binary
from pymongo import ReturnDocument

from qfarm.store import documents, histories, launches
from qfarm.store.codec import encode
from qfarm.store.connection import Connection, Document, Documents, Transaction
from qfarm.store.contents import Contents
from qfarm.store.entry import Foreign
from qfarm.store.expressions import from_now
from qfarm.store.launches import LaunchIds
from qfarm.store.lease import Lease, read_lease
from qfarm.store.protocol import Claim, Refusal
from qfarm.store.ready import ORDER, SEEN, fitting, ready
from qfarm.store.tasks import Tasks
from qfarm.store.transitions import Transition, archived, moved
from qfarm.store.wish import ANYTHING, SIGHT, Wish
from qfarm_schemas.attempt import Attempt, Rung, Worker

_REFUSED: Final = "it was not run: see what `qfarm fsck` says, and who else writes to this database"

_FURTHER: Final = 4
"""How many times its batch a worker looks ahead when others were faster."""

_GLANCE: Final = 32
"""Ready stages that are looked through at first for one that fits."""

_SPARE: Final = 8
"""Of those that fit, how many a claim may choose from, as others may be faster."""

_CALM: Final = ("READY", "RUNNING")
"""States of a workflow that becomes RUNNING when one of its fireworks does."""

_NOW_AS_TEXT: Final = {
    "$dateToString": {"date": "$$NOW", "format": "%Y-%m-%dT%H:%M:%S.%L000+00:00"}
}
"""Expression: now, as `documents.iso` writes it."""

_MOST: Final = 1_000_000
"""Attempts at a stage; a counter beyond it was written by other hands."""


class Queue:
    """Claims of one connection."""

    def __init__(self, connection: Connection, contents: Contents) -> None:
        self._connection = connection
        self._tasks = Tasks(connection, contents)
        self._ids = LaunchIds(connection)
        self._crowded = False

    def claim(
        self, worker: Worker, lease_seconds: float, wish: Wish = ANYTHING
    ) -> Claim | Refusal | None:
        """See `Store.claim`."""
        query = ready(worker.partition, wish)
        while (among := self._among(query, wish)) is not None:
            launch = self._ids.take(1)
            taken = self._take(worker, lease_seconds, launch[0], among)
            if taken is None:
                self._ids.give_back(launch)
                if among is query:
                    break
                continue  # others were faster
            found = self.settle([taken], worker)
            if found:
                return found[0]
        return None

    def claim_many(
        self, worker: Worker, lease_seconds: float, limit: int, wish: Wish = ANYTHING
    ) -> tuple[Claim | Refusal, ...]:
        """See `Store.claim_many`."""
        while candidates := self._candidates(worker, limit, wish):
            taken = self._take_many(worker, lease_seconds, candidates)
            found = self.settle(taken, worker)
            if found:
                return tuple(found)
        return ()

    def heartbeat(self, claim: Claim, lease_seconds: float, rung: Rung | None) -> bool:
        """See `Store.heartbeat`."""
        changes: Document = {
            "lease.expires": from_now(lease_seconds),
            "lease.seconds": lease_seconds,
        }
        if rung is not None:
            changes["lease.rung"] = {"$literal": encode(rung)}
        fireworks = self._connection.volatile("fireworks")
        held = self._connection.retry(lambda: self._prolong(fireworks, claim, changes))
        if held is None:
            return False
        _, lease = held
        return self._connection.retry(lambda: self._ping(lease)) or self._show(claim, changes)

    def refuse(self, query: Document, token: str, foreign: Foreign) -> Refusal | None:
        """Fail the firework of a query for good and note it under the token, once."""
        return self._connection.transact(
            lambda transaction: self._put_out(transaction, query, token, foreign)
        )

    def settle(self, taken: Sequence[Document], worker: Worker) -> list[Claim | Refusal]:
        """Hand out what was taken; refuse what is foreign, put back to done what has its record."""
        found: list[Claim | Refusal] = []
        for document, task in zip(taken, self._tasks.read(taken), strict=True):
            lease = read_lease(document.get("lease"))
            if isinstance(lease, Foreign):  # pragma: no cover - it was written a moment ago
                raise RuntimeError(lease.reason)
            if isinstance(task, Foreign):
                refusal = self.refuse(_held(document, lease), lease.token, task)
                found += [] if refusal is None else [refusal]
            elif (accepted := histories.accepted(task.attempts)) is not None:
                again = partial(self._complete_again, document, lease, accepted)
                self._connection.transact(again)
            else:
                found.append(task.claim(lease, worker))
        return found

    def _among(self, query: Document, wish: Wish) -> Document | None:
        """Query of the stages the first of which is to be taken; None where none fits."""
        if wish.fits is None:
            return query
        found = self._look(query, 1, wish)[:_SPARE]
        return (
            {"_id": {"$in": [item["_id"] for item in found]}, "state": "READY"} if found else None
        )

    def _look(self, query: Document, enough: int, wish: Wish) -> list[Document]:
        """The first of the queue that fit, looking as far as it takes to find enough of them.

        Beyond the first `SIGHT` of the queue any that fit are enough.
        """
        for sight in sorted({min(wish.sight, max(_GLANCE, enough)), wish.sight}):
            look = partial(self._look_through, query, enough, wish, sight)
            fits, seen = self._connection.retry(look)
            if len(fits) >= enough or seen < sight:
                break
        return fits

    def _look_through(
        self, query: Document, enough: int, wish: Wish, sight: int
    ) -> tuple[list[Document], int]:
        """Those of the next `sight` that fit, page by page until they do; how many were seen."""
        fits: list[Document] = []
        seen = 0
        fireworks = self._connection["fireworks"]
        with fireworks.find(query, SEEN, wish.skip, sight, sort=ORDER, batch_size=SIGHT) as cursor:
            while page := list(islice(cursor, SIGHT)):
                seen += len(page)
                fits += fitting(page, wish)
                if fits and (len(fits) >= enough or seen >= SIGHT):
                    break
        return fits, seen

    def _take(
        self, worker: Worker, lease_seconds: float, launch: int, query: Document
    ) -> Document | None:
        """Make the first ready stage of a query RUNNING; as it is then."""
        token = uuid4().hex
        change = self._leased(worker, lease_seconds, token, launch)
        fireworks = self._connection.volatile("fireworks")
        hint = "_id_" if "_id" in query else None
        again = False

        def take() -> Document | None:
            nonlocal again
            if again:  # the acknowledgement was lost: it may have been taken
                before = fireworks.find_one({"state": "RUNNING", "lease.token": token})
                if before is not None:
                    return before
            again = True
            return fireworks.find_one_and_update(
                query, change, sort=ORDER, return_document=ReturnDocument.AFTER, hint=hint
            )

        return self._connection.retry(take)

    def _candidates(self, worker: Worker, limit: int, wish: Wish) -> list[Document]:
        """Ids of the first ready stages, which others may take meanwhile.

        Where many ask at once they would all go for the same ones; then each looks a little further
        among those of the same priority.
        """
        sight = limit * _FURTHER if self._crowded else limit
        query = ready(worker.partition, wish)
        if wish.fits is None:
            fireworks, fields = self._connection["fireworks"], {"spec._priority": 1}
            found = self._connection.retry(
                lambda: list(fireworks.find(query, fields).sort(ORDER).limit(sight))
            )
        else:
            found = self._look(query, sight, wish)[:sight]
        alike = [item for item in found if _urgency(item) == _urgency(found[0])]
        begin = randbelow(len(alike) - limit + 1) if len(alike) > limit else 0
        return found[begin : begin + limit]

    def _take_many(
        self, worker: Worker, lease_seconds: float, candidates: Sequence[Document]
    ) -> list[Document]:
        """Make these RUNNING, as far as they are still ready; those that were got."""
        token = uuid4().hex
        identities = [item["_id"] for item in candidates]
        launch = _of_each(identities, self._ids.take(len(identities)))
        own = {"$concat": [token, ".", {"$toString": launch}]}
        change = self._leased(worker, lease_seconds, own, launch)
        fireworks, chosen = self._connection.volatile("fireworks"), {"_id": {"$in": identities}}
        ready = chosen | {"state": "READY"}
        mine = chosen | {"state": "RUNNING", "lease.token": beginning_with(token)}
        self._connection.retry(lambda: fireworks.update_many(ready, change))
        found = self._connection.retry(lambda: list(fireworks.find(mine)))
        self._crowded = 2 * len(found) < len(identities)
        return sorted(found, key=lambda item: identities.index(item["_id"]))

    def _leased(
        self, worker: Worker, seconds: float, token: str | Document, launch: int | Document
    ) -> list[Document]:
        """Pipeline that makes a firework RUNNING, whatever others have made of it."""
        lease = {
            "token": token,
            "worker": {"$literal": encode(worker)},
            "seconds": {"$literal": seconds},
            "number": _next("$spec.qfarm.attempts"),
            "launch": launch,
            "claimed": "$$NOW",
            "expires": from_now(seconds),
            "session": Binary.from_uuid(self._connection.session_id),
        }
        before = {"$setUnion": [_list("$archived_launches"), _list("$launches")]}
        changes: Document = {
            "state": "RUNNING",
            "updated_on": _NOW_AS_TEXT,
            "lease": lease,
            "launches": [launch],
            "archived_launches": before,
        }
        return [{"$unset": "lease"}, {"$set": changes}, {"$unset": ["failure", "hold"]}]

    def _show(self, claim: Claim, changes: Document) -> bool:
        """Tell FireWorks' collections that it runs; False if it does not.

        The claim is made durable first: a crash of mongod must not leave a launch that runs
        of a stage that is ready.
        """
        fireworks, workflows = self._connection["fireworks"], self._connection["workflows"]
        held = self._connection.retry(lambda: self._prolong(fireworks, claim, changes))
        if held is None:
            return False
        fw_id, lease = held
        launches.write(self._connection, launches.running(fw_id, lease))
        query, change = _workflow_runs(fw_id, _last_sign(lease))
        done = self._connection.retry(lambda: workflows.update_one(query, change))
        if not done.matched_count:
            self._connection.transact(lambda t: self._refresh(t, fw_id))
        return True

    def _refresh(self, transaction: Transaction, fw_id: int) -> None:
        change = Transition(self._connection, transaction)
        head = change.head({"fw_id": fw_id})
        if head is not None:
            change.refresh([head["fw_id"]], head["now"])

    def _complete_again(
        self, document: Document, lease: Lease, accepted: Attempt, transaction: Transaction
    ) -> None:
        """Put a stage that has its record, but was made ready by other hands, back to done."""
        change = Transition(self._connection, transaction)
        head = change.head(_held(document, lease))
        if head is None:
            return
        identity = histories.attempt_id(accepted.key, accepted.number)
        attempt = self._connection[histories.ATTEMPTS].find_one(
            {"_id": identity}, {"store": 1}, session=change.session
        )
        own = attempt.get("store") if attempt else None
        launch = own.get("launch") if isinstance(own, dict) else None
        before = set(archived(head)["archived_launches"]) - {launch, lease.launch}
        last = [launch] if isinstance(launch, int) else []
        fields = {"launches": last, "archived_launches": sorted(before)}
        change.move(moved(head, "COMPLETED", unset=["failure", "lease"], **fields))
        change.release_next(head)
        change.refresh([head["fw_id"]], head["now"])

    def _put_out(
        self, transaction: Transaction, query: Document, token: str, foreign: Foreign
    ) -> Refusal | None:
        """Fail an entry that is not qfarm's own and note it."""
        change = Transition(self._connection, transaction)
        refusals = self._connection["refusals"]
        head = change.head(query)
        noted = refusals.find_one({"_id": token}, session=change.session)
        if noted is not None:
            return Refusal(noted["fw_id"], noted["reason"], noted["at"])
        if head is None:
            return None
        number = head.get("fw_id")
        refusal = Refusal(number if isinstance(number, int) else -1, foreign.reason, head["now"])
        failure = {"reason": f"refused: {foreign.reason}", "remedy": _REFUSED}
        data = documents.failure_data(failure["reason"], _REFUSED)
        kept: Document = {}
        if not change.end_launch(head, "FIZZLED", data):
            change.fizzle_launches(head)
            kept = archived(head)
        change.move(moved(head, "FIZZLED", unset=["lease"], failure=failure, **kept))
        note = {"_id": token, "fw_id": refusal.fw_id, "reason": refusal.reason, "at": refusal.at}
        refusals.insert_one(note, session=change.session)
        change.refresh([refusal.fw_id], head["now"])
        return refusal

    def _prolong(
        self, fireworks: Documents, claim: Claim, changes: Document
    ) -> tuple[int, Lease] | None:
        """Number and lease of the firework; None if the claim is not valid any more."""
        found = fireworks.find_one_and_update(
            held_by(claim),
            [{"$set": changes}],
            {"fw_id": 1, "lease": 1},
            return_document=ReturnDocument.AFTER,
        )
        lease = read_lease(found["lease"]) if found else None
        return (found["fw_id"], lease) if found and isinstance(lease, Lease) else None

    def _ping(self, lease: Lease) -> bool:
        """Show the sign of life to FireWorks too, whose `detect_lostruns` looks for it."""
        done = self._connection.volatile("launches").update_one(
            {"launch_id": lease.launch, "state": "RUNNING"},
            {"$set": {"state_history.0.updated_on": _last_sign(lease)}},
        )
        return bool(done.matched_count)


def held_by(claim: Claim) -> Document:
    """Query of the stage that a claim is about, as long as the claim is valid."""
    return {"spec.qfarm.key": claim.key, "state": "RUNNING", "lease.token": claim.token}


def beginning_with(token: str) -> Document:
    """Condition on the tokens of a batch: its own, a dot, and what tells them apart."""
    return {"$gt": f"{token}.", "$lt": f"{token}/"}


def _urgency(document: Document) -> object:
    spec = document.get("spec")
    return spec.get("_priority") if isinstance(spec, dict) else spec


def _held(document: Document, lease: Lease) -> Document:
    return {"_id": document["_id"], "state": "RUNNING", "lease.token": lease.token}


def _of_each(identities: Sequence[object], launches: Sequence[int]) -> Document:
    """Expression: the launch id of the firework that it is evaluated for."""
    position = {"$indexOfArray": [{"$literal": identities}, "$_id"]}
    return {"$arrayElemAt": [launches, position]}


def _last_sign(lease: Lease) -> str:
    return documents.iso(lease.expires - timedelta(seconds=lease.seconds))


def _workflow_runs(fw_id: int, now: str) -> tuple[Document, Document]:
    """Query and change of a workflow in which no lpad command is at work, and nothing failed."""
    state = f"fw_states.{fw_id}"
    query = {
        "nodes": fw_id,
        "state": {"$in": _CALM},
        state: {"$in": _CALM},
        "locked": {"$exists": False},
    }
    return query, {"$set": {"state": "RUNNING", state: "RUNNING", "updated_on": now}}


def _next(count: str) -> Document:
    """Expression: one more than a counter, or 1 if it is none."""
    whole = {"$in": [{"$type": count}, ["int", "long"]]}
    some = {"$and": [whole, {"$gte": [count, 0]}, {"$lt": [count, _MOST]}]}
    return {"$cond": [some, {"$add": [count, 1]}, 1]}


def _list(field: str) -> Document:
    """Expression: a field if it is a list, or an empty one."""
    return {"$cond": [{"$isArray": field}, field, []]}
