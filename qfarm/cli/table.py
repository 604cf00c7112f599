"""Table: Rich tables that stay plain text in a pipe and take user data literally."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    JustifyMethod,
    RenderableType,
    RenderResult,
)
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_GAP = 3  # columns of the screen between two of a table
_TIGHT_GAP = 1  # the same when even the last columns that may go do not suffice
_INDENT = 2


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Group:
    """Make a table whose cells are folded when the screen is too narrow.

    Parameters
    ----------
    columns : sequence of str
        Headings; a leading ``>`` aligns the column to the right.
    rows : iterable of sequences
        Cells, shown as they are: brackets are no markup here.
    title : str
        Heading of the table.
    """
    made = _empty()
    for column in columns:
        made.add_column(column.removeprefix(">"), justify=_justify(column), overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return _titled(title, made)


def fitted(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str = "",
    *,
    drop: Sequence[str] = (),
    below: Sequence[str] = (),
    last: Sequence[str] = (),
) -> Group:
    """Make a table of one line a row, which gives up columns on a narrow screen.

    Parameters
    ----------
    columns, rows, title
        As for `table`.
    drop : sequence of str
        Headings of columns that are left out, one after the other, until the rest fits.
    below : sequence of str
        Headings of texts that go below their rows, wrapped, if that is not enough. Without any
        text the column is not shown at all.
    last : sequence of str
        Headings of columns that are left out after those of `drop` when even that is not enough.
    """
    cells = tuple(tuple(" ".join(str(cell).split()) for cell in row) for row in rows)
    return _titled(title, _Fitted(tuple(columns), cells, tuple(drop), tuple(below), tuple(last)))


@dataclass(frozen=True)
class _Layout:
    """Which columns are shown, and which texts below their rows, by position."""

    shown: tuple[int, ...]
    below: tuple[int, ...] = ()
    tight: bool = False

    def width(self, widths: Sequence[int]) -> int:
        """Columns of the screen that it takes; an edge is one wide on each side."""
        gaps = (_TIGHT_GAP if self.tight else _GAP) * (len(self.shown) - 1)
        return sum(widths[i] for i in self.shown) + gaps + (0 if self.tight else 2)


@dataclass(frozen=True)
class _Fitted:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    drop: tuple[str, ...]
    below: tuple[str, ...]
    last: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        layout = self._layout(options.max_width)
        lines = console.render_lines(self._table(layout), options, pad=False)
        first = 2 if layout.tight else 3  # heading, rule, and the upper edge before them
        for number, line in enumerate(lines, -first):
            yield from line
            yield Segment.line()
            if layout.below and 0 <= number < len(self.rows):
                yield from self._texts(self.rows[number], layout)

    def _table(self, layout: _Layout) -> Table:
        made = _empty(layout.tight)
        for i in layout.shown:
            heading = self.columns[i]
            made.add_column(heading.removeprefix(">"), justify=_justify(heading), no_wrap=True)
        for row in self.rows:
            made.add_row(*(Text(row[i]) for i in layout.shown))
        return made

    def _texts(self, row: tuple[str, ...], layout: _Layout) -> Iterator[RenderableType]:
        for i in layout.below:
            if row[i]:
                yield Padding(Text(row[i]), (0, 0, 0, _INDENT), expand=False)

    def _layout(self, width: int) -> _Layout:
        """The first of the possible layouts that fits, else the narrowest."""
        cells = zip(self._headings(), *self.rows, strict=True)
        widths = [max(map(cell_len, column)) for column in cells]
        possible = list(self._possible())
        return next((one for one in possible if one.width(widths) <= width), possible[-1])

    def _possible(self) -> Iterator[_Layout]:
        texts = self._positions(self.below)
        empty = {i for i in texts if not any(row[i] for row in self.rows)}
        for count in range(len(self.drop) + 1):
            yield _Layout(self._without(empty | self._positions(self.drop[:count])))
        below = tuple(sorted(texts - empty))
        droppable = (*self.drop, *self.last)
        for count in range(len(droppable) + 1):
            yield _Layout(self._without(texts | self._positions(droppable[:count])), below)
        yield _Layout(self._without(texts | self._positions(droppable)), below, tight=True)

    def _headings(self) -> tuple[str, ...]:
        return tuple(column.removeprefix(">") for column in self.columns)

    def _positions(self, headings: Collection[str]) -> set[int]:
        return {i for i, heading in enumerate(self._headings()) if heading in headings}

    def _without(self, left_out: set[int]) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.columns)) if i not in left_out)


def _empty(tight: bool = False) -> Table:
    padding = (0, 0) if tight else (0, 1)
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding, show_edge=not tight)


def _justify(column: str) -> JustifyMethod:
    return "right" if column.startswith(">") else "left"


def _titled(title: str, made: RenderableType) -> Group:
    # A Rich title would be wrapped to the width of the table.
    return Group(*([Text(f"\n{title}", style="bold")] if title else []), made)
