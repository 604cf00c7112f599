"""Following: bars on a terminal for work whose parts follow one another, and growing files."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TextIO

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
        file = stack.enter_context(_read(path))
        *lines, part = file.read().split("\n")
        if part and not follow:
            lines.append(part)
        yield from deque(filter(wanted, lines), maxlen=last)
        while follow:
            part += file.readline()
            if part.endswith("\n"):
                line, part = part[:-1], ""
                if wanted(line):
                    yield line
            elif _replaced(file, path):
                file = stack.enter_context(_read(path))
            else:
                time.sleep(_NAP)


def _read(path: Path) -> TextIO:
    return path.open(encoding="utf-8", errors="replace", newline="\n")


def _replaced(file: TextIO, path: Path) -> bool:
    """Whether another file has the name now; False while none has."""
    try:
        return not os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


_NAP: Final = 0.5  # s
