"""The attempt log: one JSON line for each attempt, appended by all workers of a host."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger

from qfarm_schemas.attempt import Attempt, Failure
from qfarm_schemas.config import Partition


def path_in(folder: Path, partition: Partition | None = None) -> Path:
    """The attempt log of a farm folder.

    Workers of batch jobs write one for each host: hosts that append to one file on a network file
    system overwrite each other's lines.
    """
    if partition is None or partition.scheduler == "local":
        return folder / "log" / "attempts.jsonl"
    return folder / "log" / f"attempts.{socket.gethostname()}.jsonl"


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


def of_attempt(made: Attempt) -> dict[str, object]:
    """What the log says of an attempt."""
    outcome = made.outcome
    return {
        "key": made.key,
        "fragment": made.fragment_id,
        "stage": made.stage,
        "number": made.number,
        "rung": made.rung.model_dump(mode="json"),
        "outcome": outcome.kind.value if isinstance(outcome, Failure) else "success",
        "cause": outcome.cause if isinstance(outcome, Failure) else "",
        "worker": made.worker.name,
        "host": made.worker.host,
        "wall_seconds": round(made.cost.wall_seconds, 3),
        "cpu_seconds": round(made.cost.cpu_seconds, 3),
        "peak_memory_mb": round(made.cost.peak_memory_mb),
    }
