"""Target: this farm, as a merge writes to it."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

from qfarm.store import arrays
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.histories import ATTEMPTS, RECORDS
from qfarm.store.merge.made import Histories
from qfarm.store.merge.source import Source
from qfarm.store.merge.theirs import Found
from qfarm.store.upkeep import Upkeep


class Target(NamedTuple):
    """Where a merge writes, from where it takes arrays, and the lock that it holds.

    `origin` names the backup in what is written; without a lock nothing is written.
    """

    connection: Connection
    source: Source
    lock: Upkeep | None
    origin: str

    def hold(self, transaction: Transaction) -> None:
        """Go on only if no other process restores, migrates or merges.

        Raises
        ------
        StoreError
            The lock was lost.
        """
        if self.lock is None:
            raise RuntimeError("a merge writes only under its lock")
        self.lock.hold(transaction.session)

    def copy_arrays(self, records: Sequence[Document]) -> None:
        """Store the large arrays of records, which must be there before these."""
        for record in (record for record in records if arrays.USED in record):
            arrays.copy(self.source.arrays, self.connection, record)

    def insert(self, transaction: Transaction, made: Histories) -> None:
        """Insert attempts, launches and records."""
        for name, documents in (
            (ATTEMPTS, made.attempts),
            ("launches", made.launches),
            (RECORDS, made.records),
        ):
            if documents:
                # Copies: pymongo adds an _id, and a transaction may run again.
                copies = [dict(document) for document in documents]
                self.connection[name].insert_many(copies, session=transaction.session)

    def numbers(self, fireworks: int, launches: int) -> tuple[int, Iterator[int]]:
        """First of a block of firework ids, and launch ids; what is not used is skipped."""
        counters = self.connection["fw_id_assigner"]
        change = {"$inc": {"next_fw_id": fireworks, "next_launch_id": launches}}
        before = self.connection.retry(lambda: counters.find_one_and_update({}, change))
        if before is None:
            raise RuntimeError("fw_id_assigner holds no counters")
        return int(before["next_fw_id"]), count(int(before["next_launch_id"]))


def tries(stages: Sequence[Found]) -> int:
    """Number of attempts at these stages."""
    return sum(len(stage.attempts) for stage in stages)
