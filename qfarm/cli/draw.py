"""Draw: convergence traces as text, for any width, with or without unicode, without colour. Pure.

A trace is a column an iteration on a logarithmic scale. The dotted line is the threshold: points
below it have reached it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10
from typing import Final, NamedTuple


class Ink(NamedTuple):
    """Characters to draw with."""

    point: str
    limit: str
    tick: str
    corner: str
    line: str
    low: str
    high: str


UNICODE: Final = Ink("●", "┄", "┤", "└", "─", "▾", "▴")
ASCII: Final = Ink("o", ".", "|", "+", "-", "v", "^")

_MARGIN: Final = 9  # columns for the scale and its line
_FLOOR: Final = 1e-300


@dataclass(frozen=True)
class Scale:
    """Rows of a logarithmic axis: row i holds values from 10^(bottom + i * step) on."""

    bottom: float
    step: int
    rows: int

    def row(self, value: float) -> int:
        """Row of a positive value; those off the scale go to the first or last row."""
        # The small shift keeps a value that equals a row's edge in that row despite rounding.
        position = floor((log10(max(value, _FLOOR)) - self.bottom) / self.step + 1e-9)
        return min(max(position, 0), self.rows - 1)

    def label(self, row: int) -> str:
        """Lower edge of a row."""
        return f"{10 ** (self.bottom + row * self.step):.0e}"


def trace(
    values: Sequence[float | None],
    limit: float | None = None,
    width: int = 80,
    height: int = 10,
    ink: Ink = UNICODE,
) -> list[str]:
    """Draw a trace.

    Parameters
    ----------
    values : sequence of float or None
        One an iteration; the absolute value counts, None leaves the column empty. Zero is drawn
        at the lower edge, NaN and infinity at the upper.
    limit : float or None
        Threshold.
    width : int
        Columns there are. With more values than columns, each column shows the largest of
        several.
    height : int
        Most rows of the plot; where the decades do not fit, a row spans several.
    ink : Ink
        Characters.

    Returns
    -------
    list of str
        Lines without trailing blanks; empty when no value can be drawn.
    """
    columns = binned([None if value is None else _size(value) for value in values], width - _MARGIN)
    drawn = [value for value in columns if value is not None and 0 < value < inf]
    if not drawn:
        return []
    scale = _scale(drawn, limit, height)
    rows = [_row(columns, scale, row, limit, ink) for row in reversed(range(scale.rows))]
    return [*rows, *_axis(len(values), len(columns), ink)]


def binned(values: Sequence[float | None], columns: int) -> list[float | None]:
    """At most `columns` values: the largest of each run of neighbours."""
    run = max(1, ceil(len(values) / max(columns, 1)))
    cut = (values[start : start + run] for start in range(0, len(values), run))
    return [max((v for v in part if v is not None), default=None) for part in cut]


def _size(value: float) -> float:
    return abs(value) if isfinite(value) else inf


def _scale(drawn: Sequence[float], limit: float | None, height: int) -> Scale:
    lowest, highest = log10(min(drawn)), log10(max(drawn))
    anchor = floor(lowest) if limit is None else log10(limit)
    step = max(1, ceil((max(highest, anchor) - min(lowest, anchor)) / max(height - 2, 1)))
    below = max(0, ceil((anchor - lowest) / step - 1e-9))
    bottom = anchor - below * step
    rows = max(below, floor((highest - bottom) / step + 1e-9)) + 1
    return Scale(bottom, step, rows)


def _row(
    columns: Sequence[float | None], scale: Scale, row: int, limit: float | None, ink: Ink
) -> str:
    at_limit = limit is not None and scale.row(limit) == row
    blank = ink.limit if at_limit else " "
    cells = (_cell(value, scale, row, ink) or blank for value in columns)
    name = " limit" if at_limit else ""
    return f"{scale.label(row):>7} {ink.tick}{''.join(cells)}{name}".rstrip()


def _cell(value: float | None, scale: Scale, row: int, ink: Ink) -> str:
    if value is None:
        return ""
    if value == 0:
        return ink.low if row == 0 else ""
    if value == inf:
        return ink.high if row == scale.rows - 1 else ""
    return ink.point if scale.row(value) == row else ""


def _axis(count: int, columns: int, ink: Ink) -> list[str]:
    last = str(count) if count > 1 else ""
    numbers = f"1{last:>{max(columns - 1, len(last) + 1)}}" if last else "1"
    blank = " " * _MARGIN
    return [f"{blank[:-1]}{ink.corner}{ink.line * columns}", f"{blank}{numbers}"]
