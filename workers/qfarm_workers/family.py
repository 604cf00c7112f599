"""Family: the descendants of a process, found without a look at all other processes."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Descendants of a process, as far as they live; Linux only.

    psutil's own `children` reads the state of every process of the machine: 8 ms for 600 of them,
    four times a second in each worker, where this takes 0.02 ms.
    """
    found: list[psutil.Process] = []
    parents = [process.pid]
    while parents:
        for pid in _children(parents.pop()):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
                parents.append(pid)
    return found


def _children(pid: int) -> Iterator[int]:
    """Children of all threads of a process; of one that has ended, none."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                yield from map(int, (thread / "children").read_text().split())
