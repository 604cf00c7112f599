"""Keeper: the launcher of one partition; it looks, decides and acts, again and again."""

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import inf, isfinite
from pathlib import Path
from secrets import token_hex
from typing import Final

from pydantic import JsonValue
from structlog.typing import FilteringBoundLogger

from qfarm.config import Farm
from qfarm.errors import StoreError, UserError
from qfarm.store.fleet import Demand, Fleet, Gate, JobState, Standing
from qfarm.store.protocol import Running
from qfarm_launchers import outlook, scaling
from qfarm_launchers.batch import Refused, SchedulerAway
from qfarm_launchers.cluster import DIGITS, job_name
from qfarm_launchers.roster import Roster
from qfarm_launchers.scaling import Cost, Decision, Event, Limits, Memory, Situation, Submitted
from qfarm_launchers.schedulers.base import JobOrder
from qfarm_schemas.attempt import Worker
from qfarm_schemas.config import Partition
from qfarm_workers.appraisal import Foresight
from qfarm_workers.lifetime import job_lifetime
from qfarm_workers.orders import at_rest, wish_of

READY: Final = 20_000
MOST_READY: Final = 200_000
"""So many ready stages are counted at least and at most; in between as many as all jobs can do. A
count of 120,000 takes mongod 50 ms."""

SAMPLE: Final = 400
"""Of them, those whose cost is foreseen."""

LEASE_SECONDS: Final = 60.0
"""s: after so long without a sign of life, a launcher on another host is taken for dead."""

PROLONG_SECONDS: Final = 10.0
"""s: between two prolongations while the launcher is busy with other partitions."""

TELL_SECONDS: Final = 60.0
"""s: between two lines in the log that say why nothing is done."""

AGAIN_SECONDS: Final = 30.0
"""s: after which jobs that were told to end, and have not, are told again."""


class ReplacedError(UserError):
    """The partition was taken from this launcher."""


