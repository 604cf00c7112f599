"""Following: bars on a terminal for work whose parts follow one another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
