"""Sight: how far into the queue a pull loop looks for a stage that fits. Pure."""

from dataclasses import dataclass, replace
from math import inf
from typing import Final

from qfarm.store.wish import SIGHT, Ahead, Wish

FARTHEST: Final = 64 * SIGHT
"""Ready stages that are looked through at once; the loop and mongod take 0.2 s for so many. The
next look goes on from there."""

STAGES_PER_SECOND: Final = 4.0 * SIGHT
"""Bounds what an idle loop costs mongod: after a look at so many stages it looks no farther than
`SIGHT` for a second. A look at the `FARTHEST` comes every 16 s."""

HEAD_SECONDS: Final = FARTHEST / STAGES_PER_SECOND
"""s: between two looks at the first of the queue while what fits is found far behind them."""


@dataclass
class Sight:
    """How far a loop looks.

    It doubles with each look in vain that did not come to the end of the queue, up to the
    `FARTHEST`; the next begins where that one ended. Once a stage is found it is twice as far as
    that took: while long runs of stages that do not fit lie ahead they are read with each claim,
    and the first claim that finds something near makes an end of it.

    Attributes
    ----------
    stages : int
        Ready stages that are looked through.
    over : bool
        Looks in vain came to the end of the queue, and nothing was found since.
    """

    stages: int = SIGHT
    over: bool = False
    _seen: int = 0
    _far_at: float = -inf
    _head_at: float = -inf
    _begin: int = 0  # where far looks begin
    _far: bool = True  # whether the last look was one
    _whole: bool = False  # whether far looks have left out nothing since the first of the queue

    def within(self, wish: Wish, now: float) -> Wish:
        """The wish as far as a claim at a time, s by the monotonic clock, shall look."""
        self._seen = 0
        if wish.fits is None:
            self.stages, self._begin, self._far, self._whole = SIGHT, 0, True, True
            return wish
        fits = wish.fits

        def seen(ahead: Ahead) -> bool:
            self._seen += 1
            return fits(ahead)

        near = now < self._far_at or (self._begin > 0 and now >= self._head_at)
        self._far = not near or (self._begin, self.stages) == (0, SIGHT)
        self._whole = self._whole or (self._far and not self._begin)
        if not self._far:
            self._head_at = now + HEAD_SECONDS
            return replace(wish, fits=seen, sight=SIGHT)
        return replace(wish, fits=seen, sight=self.stages, skip=self._begin)

    def found(self) -> None:
        """The claim found something."""
        self.stages = max(SIGHT, min(2 * self._seen, FARTHEST))
        self._far_at = -inf
        self._begin = self._begin if self._far else 0
        self.over = self._whole = False

    def in_vain(self, now: float) -> bool:
        """The claim found nothing; whether there may be something elsewhere, for a later look."""
        if not self._far:
            return True
        self._far_at = now + self._seen / STAGES_PER_SECOND
        if self._seen < self.stages:
            self.over, self._begin = self._whole, 0
            return not self.over
        if self.stages >= FARTHEST:
            self._begin += self.stages
        self.stages = min(2 * self.stages, FARTHEST)
        return True
