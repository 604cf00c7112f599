"""Atomic: write a file under a temporary name, then put it in place at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `target`; rename it to `target` at the end.

    The content is on disk before the rename, and the rename before this returns. After an
    exception, a kill or a power cut `target` is what it was; only a kill leaves the temporary
    file, named ``.TARGET.PID.part``.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
