"""The reaper: gives the attempts of dead workers to the same ladder as any other failure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final

from qfarm.errors import NotFoundError
from qfarm.ladder import Ladder
from qfarm.store.protocol import Claim, Ended, Store
from qfarm_schemas.attempt import Attempt, Worker
from qfarm_workers import failures
from qfarm_workers.attempt import Engines, unfinished

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
    """

    store: Store
    me: Worker
    engines: Engines
    heartbeat: float
    killed: bool = False

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
        stopped = holder.job == self.me.job and self.killed
        why = failures.interrupted if stopped else failures.lost_worker
        failure = why(holder.host, holder.pid)
        finished = unfinished(claim, holder, failure, self._ladder(claim))
        return Ended(claim, finished.attempt, finished.decision)

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
