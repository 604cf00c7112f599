"""MongoFleet: what launchers and their jobs share, on MongoDB."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from qfarm.store import demand, jobs, nodes, partitions
from qfarm.store.connection import Connection
from qfarm.store.contents import Contents
from qfarm.store.fleet import (
    Demand,
    Gate,
    JobNote,
    NodeFailure,
    NodeNote,
    Sample,
    Standing,
)
from qfarm.store.wish import Wish
from qfarm_schemas.attempt import Worker
from qfarm_schemas.config import Stage


class MongoFleet:
    """The `Fleet` of a farm; safe to use from several threads.

    What people ask for and what must not be forgotten is on disk before a call returns; leases,
    signs of life and costs may be lost with a crash of mongod, and are soon written again.
    """

    def __init__(self, connection: Connection, contents: Contents) -> None:
        self._connection = connection
        self._contents = contents

    def take(self, partition: str, launcher: Worker, seconds: float, free: bool = False) -> str:
        """See `Fleet.take`."""
        return partitions.take(self._connection, partition, launcher, seconds, free)

    def keep(
        self, partition: str, token: str, seconds: float, look: Mapping[str, JsonValue]
    ) -> Standing | None:
        """See `Fleet.keep`."""
        return partitions.keep(self._connection, partition, token, seconds, look)

    def leave(self, partition: str, token: str, gate: Gate | None = None) -> None:
        """See `Fleet.leave`."""
        partitions.leave(self._connection, partition, token, gate)

    def ask(self, partition: str, gate: Gate) -> None:
        """See `Fleet.ask`."""
        partitions.ask(self._connection, partition, gate)

    def refuse(self, partition: str, why: str) -> None:
        """See `Fleet.refuse`."""
        partitions.refuse(self._connection, partition, why)

    def standing(self, partition: str) -> Standing:
        """See `Fleet.standing`."""
        return partitions.standing(self._connection, partition)

    def standings(self) -> tuple[Standing, ...]:
        """See `Fleet.standings`."""
        return partitions.standings(self._connection)

    def note(self, job: JobNote) -> None:
        """See `Fleet.note`."""
        jobs.note(self._connection, job)

    def begin(self, job: JobNote) -> None:
        """See `Fleet.begin`."""
        jobs.begin(self._connection, job)

    def beat(self, name: str, busy: int, attempts: int, worked: bool = False) -> bool:
        """See `Fleet.beat`."""
        return jobs.beat(self._connection, name, busy, attempts, worked)

    def end(self, name: str, why: str = "") -> None:
        """See `Fleet.end`."""
        jobs.end(self._connection, name, why)

    def drain(self, names: Sequence[str]) -> None:
        """See `Fleet.drain`."""
        jobs.drain(self._connection, names)

    def jobs(self, partition: str, ended: bool = False) -> tuple[JobNote, ...]:
        """See `Fleet.jobs`."""
        return jobs.jobs(self._connection, partition, ended)

    def named(self, names: Sequence[str]) -> tuple[JobNote, ...]:
        """See `Fleet.named`."""
        return jobs.named(self._connection, names)

    def suspect(self, note: NodeNote) -> None:
        """See `Fleet.suspect`."""
        nodes.suspect(self._connection, note)

    def suspects(self, over: bool = False) -> tuple[NodeNote, ...]:
        """See `Fleet.suspects`."""
        return nodes.suspects(self._connection, over)

    def clear(self, host: str) -> None:
        """See `Fleet.clear`."""
        nodes.clear(self._connection, host)

    def node_failures(self, hours: float) -> tuple[NodeFailure, ...]:
        """See `Fleet.node_failures`."""
        return nodes.failures(self._connection, hours)

    def demand(
        self, partition: str, wish: Wish, limit: int, sample: int, spread: bool = False
    ) -> Demand:
        """See `Fleet.demand`."""
        narrowed = self._contents.narrowed(wish)
        return demand.demand(self._connection, partition, narrowed, limit, sample, spread)

    def levels(self) -> Mapping[str, str]:
        """See `Fleet.levels`."""
        return {stage.level.id: stage.level.engine for stage in self._contents.every_stage()}

    def stages(self) -> tuple[Stage, ...]:
        """See `Fleet.stages`."""
        return tuple(self._contents.every_stage())

    def samples(self, size: int) -> tuple[Sample, ...]:
        """See `Fleet.samples`."""
        return demand.samples(self._connection, size)

    def keep_costs(self, document: Mapping[str, JsonValue]) -> None:
        """See `Fleet.keep_costs`."""
        demand.keep_costs(self._connection, document)

    def costs(self) -> Mapping[str, JsonValue]:
        """See `Fleet.costs`."""
        return demand.costs(self._connection)
