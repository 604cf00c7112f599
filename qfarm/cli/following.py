"""Following: bars on a terminal for work whose parts follow one another, and growing files."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from rich.progress import Progress, TaskID

from qfarm.cli.console import stderr
from qfarm.store.backup import Step


@contextmanager
def following() -> Iterator[Callable[[Step], None]]:
    """Give a function that shows how far a part is; silent where nobody looks."""
    console = stderr()
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:

        def show(step: Step) -> None:
            if step.what not in tasks:
                tasks[step.what] = progress.add_task(step.what)
            progress.update(tasks[step.what], completed=step.done, total=step.total)

        yield show


def lines_of(path: Path, last: int, follow: bool, wanted: Callable[[str], bool]) -> Iterator[str]:
    """The last lines of a text file that are wanted; with `follow`, those that are added, too.

    A file that another takes the place of, as logs do when they are full, is followed there.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        *ended, part = file.read().split(b"\n")
        lines = [_text(line) for line in (ended if follow or not part else [*ended, part])]
        yield from deque(filter(wanted, lines), maxlen=last)
        while follow:
            part += file.readline()  # it may end within a line, and within a letter
            if part.endswith(b"\n"):
                line, part = _text(part[:-1]), b""
                if wanted(line):
                    yield line
            elif _replaced(file, path):
                file = stack.enter_context(path.open("rb"))
            else:
                time.sleep(_NAP)


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


def _replaced(file: BinaryIO, path: Path) -> bool:
    """Whether another file has the name now; False while none has."""
    try:
        return not os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


_NAP: Final = 0.5  # s
