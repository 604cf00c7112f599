"""What slots passed over: stages that were ready, but did not fit, when slots of a job ended. Pure.

One slot's end says little of all: the cheapest stage that it saw may be gone, and what is submitted
later may be smaller. So nothing is concluded for good.
"""

from dataclasses import dataclass
from math import inf
from typing import Final

MOST_COUNTED: Final = 1000
"""Ready stages that are counted; where more were passed over, one slot after the other tries."""


@dataclass
class PassedOver:
    """What the slots of a job that ended for want of something that fits have left.

    Attributes
    ----------
    ready : int
        Stages that were ready then, and may be still.
    due : bool
        Slots have ended so, and what is ready was not counted since.
    """

    ready: int = 0
    due: bool = False
    _try_at: float = inf

    def counted(self, ready: int, try_at: float) -> None:
        """So many are ready right after slots have ended; one may try again at a time, s."""
        self.ready, self.due, self._try_at = ready, False, try_at

    def begun(self) -> None:
        """A new slot has found something that fits: others may, too."""
        self.ready = 0

    def wanted(self, ready: int, free: int, now: float, patience: float) -> int:
        """How many of the free slots to start; one now and then as a try.

        Parameters
        ----------
        ready : int
            Stages that are ready, counted as far as it matters.
        free : int
            Slots that could be started.
        now : float
            Time by the monotonic clock, s.
        patience : float
            Between two tries, s.
        """
        self.ready = min(self.ready, ready)
        more = min(ready - self.ready, free)
        if more or not ready or now < self._try_at:
            return more
        self._try_at = now + patience
        return min(1, free)
