"""Launches: what FireWorks keeps of each try at a firework; whole documents, made from the lease.

Whoever ends a launch writes all of it. The one that says RUNNING is written with the worker's first
sign of life, and is missing when the attempt was over before, or its worker killed.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from threading import Lock
from typing import Final

from fireworks.core.firework import FWAction, Launch
from fireworks.core.fworker import FWorker
from pymongo.errors import DuplicateKeyError

from qfarm.store.connection import Connection, Document
from qfarm.store.documents import iso
from qfarm.store.lease import Lease
from qfarm_schemas.attempt import Worker

LAUNCHES: Final = "launches"

_BLOCK: Final = 20
"""Ids that a store takes at once; those it does not use are skipped."""


class LaunchIds:
    """FireWorks' launch ids, taken from its counter in blocks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = Lock()
        self._left: list[int] = []

    def take(self, count: int) -> list[int]:
        """So many ids that nobody else gets."""
        with self._lock:
            if len(self._left) < count:
                self._left += self._connection.retry(lambda: self._block(max(count, _BLOCK)))
            taken = list(islice(self._left, count))
            del self._left[:count]
        return taken

    def give_back(self, ids: Sequence[int]) -> None:
        """Ids that were not used."""
        with self._lock:
            self._left[:0] = ids

    def _block(self, size: int) -> range:
        counters = self._connection["fw_id_assigner"]
        before = counters.find_one_and_update({}, {"$inc": {"next_launch_id": size}})
        if before is None:
            raise RuntimeError("fw_id_assigner holds no counters")
        first = int(before["next_launch_id"])
        return range(first, first + size)


def running(fw_id: int, lease: Lease) -> Document:
    """Launch of an attempt under way."""
    begun = iso(lease.claimed)
    history = {"state": "RUNNING", "created_on": begun, "updated_on": begun}
    return _launch(fw_id, lease, lease.worker) | {"state": "RUNNING", "state_history": [history]}


def ended(fw_id: int, lease: Lease, state: str, now: datetime, data: Document) -> Document:
    """Launch that ended as COMPLETED or FIZZLED.

    Parameters
    ----------
    fw_id : int
        Its firework.
    lease : Lease
        Under which the attempt was made.
    state : str
        FireWorks' state.
    now : datetime
        When it was committed, by the database's clock.
    data : dict
        Stored data of its action.
    """
    begun, end = iso(lease.claimed), iso(now)
    history = [
        {"state": "RUNNING", "created_on": begun, "updated_on": end},
        {"state": state, "created_on": end},
    ]
    return _launch(fw_id, lease, lease.taken_from or lease.worker) | {
        "state": state,
        "state_history": history,
        "action": _ACTION | {"stored_data": data},
        "time_end": end,
        "runtime_secs": (now - lease.claimed).total_seconds(),
    }


def write(connection: Connection, launch: Document) -> None:
    """Write a launch that runs; a crash of mongod may undo it."""
    launches = connection.volatile(LAUNCHES)
    with suppress(DuplicateKeyError):  # written before, or its attempt has ended since
        connection.retry(lambda: launches.insert_one(dict(launch)))


def _launch(fw_id: int, lease: Lease, worker: Worker) -> Document:
    """What is the same in all states.

    `launch_dir` stays empty, because lpad can be told to delete that folder with all it holds;
    `ip` repeats the host, since FireWorks would ask the name service for an empty one.
    """
    return _BLANK | {
        "launch_id": lease.launch,
        "fw_id": fw_id,
        "host": worker.host,
        "ip": worker.host,
        "fworker": _WORKER | {"name": worker.name, "category": worker.partition},
        "time_start": iso(lease.claimed),
    }


_BLANK: Final[Document] = Launch(
    "RUNNING", launch_dir="", fworker=FWorker(), host="-", ip="-", launch_id=0, fw_id=0
).to_db_dict()
"""By FireWorks' own class, so that all of its fields are there."""

_WORKER: Final[Document] = FWorker().to_dict()

_ACTION: Final[Document] = FWAction().to_dict()
