"""Reclaim: take over the leases that nobody keeps, and break the locks that lpad left."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Final, NamedTuple
from uuid import uuid4

from bson.binary import Binary
from pymongo.errors import ExecutionTimeout

from qfarm.store.codec import encode
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.entry import Foreign
from qfarm.store.expressions import from_now
from qfarm.store.lease import Lease, read_lease
from qfarm.store.protocol import Claim
from qfarm.store.queue import Queue, beginning_with
from qfarm.store.transitions import Transition
from qfarm.store.watch import Watch
from qfarm_schemas.attempt import Worker

_PAGE: Final = 50
"""Leases taken over together."""

_SEIZE_MS: Final = 1_000
"""ms: how long taking over may wait for a transaction of the dead worker that could not be ended.
The next pass tries again; mongod drops such a transaction after 60 s."""

_LOCKED_FOR: Final = 60.0
"""s: how long a workflow must have been seen locked, unchanged, to be freed. An lpad command that
lives holds the lock for some milliseconds; one that was killed, for ever."""

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
        return {"_id": self.document["_id"], "state": "RUNNING", "lease": {"$eq": lease}}

    @property
    def ended(self) -> bool:
        return isinstance(self.lease, Foreign) or self.lease.expires < self.document["now"]


class _Leased(NamedTuple):
    """A stage whose lease is to be taken over, as it was read."""

    document: Document
    lease: Lease


class Reclaim:
    """Takes back what dead workers had; keeps in mind how long it has seen a lease unmoved."""

    def __init__(self, connection: Connection, queue: Queue) -> None:
        self._connection = connection
        self._queue = queue
        self._watch: Watch[_Sign] = Watch()
        self._locks: Watch[str] = Watch()

    def take_over(self, gone: Gone, worker: Worker, watch: float) -> Iterator[Claim]:
        """See `Store.take_over`."""
        self._free_locked()
        running = self._connection.retry(self._running)
        lost = self._watch.look([held.sign for held in running if held.ended], watch)
        for held in running:
            if isinstance(held.lease, Foreign) and held.sign in lost:
                self._queue.refuse(held.unmoved, uuid4().hex, held.lease)
        leased = (
            _Leased(held.document, held.lease)
            for held in running
            if isinstance(held.lease, Lease) and (held.sign in lost or gone(held.lease.worker))
        )
        while page := list(islice(leased, _PAGE)):
            yield from self._take(page, worker)

    def _take(self, page: Sequence[_Leased], worker: Worker) -> Iterator[Claim]:
        for session in {lease.session for _, lease in page if lease.session is not None}:
            self._connection.end_session(session)
        found = self._queue.settle(self._seize(page, worker), worker)
        yield from (item for item in found if isinstance(item, Claim))

    def _running(self) -> list[_Held]:
        """All stages that run: one query, by the index of states; the queue does not matter."""
        query = {
            "state": "RUNNING",
            "$or": [{"lease": {"$exists": True}}, {"spec.qfarm.stage": {"$type": "string"}}],
        }
        found = self._connection["fireworks"].find(query, {"lease": 1, "now": "$$NOW"})
        return [_Held(document, read_lease(document.get("lease"))) for document in found]

    def _seize(self, page: Sequence[_Leased], worker: Worker) -> list[Document]:
        """Put a new token and worker on leases whose holder has not moved since they were read."""
        token = uuid4().hex
        changes = [
            self._seizure(head, lease, worker, f"{token}.{number}")
            for number, (head, lease) in enumerate(page)
        ]
        if not self._update(changes):
            for change in changes:
                self._update([change])
        identities = [head["_id"] for head, _ in page]
        mine = {
            "_id": {"$in": identities},
            "state": "RUNNING",
            "lease.token": beginning_with(token),
        }
        return self._connection.retry(lambda: list(self._connection["fireworks"].find(mine)))

    def _update(self, changes: Sequence[Document]) -> bool:
        """Carry out updates; False when a transaction that lives on held one of them up."""
        options: Document = {
            "updates": changes,
            "ordered": False,
            "maxTimeMS": _SEIZE_MS,
            "writeConcern": {"w": "majority"},
        }
        try:
            answer = self._connection.command("update", "fireworks", **options)
        except ExecutionTimeout:
            return False
        return not answer.get("writeErrors")

    def _seizure(self, head: Document, lease: Lease, worker: Worker, token: str) -> Document:
        unmoved = {"lease.token": lease.token, "lease.expires": lease.expires}
        changes: Document = {
            "lease.token": token,
            "lease.worker": {"$literal": encode(worker)},
            "lease.taken_from": {"$ifNull": ["$lease.taken_from", "$lease.worker"]},
            "lease.expires": from_now(lease.seconds),
            "lease.session": Binary.from_uuid(self._connection.session_id),
        }
        query = {"_id": head["_id"], "state": "RUNNING"} | unmoved
        return {"q": query, "u": [{"$set": changes}]}

    def _free_locked(self) -> None:
        """Break FireWorks' locks that were seen for too long, and write the states anew."""
        locked = {str(item["_id"]): item for item in self._connection.retry(self._locked)}
        for identity in self._locks.look(locked, _LOCKED_FOR):
            nodes = locked[identity].get("nodes")
            if isinstance(nodes, list):
                self._connection.transact(partial(self._free, nodes))

    def _locked(self) -> list[Document]:
        query = {"locked": {"$exists": True}}
        return list(self._connection["workflows"].find(query, {"nodes": 1}))

    def _free(self, nodes: list[int], transaction: Transaction) -> None:
        change = Transition(self._connection, transaction, breaks_locks=True)
        heads = change.heads({"fw_id": {"$in": nodes}})
        if heads:
            change.refresh(nodes, heads[0]["now"])
