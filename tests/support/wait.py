"""Waiting for something outside the test's own process, with a limit."""

import time
from collections.abc import Callable

import psutil


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once `condition` holds.

    Raises
    ------
    TimeoutError
        It never did.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not come true in {seconds} s")
        time.sleep(0.02)


def gone(pid: int, seconds: float = 5.0) -> None:
    """Return once no process `pid` runs; a zombie does not."""
    until(lambda: not lives(pid), seconds)


def lives(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
