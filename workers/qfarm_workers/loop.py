"""The pull loop of a worker: claim, attempt, commit, next; until nothing is left to do."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from qfarm import config
from qfarm.config import Farm
from qfarm.errors import ConfigError, ScratchFullError, StoreError
from qfarm.sites import scratch_of
from qfarm.store import open_store
from qfarm.store.protocol import Claim, Refusal, Store
from qfarm.store.wish import Wish
from qfarm_schemas.attempt import Attempt, Environment, Failure, Worker
from qfarm_schemas.config import LeaseConfig, Partition
from qfarm_schemas.failure import Budget, FailureKind
from qfarm_workers import attempt, batch, log
from qfarm_workers.bench import Bench, Engines, engines_of, places_of
from qfarm_workers.finished import Finished
from qfarm_workers.guide import ByLauncher, Guide
from qfarm_workers.hand import Hand
from qfarm_workers.heartbeat import Heartbeat
from qfarm_workers.identity import this_process
from qfarm_workers.lifetime import Lifetime, lifetime
from qfarm_workers.orders import wish_of
from qfarm_workers.patience import START_SECONDS, patiently
from qfarm_workers.process import EngineProcess, Flag
from qfarm_workers.restart import Restarts
from qfarm_workers.scratch import SMALLEST_ROOM, Scratch
from qfarm_workers.sight import Sight

SHORTEST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""s: between two looks at an empty queue while others still run."""

PATIENT_SECONDS: Final = 30.0
"""s: how long an idle worker leaves to other hosts what failed last on its own; at most half the
time for which it idles at all, for there may be no other."""

MOST_OUT_OF_ROOM: Final = 2
"""Stages in a row that find no space before the worker takes the disk to be full."""


@dataclass
class Loop:
    """A pull loop in the calling thread.

    Where attempts are short, it claims a batch of stages and commits their attempts together. A
    batch ends early when it takes longer than thought, and when the loop has a reason to end:
    then what has not begun is given back.

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
    outlived : bool
        Whether the loop ended because its lifetime did, and not for want of work.
    recent : deque of float
        Seconds that the last attempts took, since one failed as on an ill node.
    idled : bool
        Whether the loop ended because it has found nothing to claim for too long.
    guide : Guide or None
        What says whether and what to claim; None: the launcher, which may ask for a drain.
    """

    store: Store
    bench: Bench
    worker: Worker
    lease: LeaseConfig
    log: FilteringBoundLogger
    outlived: bool = False
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=batch.REMEMBERED))
    idled: bool = False
    guide: Guide | None = None
    _out_of_room: frozenset[str] = frozenset()
    _wait: float = SHORTEST_WAIT
    _wary: bool = False
    _idle_since: float | None = None
    _sight: Sight = field(default_factory=Sight)

    def __post_init__(self) -> None:
        self._hand = Hand(self.store, self.bench.restarts, self.log)
        self._guide = self.guide or ByLauncher(self.store, self.worker.job)

    def run(self) -> int:
        """Work until drained, too old or until nothing is left; the number of attempts."""
        try:
            while self._goes_on(look=True):
                claims = self._claim()
                if claims:
                    self._wait, self._idle_since = SHORTEST_WAIT, None
                    self._sight.found()
                    self._work_off(claims)
                elif not self._rests():
                    break
        except BaseException:
            with suppress(StoreError):  # else the leases end, and a reaper sees to it
                self._hand.clear()
            raise
        return self._hand.committed

    def _goes_on(self, look: bool = False) -> bool:
        """Whether nothing asks the loop to end; an error where a full disk does.

        With `look` the database is asked whether the launcher drains, however short ago it was.
        """
        if self.bench.process.leaving or patiently(lambda: self._guide.drained(look)):
            return False
        self.outlived = self.outlived or self._too_old()
        if not self.outlived:
            self._need_room()
        return not self.outlived

    def _too_old(self) -> bool:
        """Whether too little time is left for all that is ready.

        The cheapest stage asked about is that only once the whole queue was looked through.
        """
        life, now, least = self.bench.lifetime, monotonic(), self._guide.least
        unseen = least is not None and not self._sight.over and life.left(now) > 0
        return not life.worth_a_claim(now, least) and not unseen

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

    def _rests(self) -> bool:
        """Wait for what others do, longer and longer, because that may take hours.

        False when nothing can come, or nothing has come for too long.
        """
        now = monotonic()
        self._idle_since = now if self._idle_since is None else self._idle_since
        farther = self._sight.in_vain(now)
        self.idled = now - self._idle_since > self._guide.idle_seconds
        self.outlived = self._too_old()
        if self.idled or self.outlived:
            return False
        # What is left to others for a while is claimed here in the end.
        wish = replace(self._wish(), elsewhere="", sight=self._sight.stages)
        if not farther and not patiently(lambda: self.store.busy(self.worker.partition, wish)):
            return False
        sleep(self._wait)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        return True

    def _wish(self) -> Wish:
        wish = self._guide.wish()
        since = self._idle_since
        longest = min(PATIENT_SECONDS, self._guide.idle_seconds / 2)
        patient = since is None or monotonic() - since < longest
        return wish if patient else replace(wish, elsewhere="")

    def _claim(self) -> tuple[Claim | Refusal, ...]:
        limit = 1 if self._wary else batch.size(self.recent)
        wish, lease = self._sight.within(self._wish(), monotonic()), self.lease.seconds
        if limit > 1:
            return patiently(lambda: self.store.claim_many(self.worker, lease, limit, wish))
        claimed = patiently(lambda: self.store.claim(self.worker, lease, wish))
        return () if claimed is None else (claimed,)

    def _work_off(self, found: Sequence[Claim | Refusal]) -> None:
        """Attempt what was claimed, as far as there is time."""
        until = monotonic() + batch.patience(self.lease.heartbeat)
        claims = self._sort(found)
        self._hand.waiting.extend(claims)
        if claims:
            self._guide.begun()
        while self._hand.waiting:
            self._attempt(self._hand.waiting.popleft(), until if len(claims) > 1 else None)
            if self._hand.waiting and not self._another(until):
                break
        patiently(self._hand.clear)

    def _sort(self, found: Sequence[Claim | Refusal]) -> list[Claim]:
        """The claims to be attempted in one batch; others are given back."""
        for item in found:
            if isinstance(item, Refusal):
                self.log.warning("refused", fw_id=item.fw_id, reason=item.reason)
        claims = [item for item in found if isinstance(item, Claim)]
        self._wary = any(map(batch.lost_its_worker, claims))
        together = batch.company(claims)
        self._hand.put_back(claims[together:])
        return claims[:together]

    def _another(self, until: float) -> bool:
        """Whether to begin the next attempt of the batch; what must be committed before, is."""
        if self._hand.due():
            patiently(self._hand.commit)
        return bool(self.recent) and monotonic() < until and self._goes_on()

    def _attempt(self, claim: Claim, until: float | None) -> None:
        """Make one attempt; `until` is when it must mind the rest of its batch."""
        began = monotonic()
        finished = self._finished(claim, 0.0 if until is None else max(0.0, until - began))
        self.recent.append(monotonic() - began)
        if finished is not None and _speaks_against_node(finished.attempt):
            self.recent.clear()  # one by one, lest an ill node fails a whole batch in no time
        if finished is None:
            self._hand.drop(claim)
            return
        # Where the margin for stopping is left, the same stage would fail once more in it.
        stopped = _kind(finished.attempt) is FailureKind.WALLTIME
        self.outlived = stopped and self.bench.lifetime.ending(monotonic())
        self._out_of_room = _out_of_room(self._out_of_room, finished.attempt)
        self._hand.keep(claim, finished)
        self._guide.note(finished.attempt, claim.stage.level.engine)

    def _finished(self, claim: Claim, quiet: float) -> Finished | None:
        prepared = attempt.prepare(claim, self.bench)
        if isinstance(prepared, Finished):
            return prepared
        stop, beside = Event(), self._hand.clear
        with Heartbeat(
            self.store, claim, self.lease, prepared.rung, stop, quiet=quiet, beside=beside
        ):
            return attempt.run(prepared, self.bench, stop)


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
    worker = this_process(name, chosen.name, launcher)
    with at_work(farm, chosen, look_up, lifetime(chosen.walltime, monotonic())) as place:
        guide = ByLauncher(place.store, launcher, static_wish(farm, chosen, place.store))
        loop = Loop(place.store, place.bench, worker, farm.config.lease, place.lines, guide=guide)
        return Worked(loop.run(), loop.outlived)


