"""Reclaim: lift the holds of dead workers and take over the leases that nobody keeps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple
from uuid import uuid4

from pymongo import ReturnDocument
from pymongo.errors import ExecutionTimeout

from qfarm.store.codec import decode, encode
from qfarm.store.connection import Connection, Document
from qfarm.store.entry import Foreign
from qfarm.store.lease import Lease, read_lease
from qfarm.store.protocol import Claim
from qfarm.store.queue import Queue, from_now
from qfarm.store.watch import Watch
from qfarm_schemas.attempt import Worker

_LIFT_MS: Final = 100
"""ms: how long lifting a hold may wait for a transaction of the dead worker. The next pass tries
again; mongod drops such a transaction after 60 s."""

Gone = Callable[[Worker], bool]


class _Sign(NamedTuple):
    """What changes when the holder of a lease gives a sign of life."""

    document: object
    token: str
    expires: datetime | None


class _Held(NamedTuple):
    """A stage that runs, as it was read."""

    document: Document
    lease: Lease | Foreign

    @property
    def sign(self) -> _Sign:
        identity = str(self.document["_id"])
        if isinstance(self.lease, Foreign):
            return _Sign(identity, self.lease.reason, None)
        return _Sign(identity, self.lease.token, self.lease.expires)

    @property
    def unmoved(self) -> Document:
        """Query of the stage, as long as it is as it was read."""
        lease = self.document.get("lease")
        return {"_id": self.document["_id"], "state": "RUNNING", "lease": lease}

    @property
    def ended(self) -> bool:
        return isinstance(self.lease, Foreign) or self.lease.expires < self.document["now"]


class Reclaim:
    """Takes back what dead workers had; keeps in mind how long it has seen a lease unmoved."""

    def __init__(self, connection: Connection, queue: Queue) -> None:
        self._connection = connection
        self._queue = queue
        self._watch: Watch[_Sign] = Watch()

    def take_over(self, gone: Gone, worker: Worker, watch: float) -> Iterator[Claim]:
        """See `Store.take_over`."""
        self._lift_holds(gone)
        running = self._connection.retry(self._running)
        lost = self._watch.look([held.sign for held in running if held.ended], watch)
        for held in running:
            if isinstance(held.lease, Foreign):
                if held.sign in lost:
                    self._queue.refuse(held.unmoved, uuid4().hex, held.lease)
            elif held.sign in lost or gone(held.lease.worker):
                yield from self._take(held, held.lease, worker)

    def _take(self, held: _Held, lease: Lease, worker: Worker) -> Iterator[Claim]:
        document = self._seize(held.document, lease, worker)
        if document is None:
            return
        task = self._queue.examine(document)
        if isinstance(task, Foreign):
            self._queue.refuse({"_id": document["_id"]}, lease.token, task)
        else:
            yield task.claim(decode(Lease, document["lease"]), worker)

    def _running(self) -> list[_Held]:
        query = {
            "state": "RUNNING",
            "$or": [{"lease": {"$exists": True}}, {"spec.qfarm.stage": {"$type": "string"}}],
        }
        found = self._connection["fireworks"].find(query, {"lease": 1, "now": "$$NOW"})
        return [_Held(document, read_lease(document.get("lease"))) for document in found]

    def _seize(self, head: Document, lease: Lease, worker: Worker) -> Document | None:
        """Put a new token and worker on a lease, unless its holder has moved since it was read."""
        token = uuid4().hex
        unmoved = {"lease.token": lease.token, "lease.expires": lease.expires}
        changes: Document = {
            "lease.token": token,
            "lease.worker": {"$literal": encode(worker)},
            "lease.taken_from": {"$ifNull": ["$lease.taken_from", "$lease.worker"]},
            "lease.expires": from_now(lease.seconds),
        }
        query = {"_id": head["_id"], "state": "RUNNING", "$or": [unmoved, {"lease.token": token}]}
        return self._connection.retry(
            lambda: self._connection["fireworks"].find_one_and_update(
                query, [{"$set": changes}], return_document=ReturnDocument.AFTER
            )
        )

    def _lift_holds(self, gone: Gone) -> None:
        """Offer again what workers that are gone held."""
        for document in self._connection.retry(self._holds):
            hold = document["hold"]
            if (holder := _holder(hold)) is not None and gone(holder):
                self._lift(document["_id"], hold["token"])

    def _holds(self) -> Sequence[Document]:
        query = {"hold.token": {"$gte": ""}, "state": "READY"}
        return list(self._connection["fireworks"].find(query, {"hold": 1}))

    def _lift(self, identity: object, token: str) -> None:
        query = {"_id": identity, "state": "READY", "hold.token": token}
        fireworks = self._connection.volatile("fireworks")

        def lift() -> None:
            with suppress(ExecutionTimeout):
                fireworks.find_one_and_update(
                    query, {"$unset": {"hold": ""}}, {"_id": 1}, maxTimeMS=_LIFT_MS
                )

        self._connection.retry(lift)


def _holder(hold: object) -> Worker | None:
    worker = hold.get("worker") if isinstance(hold, Mapping) else None
    if not isinstance(worker, Mapping):
        return None
    try:
        return decode(Worker, worker)
    except ValueError:
        return None
