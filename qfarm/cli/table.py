"""Table: Rich tables that stay plain text in a pipe and take user data literally."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Group:
    """Make a table.

    Parameters
    ----------
    columns : sequence of str
        Headings; a leading ``>`` aligns the column to the right.
    rows : iterable of sequences
        Cells, shown as they are: brackets are no markup here.
    title : str
        Heading of the table.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(
            column.removeprefix(">"),
            justify="right" if column.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    # A Rich title would be wrapped to the width of the table.
    return Group(*([Text(f"\n{title}", style="bold")] if title else []), made)
