"""The reaper: gives the attempts of dead workers to the same ladder as any other failure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final

from qfarm.engines.launch import divided
from qfarm.errors import NotFoundError
from qfarm.ladder import Ladder, settings
from qfarm.store.protocol import Claim, Ended, Store
from qfarm_launchers.attribution import EndingOf, failure_of
from qfarm_schemas.attempt import Attempt, Failure, Worker
from qfarm_workers import failures
from qfarm_workers.attempt import Engines, unfinished
from qfarm_workers.finished import rung_of

GROUP: Final = 50
"""Attempts that are committed together, so that those of many dead workers end in seconds."""

GROUP_SECONDS: Final = 2.0
"""s: how old a group gets before it is committed; nobody prolongs its leases."""


@dataclass(frozen=True)
class Reaper:
    """Takes over what nobody works on any more.

    Attributes
    ----------
    store : Store
        The job database.
    me : Worker
        The process that reaps.
    engines : callable
        Engine table.
    heartbeat : float
        Seconds between two signs of life of a worker. An ended lease must stay without one for
        two heartbeats before the reaper's eyes: after an outage all leases have ended.
    killed : bool
        Whether the user had this launcher's own workers killed.
    ending_of : callable or None
        How a worker's batch job ended, where that is known: it tells why the worker was lost.
    slots_of : callable or None
        Attempts that run at once in a worker's batch job; None: one.
    ranks_of : callable or None
        MPI ranks that a worker's partition starts an engine with, by the engine's name; None: one.
    """

    store: Store
    me: Worker
    engines: Engines
    heartbeat: float
    killed: bool = False
    ending_of: EndingOf | None = None
    slots_of: Callable[[Worker], int] | None = None
    ranks_of: Callable[[Worker, str], int] | None = None

    def reap(self, gone: Callable[[Worker], bool]) -> list[Attempt]:
        """End the attempts whose worker is gone or gives no sign of life; those that were ended."""
        taken = self.store.take_over(gone, self.me, 2 * self.heartbeat)
        return [attempt for group in _groups(taken) for attempt in self._end(group)]

    def _end(self, claims: Iterable[Claim]) -> list[Attempt]:
        ended = [self._ended(claim) for claim in claims]
        ours = self.store.commit_many(ended)  # others: another launcher's reaper was first
        return [item.attempt for item, own in zip(ended, ours, strict=True) if own]

    def _ended(self, claim: Claim) -> Ended:
        holder = claim.taken_from or claim.worker
        ladder = self._ladder(claim)
        finished = unfinished(claim, holder, self._why(claim, holder, ladder), ladder)
        return Ended(claim, finished.attempt, finished.decision)

    def _why(self, claim: Claim, holder: Worker, ladder: Ladder) -> Failure:
        """Why a worker was lost, as far as anybody can tell."""
        if holder.job == self.me.job and self.killed:
            return failures.interrupted(holder.host, holder.pid)
        ending = self.ending_of(holder) if self.ending_of is not None else None
        if ending is None:
            return failures.lost_worker(holder.host, holder.pid)
        slots = self.slots_of(holder) if self.slots_of is not None else 1
        return failure_of(holder, ending, slots, self._ranks(claim, holder, ladder))

    def _ranks(self, claim: Claim, holder: Worker, ladder: Ladder) -> int:
        """MPI ranks that the attempt ran with."""
        ranks = self.ranks_of(holder, claim.stage.level.engine) if self.ranks_of is not None else 1
        return divided(ranks, settings(ladder.memory, rung_of(claim, ladder).memory))

    def _ladder(self, claim: Claim) -> Ladder:
        try:
            return self.engines(claim.stage.level.engine).ladder
        except NotFoundError:
            return Ladder()


def _groups(claims: Iterable[Claim]) -> Iterator[list[Claim]]:
    """Put claims into groups as they come; no two of one workflow into the same."""
    group: list[Claim] = []
    began = monotonic()
    for claim in claims:
        full = len(group) >= GROUP or monotonic() - began > GROUP_SECONDS
        if group and (full or any(claim.workflow == other.workflow for other in group)):
            yield group
            group = []
        if not group:
            began = monotonic()
        group.append(claim)
    if group:
        yield group
