"""The heartbeat: a thread that keeps the lease of one claim alive."""

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Self

from qfarm.errors import LeaseLostError, StoreError
from qfarm.store.protocol import Claim, Store
from qfarm_schemas.attempt import Rung
from qfarm_schemas.config import LeaseConfig


def _nothing() -> None:
    pass


class Heartbeat:
    """Prolong a lease while the block runs; set `stop` when it is lost.

    A MongoDB that does not answer is no reason to stop: while it is away nobody can take the
    claim, and the commit finds out whether it is still ours.

    Parameters
    ----------
    store : Store
        The job database.
    claim : Claim
        Whose lease.
    lease : LeaseConfig
        Its length, and the seconds between two beats.
    rung : Rung
        Where on the ladder the attempt stands.
    stop : Event
        Set when the lease is lost.
    quiet : float
        Seconds until the first beat; an attempt that is over by then costs none.
    beside : callable
        Called after each beat, with what else must not wait for a long attempt.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        lease: LeaseConfig,
        rung: Rung,
        stop: Event,
        *,
        quiet: float = 0.0,
        beside: Callable[[], None] = _nothing,
    ) -> None:
        self._store = store
        self._claim = claim
        self._lease = lease
        self._rung = rung
        self._stop = stop
        self._quiet = quiet
        self._beside = beside
        self._done = Event()
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        wait = self._quiet
        try:
            while not self._done.wait(wait) and self._ours():
                wait = self._lease.heartbeat
        except Exception as error:  # noqa: BLE001 - raised again where the loop sees it
            self._error = error
        finally:
            if not self._done.is_set():
                self._stop.set()

    def _ours(self) -> bool:
        try:
            if not self._store.heartbeat(self._claim, self._lease.seconds, self._rung):
                return False
            self._beside()
        except LeaseLostError:
            return False
        except StoreError:  # the next beat tries again
            return True
        return True
