"""``qfarm list``: fragments and their stages, one line a stage."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console

from qfarm.cli.console import stderr, stdout_unlimited
from qfarm.cli.farm import open_farm
from qfarm.cli.select import ClassOption, StageOption, TagOption
from qfarm.cli.table import fitted
from qfarm.cli.wording import id_length
from qfarm.store.protocol import Row, Selection, StageState, Store


def command(
    *,
    state: Annotated[
        StageState | None, typer.Option("--state", help="Only stages in this state.")
    ] = None,
    fragment_class: ClassOption = None,
    tag: TagOption = None,
    stage: StageOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=0, metavar="N", help="Most stages to list; 0: all.")
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a line.")] = False,
) -> None:
    """List fragments and their stages.

    Ids are cut to a length that tells them apart; every command takes such a beginning. With
    --json each line is one stage with its full ids. An empty list is no error.
    """
    selection = Selection(state=state, fragment_class=fragment_class, tag=tag, stage=stage)
    with open_farm() as (_, store):
        rows = matching(store, selection)
        if as_json:
            print_json(rows if limit == 0 else islice(rows, limit))
        else:
            show(rows, limit, stdout_unlimited())


def matching(store: Store, selection: Selection) -> Iterable[Row]:
    """Stages that match; a fragment's other stages are left out."""
    for row in store.rows(selection):
        of_stage = selection.stage in (None, row.stage)
        if of_stage and selection.state in (None, row.state):
            yield row


def show(rows: Iterable[Row], limit: int, console: Console) -> None:
    """Print a table of at most `limit` rows and say whether there are more.

    Where the console is too narrow, tags, date and class are left out, in this order; then the
    reasons go below their rows.
    """
    iterator = iter(rows)
    shown = list(iterator if limit == 0 else islice(iterator, limit))
    if not shown:
        stderr().print("No stage matches. `qfarm status` shows what there is.")
        return
    console.print(_table(shown))
    if next(iterator, None) is not None:
        stderr().print(f"... and more: --limit 0 lists all; this is the first {limit}.")


def print_json(rows: Iterable[Row]) -> None:
    """Write one JSON object a line."""
    for row in rows:
        json.dump(asdict(row), sys.stdout, default=str)
        sys.stdout.write("\n")


def _table(rows: list[Row]) -> object:
    length = id_length(row.fragment_id for row in rows)
    rows_of_cells = (_cells(row, length) for row in rows)
    return fitted(_COLUMNS, rows_of_cells, drop=_DROP, below=("reason",), last=_LAST)


def _cells(row: Row, length: int) -> tuple[object, ...]:
    return (
        row.fragment_id[:length],
        row.fragment_class,
        row.formula,
        row.n_atoms,
        row.stage,
        row.state,
        row.attempts,
        f"{row.updated:%Y-%m-%d %H:%M}",
        ",".join(row.tags),
        row.reason,
    )


_COLUMNS = (
    "id",
    "class",
    "formula",
    ">atoms",
    "stage",
    "state",
    ">attempts",
    "changed (UTC)",
    "tags",
    "reason",
)
_DROP = ("tags", "changed (UTC)", "class")
_LAST = ("atoms", "formula")
