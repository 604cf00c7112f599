"""Guide: what tells a pull loop whether it may claim, and what."""

from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Final, Protocol

from qfarm.store.protocol import Store
from qfarm.store.wish import ANYTHING, Wish
from qfarm_schemas.attempt import Attempt

LOOK_SECONDS: Final = 0.5
"""s: between two looks whether the launcher drains."""


class Guide(Protocol):
    """Asked by a loop before each claim."""

    @property
    def idle_seconds(self) -> float:
        """How long the loop waits for work before it ends, s."""

    @property
    def least(self) -> float | None:
        """Seconds that the cheapest stage takes that the loop may claim; None: not known."""

    def drained(self, look: bool = False) -> bool:
        """Whether the loop shall claim no more; with `look`, as it is this very moment."""

    def wish(self) -> Wish:
        """What it may claim."""

    def begun(self) -> None:
        """Hear that the loop has claimed something, and begins to work on it."""

    def note(self, made: Attempt, engine: str) -> None:
        """Hear of an attempt that the loop has made at a level of `engine`."""


@dataclass
class ByLauncher:
    """The guide of loops that a launcher keeps in its own processes: it may ask for a drain.

    Attributes
    ----------
    store : Store
        The job database.
    launcher : str
        Id of the launcher.
    what : Wish
        What its partition takes.
    """

    store: Store
    launcher: str
    what: Wish = field(default_factory=lambda: ANYTHING)
    idle_seconds: float = inf
    least: float | None = None
    _draining: bool = False
    _look_at: float = 0.0

    def drained(self, look: bool = False) -> bool:
        """See `Guide.drained`; the database is asked now and then."""
        if look or monotonic() >= self._look_at:
            self._draining = self.store.draining(self.launcher)
            self._look_at = monotonic() + LOOK_SECONDS
        return self._draining

    def wish(self) -> Wish:
        """See `Guide.wish`."""
        return self.what

    def begun(self) -> None:
        """See `Guide.begun`: nothing follows from it."""

    def note(self, made: Attempt, engine: str) -> None:
        """See `Guide.note`: nothing follows from it."""
