"""The reaper: gives the attempts of dead workers to the same ladder as any other failure."""

from collections.abc import Callable
from dataclasses import dataclass

from qfarm.errors import LeaseLostError, NotFoundError
from qfarm.ladder import Ladder
from qfarm.store.protocol import Claim, Store
from qfarm_schemas.attempt import Attempt, Worker
from qfarm_workers import failures
from qfarm_workers.attempt import Engines, unfinished


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
        ended = map(self._end, self.store.take_over(gone, self.me, 2 * self.heartbeat))
        return [attempt for attempt in ended if attempt is not None]

    def _end(self, claim: Claim) -> Attempt | None:
        holder = claim.taken_from or claim.worker
        stopped = holder.job == self.me.job and self.killed
        why = failures.interrupted if stopped else failures.lost_worker
        failure = why(holder.host, holder.pid)
        finished = unfinished(claim, holder, failure, self._ladder(claim))
        try:
            self.store.commit(claim, finished.attempt, finished.decision)
        except LeaseLostError:
            return None  # another launcher's reaper was first
        return finished.attempt

    def _ladder(self, claim: Claim) -> Ladder:
        try:
            return self.engines(claim.stage.level.engine).ladder
        except NotFoundError:
            return Ladder()