class AtWork(NamedTuple):
    """What a loop works with."""

    store: Store
    bench: Bench
    lines: FilteringBoundLogger


@contextmanager
def at_work(
    farm: Farm,
    partition: Partition,
    look_up: Engines,
    life: Lifetime,
    leave: Flag | None = None,
    environment: Environment | None = None,
) -> Iterator[AtWork]:
    """Open the farm for a loop of a partition.

    Parameters
    ----------
    farm : Farm
        Its configuration.
    partition : Partition
        Threads, memory, scratch folder, engines.
    look_up : callable
        Engine table.
    life : Lifetime
        Of the worker.
    leave : Flag or None
        Set when the batch system ends the job that holds this process.
    environment : Environment or None
        Goes into each attempt.
    """
    folder = scratch_of(farm, partition)
    uri, database = config.mongo_uri(farm), farm.config.mongo.database
    with (
        ExitStack() as stack,
        EngineProcess(folder, partition.threads, leave) as process,
        log.to_file(log.path_in(farm.folder, partition)) as lines,
    ):
        # Its launcher has opened it before: if it does not answer now, it is away for a moment.
        store = patiently(lambda: stack.enter_context(open_store(uri, database)), START_SECONDS)
        process.start()
        bench = Bench(
            process,
            Scratch(folder, farm.config.keep_scratch),
            partition,
            engines_of(farm, partition, look_up),
            places_of(farm, partition),
            Restarts(farm.folder / "restart"),
            life,
            environment,
            farm.config.partitions,
        )
        yield AtWork(store, bench, lines)


def static_wish(farm: Farm, partition: Partition, store: Store) -> Wish:
    """What a partition takes, as it is now; nothing fits better or worse."""
    levels = patiently(store.fleet.levels) if partition.takes_engines else {}
    standings = patiently(store.fleet.standings)
    return wish_of(partition, farm.config.partitions, standings, levels)


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


def _out_of_room(before: frozenset[str], made: Attempt) -> frozenset[str]:
    """Stages whose attempts in a row, the last one included, found no space."""
    full = _kind(made) is FailureKind.SCRATCH_FULL
    return before | {made.key} if full else frozenset()


def _speaks_against_node(made: Attempt) -> bool:
    kind = _kind(made)
    return kind is not None and kind.budget is Budget.NODE


def _kind(made: Attempt) -> FailureKind | None:
    return made.outcome.kind if isinstance(made.outcome, Failure) else None
