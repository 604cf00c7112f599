"""Where the command line writes: data to stdout, progress and errors to stderr."""

import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from qfarm.errors import UserError

WIDTH_IN_PIPES = 200  # columns when nobody looks, so that a table in a pipe is not cut

UNLIMITED = 100_000


def stdout() -> Console:
    """Console for data."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_IN_PIPES)


def stdout_unlimited() -> Console:
    """Console for tables that give up columns to fit: in a pipe they need not."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNLIMITED)


def stderr() -> Console:
    """Console for progress and messages."""
    return Console(stderr=True, highlight=False)


def print_error(error: UserError) -> None:
    """Print what happened in red, and the remedy below it."""
    console = stderr()
    console.print(Text(f"error: {error.what}", style="bold red"), soft_wrap=True)
    if error.remedy:
        console.print(Text(error.remedy), soft_wrap=True)


def print_unexpected(error: BaseException) -> None:
    """Keep the traceback in a file of the farm folder and print where it is.

    Without a farm folder to write to, the traceback itself is printed.
    """
    report = "".join(traceback.format_exception(error))
    summary = f"internal error: {type(error).__name__}: {error}"
    try:
        where = _keep(report)
    except (OSError, UserError):
        print(report, file=sys.stderr)
        where = None
    console = stderr()
    console.print(Text(summary, style="bold red"), soft_wrap=True)
    if where:
        console.print(f"The traceback is in {where}; please report it.", soft_wrap=True)


def _keep(report: str) -> Path:
    from qfarm import config

    path = config.load().folder / "errors.log"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now(UTC).isoformat()} {' '.join(sys.argv)}\n{report}\n")
    return path
