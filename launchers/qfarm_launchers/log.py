"""The launcher's log: one JSON line for each thing that happens, and for people if they look."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from math import inf
from pathlib import Path
from typing import Final

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

LARGEST: Final = 20_000_000
"""Bytes of a log before the next is begun."""

KEPT: Final = 4
"""Older logs."""

DAYS: Final = 14.0
"""Days that logs of batch jobs stay."""

Echo = Callable[[str], None]


class _File(RotatingFileHandler):
    """A file that may be full or gone: what cannot be written is lost, the launcher goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        """Open it anew for the next line: one that could not be closed takes nothing more."""
        self.close()

    def close(self) -> None:
        """Close it; what cannot be written any more is lost."""
        with suppress(OSError, ValueError):
            super().close()


def path_in(folder: Path) -> Path:
    """The launcher's log in a farm folder."""
    return folder / "log" / "launcher.jsonl"


@contextmanager
def to_file(path: Path, echo: Echo | None = None) -> Iterator[FilteringBoundLogger]:
    """Open the log.

    Parameters
    ----------
    path : Path
        Where it is.
    echo : callable or None
        Gets each line in words.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _File(path, maxBytes=LARGEST, backupCount=KEPT, encoding="utf-8")
    sink = logging.Logger("qfarm launcher")
    sink.addHandler(handler)

    def told(_: object, level: str, event: EventDict) -> EventDict:
        # SystemExit: what rich makes of a pipe that nobody reads any more
        with suppress(OSError, ValueError, SystemExit):
            if echo is not None:
                echo(words(level, event))
        return event

    try:
        yield structlog.wrap_logger(
            sink,
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
                told,
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            cache_logger_on_first_use=True,
        )
    finally:
        handler.close()


def words(level: str, event: EventDict) -> str:
    """A line of the log for people: ``12:00:03 submitted: job cpu-1f3a9c, id 4711``."""
    at = str(event.get("at", ""))[11:19]
    said = ", ".join(f"{k} {v}" for k, v in event.items() if k not in _HEAD and v not in ("", None))
    mark = "" if level == "info" else f"{level}: "
    return f"{at} {mark}{event.get('event', '')}{': ' if said else ''}{said}"


_HEAD: Final = ("at", "event", "level")


def sweep(folder: Path, days: float = DAYS) -> int:
    """Remove scripts and logs of batch jobs that ended long ago; how many files."""
    oldest = time.time() - 86400 * days
    old = [path for path in folder.glob("*.*") if _changed(path) < oldest]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _changed(path: Path) -> float:
    """When a file was last written to, s since the epoch; one that is gone is young."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another launcher sweeps, too
        return inf