@dataclass
class Keeper:
    """The launcher of one partition.

    Attributes
    ----------
    farm : Farm
        Its configuration.
    partition : Partition
        What is kept busy.
    fleet : Fleet
        The store's part for launchers.
    roster : Roster
        The partition's jobs.
    me : Worker
        This process.
    log : FilteringBoundLogger
        Gets what happens.
    module : str
        What a job runs.
    standing : Standing
        How the partition stands.
    """

    farm: Farm
    partition: Partition
    fleet: Fleet
    roster: Roster
    me: Worker
    log: FilteringBoundLogger
    module: str = "qfarm_workers.job"
    standing: Standing = field(default_factory=lambda: Standing(""))
    trouble: str = ""
    _token: str = ""
    _memory: Memory = field(default_factory=Memory)
    _decision: Decision = field(default_factory=Decision)
    _demand: Demand = field(default_factory=lambda: Demand(0, ()))
    _closed: str | None = None
    _reopens: bool = False
    _kept_at: float = -inf
    _looked: bool = False
    _stop_at: float = -inf
    _tell_at: float = -inf
    _sample: tuple[Cost, ...] = ()

    def take(self, free: bool) -> bool:
        """Become the partition's launcher; False when another one lives. Then `open` it."""
        name = self.partition.name
        before = self.fleet.standing(name)
        self._token = self.fleet.take(name, self.me, LEASE_SECONDS, free)
        if not self._token:
            return False
        killed = before.lost or (free and before.alive)
        self._reopens = before.gate in (Gate.DRAINING, Gate.STOPPING) and not killed
        return True

    def open(self) -> None:
        """Begin with what launchers before have left.

        A partition that was drained or stopped is open again; one that was paused stays so, and one
        whose launcher was killed while it drained goes on draining.
        """
        name = self.partition.name
        if self._reopens:
            self.fleet.ask(name, Gate.OPEN)
        self.standing = self.fleet.standing(name)
        self.roster.begin()
        self._memory = self._remembered()

    def leave(self) -> None:
        """Give the partition up; its jobs go on."""
        self.fleet.leave(self.partition.name, self._token)

    def look(
        self,
        running: Sequence[Running],
        foresight: Foresight,
        suspects: Collection[str] = (),
        levels: Mapping[str, str] | None = None,
    ) -> bool:
        """Look, decide, act; False when there is nothing to look after any more.

        Parameters
        ----------
        running : sequence of Running
            Attempts under way, of all partitions.
        foresight : Foresight
            What stages cost.
        suspects : collection of str
            Nodes that are left alone.
        levels : mapping or None
            Id -> engine of each level of theory in the queue.

        Raises
        ------
        ReplacedError
            Another launcher has the partition now.
        """
        self._keep()
        try:
            happened = self.roster.look(self._now)
            self._memory = scaling.after(self._memory, happened, time.monotonic())
            if self.standing.gate is Gate.STOPPING:
                self._stop()
            self._decide(running, foresight, levels or {})
            self._act(suspects)
        except (SchedulerAway, Refused) as error:  # the second: it does not cancel a job
            self._has_trouble(error)
        else:
            self._has_trouble(None)
            self._looked = True
        over = self.standing.gate in (Gate.DRAINING, Gate.STOPPING)
        return bool(self.roster.present) or not over

    @property
    def idle(self) -> bool:
        """Whether nothing waits, runs or is pending here, as the last look saw, and saw all."""
        waits = self._demand.ready or self._demand.running or self.roster.present
        return self._looked and not (self.trouble or waits)

    def prolong(self) -> None:
        """Keep the lease while others are looked at: a scheduler that hangs takes half a minute.

        That it was taken by another, the next look says.
        """
        if time.monotonic() - self._kept_at > PROLONG_SECONDS:
            with suppress(ReplacedError):
                self._keep()

    def _keep(self) -> None:
        """Prolong the lease, and leave word for `qfarm launcher status`."""
        self._kept_at = time.monotonic()
        standing = self.fleet.keep(self.partition.name, self._token, LEASE_SECONDS, self._words())
        if standing is None:
            raise ReplacedError(
                f"partition {self.partition.name!r} was taken from this launcher, by another or by "
                "`qfarm launcher stop`",
                "`qfarm launcher status` shows who has it; its jobs go on.",
            )
        if standing.gate is not self.standing.gate:
            self.log.info("gate", partition=self.partition.name, gate=standing.gate.value)
        self.standing = standing

    def _decide(
        self, running: Sequence[Running], foresight: Foresight, levels: Mapping[str, str]
    ) -> None:
        standings = {one.name: one for one in self.fleet.standings()}
        partitions = self.farm.config.partitions
        wish = wish_of(self.partition, partitions, standings.values(), levels)
        most = max(READY, min(MOST_READY, scaling.most_ready(self._sample, self._limits)))
        rest = (
            self.roster.present,
            running,
            foresight,
            self.partition,
            self._now,
            self._limits.life,
            at_rest(partitions, standings),
        )
        name = self.partition.name
        self._demand = self.fleet.demand(name, wish, most, SAMPLE)
        seen = outlook.outlook(self._demand, *rest)
        if self._demand.ready > SAMPLE and all(cost.at_most == inf for cost in seen.sample):
            # The first are left to others; those behind them need not be.
            self._demand = self.fleet.demand(name, wish, most, SAMPLE, spread=True)
            seen = outlook.outlook(self._demand, *rest)
        situation = Situation(
            time.monotonic(),
            self._demand.ready,
            seen.sample,
            seen.jobs,
            seen.pending,
            self.standing.gate,
        )
        decision, self._memory = scaling.decide(situation, self._limits, self._memory)
        self._tell(decision)
        self._decision = decision
        self._sample = seen.sample
        self._close(self.roster.unavailable or decision.closed)

    def _tell(self, decision: Decision) -> None:
        """Log what is decided: all that is done, and now and then why nothing is."""
        acts = decision.submit or decision.cancel_pending
        if acts or (decision.why != self._decision.why and time.monotonic() >= self._tell_at):
            self._tell_at = time.monotonic() + TELL_SECONDS
            self.log.info("decision", partition=self.partition.name, why=decision.why)

    def _act(self, suspects: Collection[str]) -> None:
        if self._decision.cancel_pending:
            waiting = [n for n in self.roster.present if n.state is not JobState.RUNNING]
            self.roster.cancel(waiting[: self._decision.cancel_pending], "nothing waits for it")
        happened: list[Event] = []
        try:
            for _ in range(0 if self.roster.unavailable else self._decision.submit):
                self.roster.submit(self._order(suspects))
                happened.append(Submitted())
        except StoreError:
            raise
        except UserError as error:  # refused, no answer, or asked for what it cannot do
            happened.append(scaling.Refused(error.what))
            self.log.warning("refused", partition=self.partition.name, why=str(error))
            if isinstance(error, SchedulerAway):
                raise
        finally:
            self._memory = scaling.after(self._memory, happened, time.monotonic())

    def _stop(self) -> None:
        """Tell all jobs to end, and again those that have not."""
        if time.monotonic() >= self._stop_at:
            self._stop_at = time.monotonic() + AGAIN_SECONDS
            self.roster.cancel(self.roster.present, "stopped by the user")

    def _order(self, suspects: Collection[str]) -> JobOrder:
        order = order_of(self.farm, self.partition, token_hex(DIGITS // 2))
        while self.fleet.named([order.name]):  # of its note the job would be taken for another
            order = order_of(self.farm, self.partition, token_hex(DIGITS // 2))
        return replace(order, exclude=self._left_out(suspects), module=self.module)

    def _left_out(self, suspects: Collection[str]) -> tuple[str, ...]:
        """Those on which its jobs ran: of a name that it does not know, Slurm refuses the job."""
        own = {note.host for note in self.roster.known}
        return tuple(sorted(own.intersection(suspects)))

    @property
    def _now(self) -> datetime:
        """Time of this look by the database's clock, by which jobs are noted; ours may be wrong."""
        return self.standing.looked or datetime.now(UTC)

    @property
    def _limits(self) -> Limits:
        life = job_lifetime(self.partition.walltime, 0.0, 0.0, stagger_key="", monotonic=0.0)
        return Limits.of(self.partition, max(1.0, life.left(0.0)))

    def _remembered(self) -> Memory:
        """What launchers before have submitted lately, so that the rate holds across them."""
        now, wall = time.monotonic(), datetime.now(UTC)
        notes = (note for note in self.roster.known if note.submitted)
        ages = (outlook.seconds(note.submitted, wall) for note in notes)
        return Memory(tries=tuple(sorted(now - age for age in ages if age < 3600)))

    def _close(self, why: str) -> None:
        """Say whether the partition can do work at present; others may take its stages if not."""
        if why != self._closed:
            self.fleet.refuse(self.partition.name, why)
            if why:
                self.log.warning("closed", partition=self.partition.name, why=why)
            elif self._closed:
                self.log.info("open again", partition=self.partition.name)
            self._closed = why

    def _has_trouble(self, error: UserError | None) -> None:
        why = "" if error is None else error.what
        if error is not None and why != self.trouble:
            self.log.warning("trouble", partition=self.partition.name, why=str(error))
        self.trouble = why

    def _words(self) -> dict[str, JsonValue]:
        """What `qfarm launcher status` shows, and what jobs want to know."""
        present, decision = self.roster.present, self._decision
        at_work = [note for note in present if note.state is JobState.RUNNING]
        seconds = sum(cost.seconds for cost in self._sample) / max(1, len(self._sample))
        wait, slots = decision.not_before - time.monotonic(), sum(note.slots for note in at_work)
        return {
            "jobs": len(at_work),
            "pending": len(present) - len(at_work),
            "slots": slots,
            "left": round(seconds * self._demand.ready / slots) if slots else None,
            "attempts": self._demand.running,
            "ready": self._demand.ready,
            "why": "; ".join(filter(None, (decision.why, self.roster.why_pending))),
            "wait": round(wait, 1) if isfinite(wait) and wait > 0 else 0.0,
            "trouble": self.trouble,
        }


def logs_of(farm: Farm) -> Path:
    """Folder of the logs of batch jobs."""
    return farm.folder / "log" / "jobs"


def order_of(farm: Farm, partition: Partition, number: str) -> JobOrder:
    """The order of a job of a partition, with nothing left out."""
    ranks = [engine.ranks for engine in farm.config.engines.values()]
    return JobOrder(
        name=job_name(partition.name, number),
        farm=farm.root,
        log_folder=logs_of(farm),
        python=partition.python or sys.executable,
        ranks=max(ranks, default=1),
    )
