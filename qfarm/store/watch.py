"""Watch: which things have stayed as they are for long enough before the watcher's eyes. Pure."""

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

_Sign = TypeVar("_Sign", bound=Hashable)


class Watch(Generic[_Sign]):
    """Adds up the time for which signs were seen again and again.

    The time between two looks counts up to half of what is asked for: whatever keeps the watcher
    from looking, an outage for instance, cannot use up all of it.

    Parameters
    ----------
    clock : callable
        Monotonic seconds; on Linux they stand still while the machine sleeps.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = 0.0
        self._seen: dict[_Sign, float] = {}

    def look(self, signs: Iterable[_Sign], seconds: float) -> frozenset[_Sign]:
        """Take note of what is there now; those that have been there for `seconds`."""
        now = self._clock()
        passed = min(now - self._last, seconds / 2)
        self._seen = {
            sign: self._seen[sign] + passed if sign in self._seen else 0.0 for sign in signs
        }
        self._last = now
        return frozenset(sign for sign, age in self._seen.items() if age >= seconds)
