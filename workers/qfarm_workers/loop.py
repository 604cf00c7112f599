"""The pull loop of a worker: claim, attempt, commit, next; until nothing is left to do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Final, TypeVar

from structlog.typing import FilteringBoundLogger
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from qfarm import config
from qfarm.errors import ConfigError, LeaseLostError, ScratchFullError, StoreError
from qfarm.store import open_store
from qfarm.store.protocol import Claim, Refusal, Store
from qfarm_schemas.attempt import Attempt, Failure, Worker
from qfarm_schemas.config import LeaseConfig, Partition
from qfarm_schemas.failure import FailureKind
from qfarm_workers import attempt, log
from qfarm_workers.bench import Bench, Engines, places_of
from qfarm_workers.finished import Finished
from qfarm_workers.heartbeat import Heartbeat
from qfarm_workers.identity import this_process
from qfarm_workers.lifetime import lifetime
from qfarm_workers.prepare import Prepared
from qfarm_workers.process import EngineProcess
from qfarm_workers.restart import Restarts, of_use
from qfarm_workers.scratch import SMALLEST_ROOM, Scratch

OUTAGE_SECONDS: Final = 600.0
"""How long a worker bears a MongoDB that does not answer before it gives up."""

SHORTEST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""s: between two looks at an empty queue while others still run."""

MOST_OUT_OF_ROOM: Final = 2
"""Stages in a row that find no space before the worker takes the disk to be full."""

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
    outlived : bool
        Whether the loop ended because its lifetime did, and not for want of work.
    """

    store: Store
    bench: Bench
    worker: Worker
    lease: LeaseConfig
    log: FilteringBoundLogger
    attempts: int = 0
    outlived: bool = False
    _out_of_room: frozenset[str] = frozenset()
    _wait: float = SHORTEST_WAIT

    def run(self) -> int:
        """Work until drained, too old or until nothing is left; the number of attempts."""
        while not self._drained():
            self.outlived = self.outlived or not self.bench.lifetime.worth_a_claim(monotonic())
            if self.outlived:
                break
            self._need_room()
            claimed = patiently(lambda: self.store.claim(self.worker, self.lease.seconds))
            if claimed is None:
                if not patiently(lambda: self.store.busy(self.worker.partition)):
                    break
                self._rest()
                continue
            self._wait = SHORTEST_WAIT
            self._take(claimed)
        return self.attempts

    def _need_room(self) -> None:
        """Stop before a full disk fails the whole queue, one fragment after the other."""
        place = self.bench.scratch
        free = place.free_mb()
        if free < SMALLEST_ROOM or len(self._out_of_room) >= MOST_OUT_OF_ROOM:
            raise ScratchFullError(
                f"the scratch folder {place.root} on {self.worker.host} is full "
                f"({free:.0f} MB free; a quota may allow less)",
                "Free space there, or name another folder as `scratch` in qfarm.toml; then "
                "`qfarm run` goes on.",
            )

    def _drained(self) -> bool:
        return patiently(lambda: self.store.draining(self.worker.job))

    def _rest(self) -> None:
        """Wait for what others do; longer and longer, because that may take hours."""
        sleep(self._wait)
        self._wait = min(2 * self._wait, LONGEST_WAIT)

    def _take(self, claimed: Claim | Refusal) -> None:
        if isinstance(claimed, Refusal):
            self.log.warning("refused", fw_id=claimed.fw_id, reason=claimed.reason)
            return
        prepared = attempt.prepare(claimed, self.bench)
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
        # What is left is the margin for stopping: the same stage would fail once more in it.
        self.outlived = _kind(made) is FailureKind.WALLTIME
        self._forget_restart(finished)
        self._out_of_room = _out_of_room(self._out_of_room, made)
        self.log.info("attempt", **_line(made), then=type(finished.decision).__name__.lower())
        if finished.trouble:
            self.log.warning("trouble", key=claim.key, number=claim.number, why=finished.trouble)

    def _forget_restart(self, finished: Finished) -> None:
        """Remove restart files of no more use; a claim that was lost never comes here."""
        made, restarts = finished.attempt, self.bench.restarts
        if restarts is not None and not of_use(finished.decision, made.outcome):
            restarts.forget(made.key)


@dataclass(frozen=True)
class Worked:
    """How a loop ended.

    Attributes
    ----------
    attempts : int
        Committed.
    outlived : bool
        Whether its lifetime ended it: there may be work left.
    """

    attempts: int
    outlived: bool


def work(start: str, partition: str, launcher: str, name: str, look_up: Engines) -> Worked:
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
    Worked
        How the loop ended.
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
        bench = Bench(
            process,
            Scratch(folder, farm.config.keep_scratch),
            chosen,
            look_up,
            places_of(farm, chosen),
            Restarts(farm.folder / "restart"),
            lifetime(chosen.walltime, monotonic()),
        )
        worker = this_process(name, chosen.name, launcher)
        loop = Loop(store, bench, worker, farm.config.lease, lines)
        return Worked(loop.run(), loop.outlived)


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


def _out_of_room(before: frozenset[str], made: Attempt) -> frozenset[str]:
    """Stages whose attempts in a row, the last one included, found no space."""
    full = _kind(made) is FailureKind.SCRATCH_FULL
    return before | {made.key} if full else frozenset()


def _kind(made: Attempt) -> FailureKind | None:
    return made.outcome.kind if isinstance(made.outcome, Failure) else None


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
