"""Hand: what a worker holds of the queue, namely claims not begun and attempts not committed.

Nothing here is locked. While an attempt runs, the heartbeat's thread may clear the hand, and the
pull loop, which waits for the attempt and then for that thread, does not touch it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from qfarm.errors import UserError
from qfarm.store.protocol import Claim, Ended, Store
from qfarm_workers import batch, log
from qfarm_workers.finished import Finished
from qfarm_workers.restart import Restarts, of_use


class _Kept(NamedTuple):
    claim: Claim
    finished: Finished
    since: float

    @property
    def ended(self) -> Ended:
        made = self.finished
        return Ended(self.claim, made.attempt, made.decision, made.record)


@dataclass
class Hand:
    """What one worker holds.

    Every method that calls the store may be called again after a `StoreError`, and goes on.

    Attributes
    ----------
    store : Store
        The job database.
    restarts : Restarts or None
        Restart files; those of no more use are removed after the commit.
    log : FilteringBoundLogger
        Gets one line for each attempt.
    waiting : deque of Claim
        Claims whose attempt has not begun, in the order of the queue.
    committed : int
        Attempts committed so far.
    """

    store: Store
    restarts: Restarts | None
    log: FilteringBoundLogger
    waiting: deque[Claim] = field(default_factory=deque)
    committed: int = 0
    _kept: dict[str, _Kept] = field(default_factory=dict)  # by stage key, oldest first
    _unwanted: list[Claim] = field(default_factory=list)

    def keep(self, claim: Claim, finished: Finished) -> None:
        """Keep a finished attempt to be committed with others."""
        self._kept[claim.key] = _Kept(claim, finished, monotonic())

    def due(self) -> bool:
        """Whether to commit before the next attempt begins."""
        kept = self._kept.values()
        oldest = min((one.since for one in kept), default=monotonic())
        workflows = {one.claim.workflow for one in kept}
        # Only other hands can have made two stages of one workflow ready at once.
        return monotonic() - oldest >= batch.SECONDS or any(
            claim.workflow in workflows for claim in self.waiting
        )

    def clear(self) -> None:
        """Commit what is finished and give back what was not begun."""
        self.commit()
        self.put_back(self.waiting)
        self.waiting.clear()
        self._release()

    def put_back(self, claims: Iterable[Claim]) -> None:
        """Note that no attempt will be made at these claims; `clear` gives them back."""
        self._unwanted.extend(claims)

    def commit(self) -> None:
        """Commit what is finished, together."""
        if self._kept:
            self._commit(tuple(self._kept.values()))

    def drop(self, claim: Claim) -> None:
        """Say that somebody else has the stage now: what was made of it counts for nothing."""
        self.log.warning("dropped", key=claim.key, number=claim.number)

    def _release(self) -> None:
        if self._unwanted:
            self.store.release(self._unwanted)
            self.log.info("released", keys=[claim.key for claim in self._unwanted])
            self._unwanted.clear()

    def _commit(self, kept: Sequence[_Kept]) -> None:
        try:
            ours = self.store.commit_many([one.ended for one in kept])
        except UserError:
            raise
        except Exception:
            if len(kept) > 1:
                return self._commit_singly(kept)
            del self._kept[kept[0].claim.key]
            raise
        for one, own in zip(kept, ours, strict=True):
            del self._kept[one.claim.key]
            self._tell(one, own)
        return None

    def _commit_singly(self, kept: Iterable[_Kept]) -> None:
        """Commit one after the other, so that one that cannot be written harms no other."""
        broken: Exception | None = None
        for one in kept:
            try:
                self._commit([one])
            except UserError:
                raise
            except Exception as error:  # noqa: BLE001 - raised when the others are safe
                broken = error
        if broken is not None:
            raise broken

    def _tell(self, kept: _Kept, own: bool) -> None:
        """Write the log, and remove restart files of no more use unless the claim was lost."""
        claim, finished, _ = kept
        if not own:
            self.drop(claim)
            return
        self.committed += 1
        made, decision = finished.attempt, finished.decision
        if self.restarts is not None and not of_use(decision, made.outcome):
            self.restarts.forget(made.key)
        self.log.info("attempt", **log.of_attempt(made), then=type(decision).__name__.lower())
        if finished.trouble:
            self.log.warning("trouble", key=claim.key, number=claim.number, why=finished.trouble)
