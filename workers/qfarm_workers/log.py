"""The attempt log: one JSON line for each attempt, appended by all workers of a host."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger


def path_in(folder: Path) -> Path:
    """The attempt log of a farm folder."""
    return folder / "log" / "attempts.jsonl"


@contextmanager
def to_file(path: Path) -> Iterator[FilteringBoundLogger]:
    """Open the log; each line is one write in append mode, so that lines never mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        yield structlog.wrap_logger(
            structlog.WriteLogger(file),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            cache_logger_on_first_use=True,
        )
