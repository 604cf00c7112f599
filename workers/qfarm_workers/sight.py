"""Sight: how far into the queue a pull loop looks for a stage that fits. Pure."""

from dataclasses import dataclass, replace
from math import inf
from typing import Final

from qfarm.store.wish import SIGHT, Ahead, Wish

FARTHEST: Final = 64 * SIGHT
"""Ready stages that are looked through at most; the loop and mongod take 0.2 s for so many."""

STAGES_PER_SECOND: Final = 4.0 * SIGHT
"""Bounds what an idle loop costs mongod: after a look at so many stages it looks no farther than
`SIGHT` for a second. A look at the `FARTHEST` comes every 16 s."""


@dataclass
class Sight:
    """How far a loop looks.

    It doubles with each look in vain that did not come to the end of the queue. Once a stage is
    found it is twice as far as that took: while long runs of stages that do not fit lie ahead they
    are read with each claim, and the first claim that finds something near makes an end of it.

    Attributes
    ----------
    stages : int
        Ready stages that are looked through.
    over : bool
        The last look in vain came to the end of the queue, or as far as any does, and nothing was
        found since.
    """

    stages: int = SIGHT
    over: bool = False
    _seen: int = 0
    _asked: int = SIGHT
    _far_at: float = -inf

    def within(self, wish: Wish, now: float) -> Wish:
        """The wish as far as a claim at a time, s by the monotonic clock, shall look."""
        self._seen = 0
        if wish.fits is None:
            self.stages = self._asked = SIGHT
            return wish
        fits = wish.fits

        def seen(ahead: Ahead) -> bool:
            self._seen += 1
            return fits(ahead)

        self._asked = self.stages if now >= self._far_at else SIGHT
        return replace(wish, fits=seen, sight=self._asked)

    def found(self) -> None:
        """The claim found something."""
        self.stages = max(SIGHT, min(2 * self._seen, FARTHEST))
        self._far_at = -inf
        self.over = False

    def in_vain(self, now: float) -> bool:
        """The claim found nothing; whether there may be something farther on, for a later look."""
        if self._asked < self.stages:
            return True
        self._far_at = now + self._seen / STAGES_PER_SECOND
        self.over = self._seen < self.stages or self.stages >= FARTHEST
        if self.over:
            return False
        self.stages = min(2 * self.stages, FARTHEST)
        return True
