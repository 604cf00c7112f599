"""Summary: what `qfarm submit` found and did, for people and for scripts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from qfarm.cli.table import table
from qfarm.cli.wording import RUN, counted, level_name
from qfarm.intake import Batch, Fate, Problem
from qfarm.intake.batch import Tally
from qfarm.intake.pool import Group
from qfarm.store.protocol import Added

PROBLEMS_SHOWN: Final = 50


@dataclass(frozen=True)
class Submission:
    """How a submission ended.

    Attributes
    ----------
    batch : Batch
        What was read.
    protocol : str
        Name of the protocol.
    accepted : bool
        Whether the batch may be written.
    dry_run : bool
        Whether nothing was to be written.
    database_asked : bool
        False in a dry run without a database: then known fragments count as new.
    added : Added
        What the database got.
    work : str
        Command that computes what waits.
    """

    batch: Batch
    protocol: str
    accepted: bool
    dry_run: bool
    database_asked: bool
    added: Added
    work: str = RUN

    def as_dict(self) -> dict[str, Any]:
        """Plain values for machine-readable output."""
        groups = self.batch.groups.values()
        return {
            "protocol": self.protocol,
            "accepted": self.accepted,
            "dry_run": self.dry_run,
            "database_asked": self.database_asked,
            "written": self.added.new,
            "updated": self.added.updated,
            "counts": {fate.value: self.batch.count(fate) for fate in Fate},
            "groups": [_group_dict(group, tally) for group, tally in groups],
            "problems": [problem.as_dict() for problem in self.batch.problems],
        }


def show(result: Submission, out: Console, messages: Console) -> None:
    """Print the table to `out`, problems and the closing lines to `messages`."""
    out.print(_table(result))
    for line in problem_lines(result.batch.problems):
        messages.print(Text(line), soft_wrap=True)
    for line in closing_lines(result):
        messages.print(Text(line), soft_wrap=True)


def problem_lines(problems: Iterable[Problem]) -> Iterator[str]:
    """Problems under the heading of their kind; at most `PROBLEMS_SHOWN`, the rest counted."""
    ordered = sorted(problems, key=lambda problem: problem.flaw.kind)
    for kind, group in groupby(ordered[:PROBLEMS_SHOWN], key=lambda problem: problem.flaw.kind):
        total = sum(problem.flaw.kind is kind for problem in ordered)
        yield f"{kind} ({total}):"
        yield from (f"  {problem}" for problem in group)
    rest = ordered[PROBLEMS_SHOWN:]
    if rest:
        yield f"... and {counted(len(rest), 'more problem')}: --rejects FILE writes every one."


def closing_lines(result: Submission) -> Iterator[str]:
    """Say what was written and what comes next."""
    batch, rejected = result.batch, result.batch.count(Fate.REJECTED)
    if not result.accepted:
        yield f"{counted(rejected, 'frame')} of {batch.total:,} rejected; nothing was written."
        if rejected < batch.total:
            yield "Mend the frames, or submit the valid ones with --skip-invalid."
        return
    if not result.database_asked:
        yield "The database was not asked (it cannot be reached), so known ones count as new."
    if result.dry_run:
        yield f"Dry run: {counted(batch.count(Fate.NEW), 'fragment')} would be submitted."
        return
    added = result.added
    if added.known:
        yield f"{added.known:,} known (limits updated: {added.updated:,})."
    if added.updated:
        yield f"Stages that have failed take the new limits with qfarm retry; then {result.work}"
    if added.new:
        yield f"{counted(added.new, 'fragment')} submitted. Next: {result.work}"
    elif not added.updated:
        yield "Nothing new: every fragment was submitted before. See qfarm status"


def _table(result: Submission) -> object:
    rows = [_row(group, tally) for group, tally in result.batch.groups.values()]
    totals = [result.batch.count(fate) for fate in Fate]
    return table(_COLUMNS, [*rows, ("all", "", "", *totals)], f"Protocol {result.protocol}")


def _row(group: Group, tally: Tally) -> tuple[object, ...]:
    return (
        group.fragment_class or "(unreadable)",
        _sizes(tally),
        ", then ".join(_levels(group)) or "-",
        *(tally.counts[fate] for fate in Fate),
    )


def _sizes(tally: Tally) -> str:
    if tally.smallest == tally.largest:
        return str(tally.largest) if tally.largest else "-"
    return f"{tally.smallest}-{tally.largest}"


def _levels(group: Group) -> list[str]:
    return [level_name(level) for level in group.levels]


def _group_dict(group: Group, tally: Tally) -> dict[str, Any]:
    return {
        "class": group.fragment_class,
        "min_atoms": tally.smallest,
        "max_atoms": tally.largest,
        "levels": _levels(group),
        **{fate.value: tally.counts[fate] for fate in Fate},
    }


_COLUMNS: Final = ("class", "atoms", "levels", *(f">{fate}" for fate in Fate))
