"""The launcher: keeps a pool of workers busy until the queue is empty or the user stops it."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from qfarm.errors import StoreError
from qfarm.store.protocol import Running, StageCount, StageState, Store
from qfarm_launchers.interrupts import Interrupts
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.attempt import Attempt
from qfarm_workers.identity import gone
from qfarm_workers.patience import patiently

LOOK_SECONDS: Final = 0.5
"""Seconds between two looks at the pool and the queue."""

REAP_SECONDS: Final = 2.0
"""Seconds between two passes of the reaper."""

_NAP_SECONDS: Final = 0.1

DONE: Final = 0
UNFINISHED: Final = 3
STOPPED: Final = 130


class Pool(Protocol):
    """Worker processes that run pull loops."""

    def tend(self) -> int:
        """Resubmit loops that ended before the work did; the number of loops that run."""

    def kill(self) -> None:
        """End all processes at once."""


@dataclass(frozen=True)
class Look:
    """What a view is shown.

    Attributes
    ----------
    counts : tuple of StageCount
        Stages by name and state, of the whole farm.
    running : tuple of Running
        Attempts under way, of all launchers.
    loops : int
        Pull loops of this launcher.
    draining : bool
        Whether the user asked to stop.
    reaped : tuple of Attempt
        Attempts of dead workers that were ended since the last look.
    trouble : str
        Why the farm cannot be looked at; empty as a rule.
    """

    counts: tuple[StageCount, ...] = ()
    running: tuple[Running, ...] = ()
    loops: int = 0
    draining: bool = False
    reaped: tuple[Attempt, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes
    ----------
    counts : tuple of StageCount
        Stages by name and state, of the whole farm.
    stopped : bool
        Whether the user stopped it.
    """

    counts: tuple[StageCount, ...]
    stopped: bool = False

    def number(self, *states: StageState) -> int:
        """Stages in one of the states."""
        return sum(count.count for count in self.counts if count.state in states)

    @property
    def exit_code(self) -> int:
        """0: all done; 3: some failed or could not be worked on; 130: stopped by the user."""
        if self.stopped:
            return STOPPED
        left = self.number(StageState.FAILED, StageState.READY, StageState.WAITING)
        return UNFINISHED if left else DONE


@dataclass
class Launcher:
    """Runs a pool in the foreground.

    Attributes
    ----------
    store : Store
        The job database.
    pool : Pool
        The workers.
    reaper : Reaper
        Ends the attempts of dead workers; `reaper.me.job` is this launcher's id.
    show : callable
        Called with every look.
    """

    store: Store
    pool: Pool
    reaper: Reaper
    show: Callable[[Look], None]
    _drained: bool = False
    _reap_at: float = 0.0

    def run(self, interrupts: Interrupts) -> Ending:
        """Work until the loops find nothing more to do.

        The first interrupt lets running attempts finish; the second kills them, which costs no
        retry.
        """
        try:
            while self._turn(interrupts):
                self._rest(interrupts)
        except KeyboardInterrupt:
            self._kill()
            return Ending(self.store.counts(), stopped=True)
        except Exception:
            with suppress(StoreError):  # what ended the run is the error to tell
                self._kill()
            raise
        return Ending(patiently(self.store.counts), stopped=interrupts.drain)

    def _turn(self, interrupts: Interrupts) -> bool:
        """One look; False when no loop is left."""
        loops = self.pool.tend()
        try:
            if interrupts.drain and not self._drained:
                self.store.ask_drain(self.reaper.me.job)
                self._drained = True
            self.show(self._look(loops))
        except StoreError as error:
            self.show(Look(loops=loops, draining=self._drained, trouble=str(error)))
        return loops > 0

    def _look(self, loops: int) -> Look:
        reaped = self._reap()
        counts, running = self.store.counts(), self.store.running()
        return Look(counts, running, loops, self._drained, tuple(reaped))

    def _reap(self) -> list[Attempt]:
        if time.monotonic() < self._reap_at:
            return []
        self._reap_at = time.monotonic() + REAP_SECONDS
        return self.reaper.reap(gone)

    def _rest(self, interrupts: Interrupts) -> None:
        """Wait for the next look; an interrupt cuts it short."""
        until = time.monotonic() + LOOK_SECONDS
        time.sleep(_NAP_SECONDS)
        while time.monotonic() < until and interrupts.drain == self._drained:
            time.sleep(_NAP_SECONDS)

    def _kill(self) -> None:
        """Kill the workers and commit their attempts as interrupted, which costs no retry."""
        self.pool.kill()
        mine = self.reaper.me.job
        reaper = replace(self.reaper, killed=True)
        reaper.reap(lambda worker: worker.job == mine or gone(worker))
