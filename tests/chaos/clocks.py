"""Clocks of Python processes that jump: what `datetime.now` and `time.time` say follows a file.

libfaketime, which does this for mongod, breaks `time.sleep` of Python (clock_nanosleep until a
moment of the monotonic clock), so workers and launchers get it from the inside.
"""

import os
import time
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final, Self

import qfarm_workers.attempt
import qfarm_workers.finished

_KEPT: Final = 0.2
"""s: how long the offset is kept before the file is read again."""


class _Offset:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = -_KEPT
        self._seconds = 0.0

    def seconds(self) -> float:
        now = time.monotonic()
        if now - self._read_at >= _KEPT:
            self._read_at = now
            with suppress(OSError, ValueError):
                self._seconds = float(self._path.read_text())
        return self._seconds


def install() -> None:
    """Let the clocks of this process follow the file of ``CHAOS_CLOCK``, if it is set."""
    named = os.environ.get("CHAOS_CLOCK")
    if not named:
        return
    offset, real = _Offset(Path(named)), time.time

    class Shifted(datetime):
        """Tells the time of the file."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=offset.seconds())

    time.time = lambda: real() + offset.seconds()
    for module in (qfarm_workers.attempt, qfarm_workers.finished):
        module.datetime = Shifted  # type: ignore[attr-defined]
