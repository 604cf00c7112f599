"""The pull loop of a worker: claim, attempt, commit, next; until nothing is left to do."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Final, TypeVar

from structlog.typing import FilteringBoundLogger
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from qfarm import config
from qfarm.errors import ConfigError, LeaseLostError, StoreError
from qfarm.store import open_store
from qfarm.store.protocol import Claim, Refusal, StageState, Store
from qfarm_schemas.attempt import Attempt, Failure, Worker
from qfarm_schemas.config import LeaseConfig, Partition
from qfarm_workers import attempt, log
from qfarm_workers.attempt import Bench, Engines, Finished, Prepared
from qfarm_workers.heartbeat import Heartbeat
from qfarm_workers.identity import this_process
from qfarm_workers.process import EngineProcess
from qfarm_workers.scratch import Scratch

OUTAGE_SECONDS: Final = 600.0
"""How long a worker bears a MongoDB that does not answer before it gives up."""

SHORTEST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""s: between two looks at an empty queue while others still run."""

QUIET_LOOKS: Final = 3
"""Looks in a row that must find nothing to claim and nothing running before the loop ends."""

_T = TypeVar("_T")


@dataclass
class Loop:
    """A pull loop in the calling thread.

    Attributes
    ----------
    store : Store
        The job database.
    bench : Bench
        What attempts need.
    worker : Worker
        The calling process; `worker.job` is the launcher whose drain is obeyed.
    lease : LeaseConfig
        Length of leases.
    log : FilteringBoundLogger
        Gets one line for each attempt.
    attempts : int
        Attempts committed so far.
    """

    store: Store
    bench: Bench
    worker: Worker
    lease: LeaseConfig
    log: FilteringBoundLogger
    attempts: int = 0
    _quiet: int = 0
    _wait: float = field(default=SHORTEST_WAIT)

    def run(self) -> int:
        """Work until drained or until nothing is left; the number of attempts."""
        while not self._drained():
            claimed = patiently(lambda: self.store.claim(self.worker, self.lease.seconds))
            if claimed is None:
                if self._over():
                    break
                self._rest()
                continue
            self._quiet, self._wait = 0, SHORTEST_WAIT
            self._take(claimed)
        return self.attempts

    def _drained(self) -> bool:
        return patiently(lambda: self.store.draining(self.worker.job))

    def _over(self) -> bool:
        """Whether nothing runs that could make a stage ready again, several times in a row."""
        counts = patiently(self.store.counts)
        busy = any(count.state is StageState.RUNNING and count.count for count in counts)
        self._quiet = 0 if busy else self._quiet + 1
        return self._quiet >= QUIET_LOOKS

    def _rest(self) -> None:
        if self._quiet == 0:
            time.sleep(self._wait)
            self._wait = min(2 * self._wait, LONGEST_WAIT)

    def _take(self, claimed: Claim | Refusal) -> None:
        if isinstance(claimed, Refusal):
            self.log.warning("refused", fw_id=claimed.fw_id, reason=claimed.reason)
            return
        prepared = attempt.prepare(claimed, self.bench.partition, self.bench.engines)
        if isinstance(prepared, Finished):
            self._commit(claimed, prepared)
            return
        finished = self._attempt(prepared)
        if finished is None:
            self.log.warning("dropped", key=claimed.key, number=claimed.number)
        else:
            self._commit(claimed, finished)

    def _attempt(self, prepared: Prepared) -> Finished | None:
        stop = Event()
        with Heartbeat(self.store, prepared.claim, self.lease, prepared.rung, stop):
            return attempt.run(prepared, self.bench, stop)

    def _commit(self, claim: Claim, finished: Finished) -> None:
        made = finished.attempt
        try:
            patiently(lambda: self.store.commit(claim, made, finished.decision, finished.record))
        except LeaseLostError:
            self.log.warning("dropped", key=claim.key, number=claim.number)
            return
        self.attempts += 1
        self.log.info("attempt", **_line(made), then=type(finished.decision).__name__.lower())


def work(start: str, partition: str, launcher: str, name: str, look_up: Engines) -> int:
    """Open the farm and run a pull loop: what a launcher submits.

    Parameters
    ----------
    start : str
        Folder from which the configuration is found.
    partition : str
        Name of the partition the loop works for.
    launcher : str
        Id of the launcher whose drain is obeyed.
    name : str
        Name of the worker.
    look_up : callable
        Engine table.

    Returns
    -------
    int
        Number of attempts committed.
    """
    farm = config.load(Path(start))
    chosen = partition_of(farm.config.partitions, partition)
    folder = farm.scratch
    with (
        open_store(config.mongo_uri(farm), farm.config.mongo.database) as store,
        EngineProcess(folder, chosen.threads) as process,
        log.to_file(log.path_in(farm.folder)) as lines,
    ):
        process.start()
        bench = Bench(process, Scratch(folder, farm.config.keep_scratch), chosen, look_up)
        worker = this_process(name, chosen.name, launcher)
        return Loop(store, bench, worker, farm.config.lease, lines).run()


def partition_of(partitions: tuple[Partition, ...], name: str) -> Partition:
    """The partition called `name`.

    Raises
    ------
    ConfigError
        There is none.
    """
    for partition in partitions:
        if partition.name == name:
            return partition
    names = ", ".join(partition.name for partition in partitions)
    raise ConfigError(f"there is no partition {name!r}", f"Partitions in qfarm.toml: {names}.")


def patiently(call: Callable[[], _T]) -> _T:
    """Call the store, again and again through an outage of up to `OUTAGE_SECONDS`."""
    tries = Retrying(
        retry=retry_if_exception_type(StoreError),
        wait=wait_fixed(1.0),
        stop=stop_after_delay(OUTAGE_SECONDS),
        reraise=True,
    )
    return tries(call)


def _line(made: Attempt) -> dict[str, object]:
    outcome = made.outcome
    return {
        "key": made.key,
        "fragment": made.fragment_id,
        "stage": made.stage,
        "number": made.number,
        "rung": made.rung.model_dump(mode="json"),
        "outcome": outcome.kind.value if isinstance(outcome, Failure) else "success",
        "cause": outcome.cause if isinstance(outcome, Failure) else "",
        "worker": made.worker.name,
        "host": made.worker.host,
        "wall_seconds": round(made.cost.wall_seconds, 3),
        "cpu_seconds": round(made.cost.cpu_seconds, 3),
        "peak_memory_mb": round(made.cost.peak_memory_mb),
    }
