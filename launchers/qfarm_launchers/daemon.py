"""The daemon: keeps partitions busy for weeks; one process for one or several of them.

Nothing that it knows is needed to go on: when it is killed, jobs go on pulling, and the next daemon
reads what there is from the database and from the schedulers.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

from structlog.typing import FilteringBoundLogger

from qfarm import config
from qfarm.config import Farm
from qfarm.errors import ConfigError, StoreError, UserError
from qfarm.sites import settings
from qfarm.store.fleet import Standing
from qfarm.store.protocol import Store
from qfarm_launchers import log
from qfarm_launchers.interrupts import Interrupts
from qfarm_launchers.keeper import Keeper, ReplacedError, logs_of
from qfarm_launchers.learning import relearn
from qfarm_launchers.outlook import accepted
from qfarm_launchers.quarantine import WINDOW, quarantine, unfit
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.attempt import Failure, Worker
from qfarm_schemas.config import FarmConfig
from qfarm_workers.appraisal import Foresight
from qfarm_workers.bench import Engines
from qfarm_workers.identity import gone, launched

LOOK_SECONDS: Final = 5.0
"""s: between two looks at partitions."""

REAP_SECONDS: Final = 5.0
"""s: between two passes of the reaper."""

LEARN_SECONDS: Final = 300.0
"""s: between two lessons about costs; the first comes soon."""

FIRST_LESSONS: Final = 30.0
"""s: between lessons as long as little is known."""

NODES_SECONDS: Final = 30.0
"""s: between two looks for nodes to leave alone."""

TIDY_SECONDS: Final = 6 * 3600.0
"""s: between two looks for logs of jobs that are too old."""

CONFIG_SECONDS: Final = 30.0
"""s: between two looks whether qfarm.toml was edited."""

NAP_SECONDS: Final = 0.2

_T = TypeVar("_T")


@dataclass
class Daemon:
    """Looks after partitions.

    Attributes
    ----------
    farm : Farm
        Its configuration.
    store : Store
        The job database.
    keepers : list of Keeper
        One for each partition.
    me : Worker
        This process.
    engines : callable
        Engine table.
    log : FilteringBoundLogger
        Gets what happens.
    until_done : bool
        Whether to end when nothing waits or runs any more.
    look_seconds : float
        Between two looks at partitions, s.
    """

    farm: Farm
    store: Store
    keepers: list[Keeper]
    me: Worker
    engines: Engines
    log: FilteringBoundLogger
    until_done: bool = False
    look_seconds: float = LOOK_SECONDS
    _foresight: Foresight | None = None
    _suspects: frozenset[str] = frozenset()
    _levels: frozenset[str] = frozenset()
    _learn_at: float = 0.0
    _next: dict[str, float] = field(default_factory=dict)
    _edited: FarmConfig | None = None
    _trouble: str = ""
    _idle: int = 0
    _works: bool = False

    def take(self) -> None:
        """Become the launcher of all partitions, or of none.

        Raises
        ------
        ConfigError
            Another launcher has one of them, and lives.
        """
        taken: list[Keeper] = []
        for keeper in self.keepers:
            standing = self.store.fleet.standing(keeper.partition.name)
            dead = standing.launcher is not None and gone(standing.launcher)
            if launched(standing) or not keeper.take(free=dead):
                for other in taken:
                    other.leave()
                raise taken_already(self.store.fleet.standing(keeper.partition.name))
            taken.append(keeper)
        for keeper in taken:
            keeper.open()

    def run(self, interrupts: Interrupts) -> None:
        """Look after the partitions until told to end, or until none of them is left."""
        try:
            while self.keepers and not interrupts.drain:
                self._turn()
                if self.until_done and self._done():
                    break
                self._rest(interrupts)
        except KeyboardInterrupt:
            self.log.info("signal", then="the launcher ends, jobs go on")
        except Exception as error:
            self.log.error("fell", why=f"{type(error).__name__}: {error}")
            raise
        finally:
            self._leave()

    def _turn(self) -> None:
        """One look; MongoDB, or a file system, may be away."""
        try:
            self._reap()
            self._learn()
            self._watch_nodes()
            self._watch_config()
            self._tidy()
            self._look()
            self._note_trouble("")
        except (UserError, OSError) as error:
            self._note_trouble(str(error))

    def _due(self, what: str, seconds: float) -> bool:
        """Whether it is time for what is done every so many seconds; then it is done now."""
        now = time.monotonic()
        due = now >= self._next.get(what, 0.0)
        if due:
            self._next[what] = now + seconds
        return due

    def _look(self) -> None:
        running = self.store.running()
        self._works = bool(running)
        levels = self.store.fleet.levels()
        if levels.keys() - self._levels:  # of a new level nothing is foreseen: learn at once
            self._learn_at = 0.0
        self._levels = frozenset(levels)
        for keeper in list(self.keepers):
            self._prolong()
            try:
                if not keeper.look(running, self._foreseen, self._suspects, levels):
                    self.log.info("over", partition=keeper.partition.name)
                    keeper.leave()
                    self.keepers.remove(keeper)
            except ReplacedError as error:
                self.log.warning("replaced", partition=keeper.partition.name, why=error.what)
                self.keepers.remove(keeper)

    def _prolong(self) -> None:
        for keeper in self.keepers:
            keeper.prolong()

    def _watch_config(self) -> None:
        """Say that the configuration was edited: a launcher goes by what it began with."""
        if not self._due("config", CONFIG_SECONDS):
            return
        try:
            now = config.load(self.farm.root).config
        except UserError:  # in the middle of the edit
            return
        if now not in (self.farm.config, self._edited):
            then = "`qfarm launcher stop --keep-jobs`, then `qfarm launch`: goes by the new one"
            self.log.warning("qfarm.toml has changed, the launcher goes on as it began", then=then)
        self._edited = now

    def _tidy(self) -> None:
        """Delete logs of jobs that ended long ago."""
        if self._due("logs", TIDY_SECONDS):
            log.sweep(logs_of(self.farm))

    @property
    def _foreseen(self) -> Foresight:
        if self._foresight is None:
            raise RuntimeError("nothing was learnt before the first look")
        return self._foresight

    def _reap(self) -> None:
        if not self._due("lost workers", REAP_SECONDS):
            return
        reaper = Reaper(
            self.store,
            self.me,
            self.engines,
            self.farm.config.lease.heartbeat,
            ending_of=lambda worker: self._ask(worker, lambda k: k.roster.ending_of(worker)),
            slots_of=lambda worker: self._ask(worker, lambda k: k.partition.slots) or 1,
            ranks_of=lambda worker, engine: (
                self._ask(worker, lambda k: self._ranks(k, engine)) or 1
            ),
        )
        for attempt in reaper.reap(self._lost):
            why = attempt.outcome.cause if isinstance(attempt.outcome, Failure) else ""
            self.log.info("reaped", key=attempt.key, job=attempt.worker.job, why=why)

    def _ranks(self, keeper: Keeper, engine: str) -> int:
        return settings(self.farm.config, keeper.partition, engine).ranks

    def _lost(self, worker: Worker) -> bool:
        """Whether a worker is known to be dead.

        Names of hosts tell clusters apart no better than ``node001`` does, those of partitions do:
        of a process that another cluster started, nothing is known here.
        """
        if worker.partition not in {one.name for one in self.farm.config.partitions}:
            return False
        return gone(worker) or any(keeper.roster.lost(worker) for keeper in self.keepers)

    def _learn(self) -> None:
        if time.monotonic() < self._learn_at:
            return
        fleet = self.store.fleet
        model = relearn(fleet, fleet.stages(), self.engines)
        self._foresight = Foresight(model, self.engines, self.farm.config)
        wait = LEARN_SECONDS if model.lines else FIRST_LESSONS
        self._learn_at = time.monotonic() + wait

    def _watch_nodes(self) -> None:
        """Leave nodes alone that fail what others do.

        Only those on which jobs of ours ran: what others accept, they alone know.
        """
        if not self._due("nodes", NODES_SECONDS):
            return
        fleet, now = self.store.fleet, datetime.now(UTC)
        past = fleet.suspects(over=True)
        notes = [note for keeper in self.keepers for note in keeper.roster.known]
        ours = {note.host for note in notes}
        failed = fleet.node_failures(WINDOW.total_seconds() / 3600)
        failures = [one for one in failed if one.host in ours]
        fresh = quarantine(failures, now, past, partial(accepted, notes, failures, now))
        fresh += unfit(notes, now, (*past, *fresh))
        for note in fresh:
            fleet.suspect(note)
            self.log.warning("quarantine", host=note.host, until=str(note.until), why=note.why)
            if note.fragments:  # what has got through its self-test there may go on
                fleet.drain([job.name for job in notes if job.host == note.host and not job.ended])
        self._suspects = frozenset(note.host for note in (*past, *fresh) if note.until > now)

    def _ask(self, worker: Worker, question: Callable[[Keeper], _T]) -> _T | None:
        """Ask the keeper of a worker's partition; None where it is not kept here."""
        found = (k for k in self.keepers if k.partition.name == worker.partition)
        return next((question(keeper) for keeper in found), None)

    def _done(self) -> bool:
        """Whether nothing waits or runs anywhere, seen twice in a row."""
        waits = any(not keeper.idle for keeper in self.keepers)
        busy = waits or self._works or bool(self._trouble)
        self._idle = 0 if busy else self._idle + 1
        return self._idle >= 2

    def _rest(self, interrupts: Interrupts) -> None:
        """Wait for the next look; an interrupt cuts it short."""
        until = time.monotonic() + self.look_seconds
        while time.monotonic() < until and not interrupts.drain:
            time.sleep(NAP_SECONDS)

    def _leave(self) -> None:
        for keeper in self.keepers:
            with suppress(StoreError):  # then the lease ends by itself
                keeper.leave()

    def _note_trouble(self, why: str) -> None:
        if why and why != self._trouble:
            self.log.warning("trouble", why=why)
        self._trouble = why


def taken_already(standing: Standing) -> ConfigError:
    """Error that says who launches a partition."""
    by = standing.launcher
    who = "another launcher" if by is None else f"process {by.pid} on {by.host}"
    return ConfigError(
        f"partition {standing.name!r} is launched by {who} already",
        "`qfarm launcher status` shows it; `qfarm launcher stop --keep-jobs` ends it. If it was "
        "killed on another host, its lease ends within a minute: try again then.",
    )
