"""``qfarm merge``: what another farm found out, from its backup, into this farm."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from qfarm import config
from qfarm.cli.console import stderr, stdout
from qfarm.cli.following import following
from qfarm.cli.table import table
from qfarm.cli.wording import SHORTEST_ID, counted
from qfarm.store.merge import Kind, Merged, merge

_COLUMNS: Final = (
    ("same", Kind.SAME),
    ("both", Kind.DIFFERENT),
    ("adopted", Kind.ADOPTED),
    ("only here", Kind.OURS),
    ("neither", Kind.OPEN),
    ("runs here", Kind.RUNNING),
    ("other start", Kind.APART),
)


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files of `qfarm backup`.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was done, as JSON.")] = False,
) -> None:
    """Bring what another farm computed into this one, from its backup.

    Fragments that are not known here come with all their attempts and records; what waited or ran
    there is computed here. Of those known here each stage that is done stays as it is; of those
    that both farms computed ("both"), a table says how far the records are apart. A stage that is
    done there alone is adopted with its attempts, unless it runs here at this moment, or began at
    another geometry than it does here. Fragments and stages that are missing here are put back.

    Workers may go on meanwhile. A merge that was cut off goes on by the same command, and merging
    a file twice changes nothing. Needs the role admin, but for --dry-run. Exit code 1 when
    fragments of a file had to be left out.
    """
    farm = config.load()
    uri, database = config.mongo_uri(farm), farm.config.mongo.database
    with following() as report:
        merged = merge(uri, database, files, dry_run, report)
    if as_json:
        json.dump([one.model_dump(mode="json") for one in merged], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        for one in merged:
            show(one, stdout())
    for one in merged:
        for line in warnings(one):
            stderr().print(Text(line, style="yellow"), soft_wrap=True)
    if any(one.left_out for one in merged):
        raise typer.Exit(1)


def show(merged: Merged, console: Console) -> None:
    """Print what was done, or would be."""
    for line in lines(merged):
        console.print(line, soft_wrap=True, markup=False)
    if merged.stages:
        console.print(table(*_known(merged), title="stages of fragments that were known here"))
    if merged.apart:
        title = "computed in both farms: ours stay; farthest apart are"
        console.print(table(*_apart(merged), title=title))


def lines(merged: Merged) -> Iterator[str]:
    """What is to be said of the whole file."""
    moment = merged.taken.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    yield f"{merged.file}: database {merged.database} at {moment}"
    would = "would be " if merged.dry_run else ""
    states = ", ".join(f"{number:,} {state}" for state, number in merged.added.items())
    stages = f" ({counted(sum(merged.added.values()), 'stage')}: {states})" if states else ""
    yield f"{counted(merged.new, 'workflow')} {would}added{stages}, {merged.known:,} known here"
    adopted = merged.total(Kind.ADOPTED)
    yield f"{counted(adopted, 'stage')} of known workflows {would}adopted with their records"
    if merged.lacked:
        yield (
            f"{counted(merged.lacked, 'known workflow')} whose fragment or stages were missing "
            f"here: {would}put back; `qfarm retry` makes ready what was refused meanwhile"
        )
    if merged.dry_run:
        yield "Nothing was written (--dry-run)."


def warnings(merged: Merged) -> Iterator[str]:
    """What the user must know or do."""
    if merged.were_running:
        yield (
            f"{counted(merged.were_running, 'stage')} ran in the other farm when the backup was "
            "made; this one computes them anew. If that one goes on, cancel them in one of the two."
        )
    if running := merged.total(Kind.RUNNING):
        yield (
            f"{counted(running, 'stage')} done there but under way here: left alone. Run the same "
            "merge again later."
        )
    if apart := merged.total(Kind.APART):
        yield (
            f"{counted(apart, 'stage')} done there began at another geometry than here, where a "
            "stage before has a record of its own: left alone, this farm computes them itself."
        )
    if merged.unsound:
        yield (
            f"{counted(merged.unsound, 'workflow')} known here not whole in this farm, and left "
            "alone: run `qfarm fsck`, then merge again."
        )
    if merged.foreign:
        entries = "entry" if merged.foreign == 1 else "entries"
        yield f"{merged.foreign:,} queue {entries} of the file not of qfarm: left out."
    if merged.left_out:
        first = "\n  ".join(merged.reasons)
        yield (
            f"{counted(merged.left_out, 'workflow')} of the file left out, as not whole (run "
            f"`qfarm fsck` in the farm it comes from):\n  {first}"
        )


def _known(merged: Merged) -> tuple[list[str], list[Sequence[object]]]:
    shown = [(name, kind) for name, kind in _COLUMNS if merged.total(kind)]
    rows: list[Sequence[object]] = [
        (stage, *(f"{counts.get(kind, 0):,}" for _, kind in shown))
        for stage, counts in merged.stages.items()
    ]
    return ["stage", *(f">{name}" for name, _ in shown)], rows


def _apart(merged: Merged) -> tuple[list[str], list[Sequence[object]]]:
    rows: list[Sequence[object]] = [
        (
            stage,
            f"{found.energy:.2e}",
            f"{found.force:.2e}",
            f"{found.shift:.2e}",
            found.fragment_id[:SHORTEST_ID],
        )
        for stage, found in merged.apart.items()
    ]
    return ["stage", ">energy, eV", ">force, eV/A", ">position, A", "fragment (energy)"], rows
