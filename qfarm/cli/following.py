"""Following: bars on a terminal for work whose parts follow one another, and growing files."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

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
    """The last lines of a text file that are wanted; with `follow`, those that are added, too."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from deque(filter(wanted, (line.rstrip("\n") for line in file)), maxlen=last)
        while follow:
            line = file.readline()
            if not line.endswith("\n"):
                file.seek(file.tell() - len(line.encode()))
                time.sleep(_NAP)
            elif wanted(line):
                yield line.rstrip("\n")


_NAP: Final = 0.5  # s
