"""The heartbeat: a thread that keeps the lease of one claim alive."""

from threading import Event, Thread
from types import TracebackType
from typing import Self

from qfarm.errors import LeaseLostError, StoreError
from qfarm.store.protocol import Claim, Store
from qfarm_schemas.attempt import Rung
from qfarm_schemas.config import LeaseConfig


class Heartbeat:
    """Prolong a lease while the block runs; set `stop` when it is lost.

    A MongoDB that does not answer is no reason to stop: while it is away nobody can take the
    claim, and the commit finds out whether it is still ours.
    """

    def __init__(
        self, store: Store, claim: Claim, lease: LeaseConfig, rung: Rung, stop: Event
    ) -> None:
        self._store = store
        self._claim = claim
        self._lease = lease
        self._rung = rung
        self._stop = stop
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
        try:
            while self._ours() and not self._done.wait(self._lease.heartbeat):
                continue
        except Exception as error:  # noqa: BLE001 - raised again where the loop sees it
            self._error = error
        finally:
            if not self._done.is_set():
                self._stop.set()

    def _ours(self) -> bool:
        try:
            return self._store.heartbeat(self._claim, self._lease.seconds, self._rung)
        except LeaseLostError:
            return False
        except StoreError:
            return True
