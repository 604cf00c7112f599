"""``qfarm show``: everything about one fragment, from its geometry to why it failed."""

import sys
from typing import Annotated, Any, Final

import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.text import Text

from qfarm.cli import report
from qfarm.cli.console import stdout
from qfarm.cli.draw import ASCII, UNICODE
from qfarm.cli.farm import open_farm
from qfarm.store.protocol import View

WIDEST: Final = 110  # columns of a drawing; more spreads a trace without telling more


def command(
    fragment: Annotated[
        str, typer.Argument(metavar="ID", help="Fragment id, or its beginning (see qfarm list).")
    ],
    all_atoms: Annotated[
        bool, typer.Option("--atoms", help="List every atom, also of large fragments.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show geometry, stages, attempts, SCF traces, verdicts, failures and results."""
    with open_farm() as (_, store):
        view = store.view(store.resolve(fragment))
    if as_json:
        print_json(view)
    else:
        show(view, stdout(), all_atoms)


def print_json(view: View) -> None:
    """Write all that the store knows."""
    sys.stdout.write(TypeAdapter(View).dump_json(view, indent=2).decode() + "\n")


def show(view: View, console: Console, all_atoms: bool = False) -> None:
    """Print for people."""
    ink = UNICODE if console.encoding.lower().startswith("utf") else ASCII
    page = report.Page(min(console.width, WIDEST), ink, all_atoms)
    for part in report.pages(view, page):
        console.print(_printable(part), soft_wrap=isinstance(part, str))


def _printable(part: Any) -> Any:
    return Text(part) if isinstance(part, str) else part
