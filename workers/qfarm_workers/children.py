"""Children: of a process, by the kernel's own list; no more than Python itself is imported.

A supervisor needs it, of which there is one for each worker.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> Iterator[int]:
    """Children of all threads of a process; of one that has ended, none."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                yield from map(int, (thread / "children").read_text().split())
