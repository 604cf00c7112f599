"""Costs: what launchers have learnt of stages, as `qfarm launcher costs` shows it."""

from math import exp
from typing import Final

from rich.console import Console

from qfarm.cli.table import fitted
from qfarm.cli.wording import level_name
from qfarm.costs.model import CostModel, Line

HEADINGS: Final = (
    "partition",
    "stage",
    "engine",
    "level",
    ">records",
    ">size",
    ">grows with",
    ">seconds",
    ">at most (95 %)",
    ">MB",
)
"""Of the table; size, as the engine counts it, is the middle one, for which the costs are."""


def show(model: CostModel, console: Console) -> None:
    """Print a row for each partition, stage and level that was learnt of."""
    found = rows(model)
    if found:
        console.print(fitted(HEADINGS, found, drop=("grows with", "engine")))
    else:
        console.print("Nothing is learnt yet: a launcher does it, from accepted attempts.")


def rows(model: CostModel) -> tuple[tuple[str, ...], ...]:
    """Cells of each row; those of all partitions together are called ``all``."""
    return tuple(_row(model, line) for line in model.lines if line.of == "seconds")


def _row(model: CostModel, line: Line) -> tuple[str, ...]:
    size, work = exp(line.fit.centre), model.work(line.level_id, line.stage)
    seconds, memory = model.seconds(line.key, size), model.memory_mb(line.key, size)
    return (
        line.partition or "all",
        line.stage,
        work.level.engine if work else "",
        level_name(work.level) if work else line.level_id[:9],
        str(line.fit.records),
        f"{size:.0f}",
        f"size^{line.fit.exponent:.1f}",
        f"{seconds.median:.3g}",
        f"{seconds.upper95:.3g}",
        f"{memory.median:.0f}",
    )
