"""MongoStore: the job database in FireWorks' collections on a MongoDB replica set."""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

from qfarm.ladder import Decision
from qfarm.plan import Plan
from qfarm.store import adding, commit, control, indexes, needs, queries, version
from qfarm.store.connection import PATIENCE, Connection
from qfarm.store.contents import Contents
from qfarm.store.fleet import Fleet
from qfarm.store.mongo_fleet import MongoFleet
from qfarm.store.protocol import (
    Added,
    Claim,
    Ended,
    Need,
    Refusal,
    Row,
    Running,
    Selection,
    StageCount,
    View,
)
from qfarm.store.queue import Queue
from qfarm.store.reclaim import Reclaim
from qfarm.store.wish import ANYTHING, Wish
from qfarm_schemas.attempt import Attempt, Rung, Worker
from qfarm_schemas.record import Record


class MongoStore:
    """The `Store` of a farm; safe to use from several threads.

    FireWorks' collections `fireworks`, `workflows`, `launches` and `fw_id_assigner` hold the
    state; `fragments`, `stages`, `attempts`, `records`, `refusals` and `launchers` are qfarm's;
    `partitions`, `jobs`, `nodes` and `costs` those of `MongoStore.fleet`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._contents = Contents(connection)
        self._queue = Queue(connection, self._contents)
        self._reclaim = Reclaim(connection, self._queue)
        self._fleet = MongoFleet(connection, self._contents)

    @classmethod
    def connect(cls, uri: str, database: str, patience: float = PATIENCE) -> Self:
        """Connect to a farm's database and make what it needs.

        Parameters
        ----------
        uri : str
            ``mongodb://`` address of a replica set.
        database : str
            Database name.
        patience : float
            Seconds that a call waits out an outage.

        Raises
        ------
        StoreError
            The server does not answer, refuses the user, is no replica set, or holds documents of
            another version.
        """
        connection = Connection.open(uri, database, patience)
        try:
            version.check(connection)
            indexes.ensure(connection)
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    def add(self, plans: Sequence[Plan], priority: int = 0) -> Added:
        """See `Store.add`."""
        return adding.add(self._connection, plans, priority)

    def known(self, workflow_keys: Sequence[str]) -> frozenset[str]:
        """See `Store.known`."""
        return adding.known(self._connection, workflow_keys)

    @property
    def fleet(self) -> Fleet:
        """See `Store.fleet`."""
        return self._fleet

    def claim(
        self, worker: Worker, lease_seconds: float, wish: Wish = ANYTHING
    ) -> Claim | Refusal | None:
        """See `Store.claim`."""
        return self._queue.claim(worker, lease_seconds, self._contents.narrowed(wish))

    def claim_many(
        self, worker: Worker, lease_seconds: float, limit: int, wish: Wish = ANYTHING
    ) -> tuple[Claim | Refusal, ...]:
        """See `Store.claim_many`."""
        return self._queue.claim_many(worker, lease_seconds, limit, self._contents.narrowed(wish))

    def heartbeat(self, claim: Claim, lease_seconds: float, rung: Rung | None = None) -> bool:
        """See `Store.heartbeat`."""
        return self._queue.heartbeat(claim, lease_seconds, rung)

    def commit(
        self, claim: Claim, attempt: Attempt, decision: Decision, record: Record | None = None
    ) -> None:
        """See `Store.commit`."""
        commit.commit(self._connection, claim, attempt, decision, record)

    def commit_many(self, ended: Sequence[Ended]) -> tuple[bool, ...]:
        """See `Store.commit_many`."""
        return commit.commit_many(self._connection, ended)

    def release(self, claims: Sequence[Claim]) -> None:
        """See `Store.release`."""
        commit.release(self._connection, claims)

    def take_over(
        self, gone: Callable[[Worker], bool], worker: Worker, watch: float = 0.0
    ) -> Iterator[Claim]:
        """See `Store.take_over`."""
        return self._reclaim.take_over(gone, worker, watch)

    def busy(self, partition: str, wish: Wish = ANYTHING) -> bool:
        """See `Store.busy`."""
        return queries.busy(self._connection, partition, self._contents.narrowed(wish))

    def counts(self) -> tuple[StageCount, ...]:
        """See `Store.counts`."""
        return queries.counts(self._connection)

    def workflow_counts(self) -> dict[str, int]:
        """See `Store.workflow_counts`."""
        return queries.workflow_counts(self._connection)

    def needs(self) -> tuple[Need, ...]:
        """See `Store.needs`."""
        return needs.needs(self._connection, self._contents)

    def running(self) -> tuple[Running, ...]:
        """See `Store.running`."""
        return queries.running(self._connection)

    def rows(self, selection: Selection) -> Iterator[Row]:
        """See `Store.rows`."""
        return queries.rows(self._connection, selection)

    def resolve(self, prefix: str) -> str:
        """See `Store.resolve`."""
        return queries.resolve(self._connection, prefix)

    def view(self, fragment_id: str) -> View:
        """See `Store.view`."""
        return queries.view(self._connection, self._contents, fragment_id)

    def retry(self, selection: Selection) -> int:
        """See `Store.retry`."""
        return control.retry(self._connection, selection)

    def cancel(self, selection: Selection) -> int:
        """See `Store.cancel`."""
        return control.cancel(self._connection, selection)

    def records(self, selection: Selection) -> Iterator[Record]:
        """See `Store.records`."""
        return queries.records(self._connection, selection)

    def refusals(self) -> tuple[Refusal, ...]:
        """See `Store.refusals`."""
        return queries.refusals(self._connection)

    def ask_drain(self, launcher: str) -> None:
        """See `Store.ask_drain`."""
        control.ask_drain(self._connection, launcher)

    def draining(self, launcher: str) -> bool:
        """See `Store.draining`."""
        return control.draining(self._connection, launcher)

    def close(self) -> None:
        """See `Store.close`."""
        self._connection.close()
