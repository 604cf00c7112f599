"""``qfarm export``: records to a data set, with a manifest of what is missing."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import track

from qfarm import export
from qfarm.cli import wanted as select
from qfarm.cli.console import stderr, stdout
from qfarm.cli.farm import open_farm
from qfarm.cli.select import ClassOption, TagOption
from qfarm.cli.table import table
from qfarm.cli.wanted import Deviations, Survey, Wanted
from qfarm.cli.wording import counted
from qfarm.errors import InputError
from qfarm.export.dataset import Options, Written, full_label, mixed_levels
from qfarm.store.protocol import Row, Store
from qfarm_schemas.record import Record


def command(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, *.h5.")],
    *,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="S", help="Stage to export; else the last of each workflow."
        ),
    ] = None,
    fragment_class: ClassOption = None,
    tag: TagOption = None,
    level: Annotated[
        str | None,
        typer.Option(
            "--level", metavar="ID", help="Only this level of theory (beginning of its id)."
        ),
    ] = None,
    deviations: Annotated[
        Deviations,
        typer.Option(
            "--deviations",
            help="Records that depart from the protocol (basis fallback, other numerics): keep "
            "them, drop them, or take only them.",
        ),
    ] = Deviations.KEEP,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an old file.")] = False,
    mixed: Annotated[
        bool, typer.Option("--allow-mixed-levels", help="Several levels of theory in one file.")
    ] = False,
) -> None:
    """Write the records to an HDF5 file.

    The file appears whole or not at all. FILE.manifest.json lists every selected fragment that
    has no record yet, and why. Records of several levels of theory are refused, because their
    energies must not be mixed in training data.
    """
    write = export.writer(target)
    _refuse_name(level)
    wanted = Wanted(fragment_class, tag, stage, level, deviations)
    with open_farm() as (_, store):
        survey = select.survey(store, wanted)
        if not mixed:
            refuse_mixed(store, survey)
        records = _followed(select.records(store, wanted, survey.stages), survey)
        written = write(target, records, select.expected(store, wanted), Options(overwrite, mixed))
    show(written)


def _refuse_name(level: str | None) -> None:
    """Refuse a level's name in place of its id, which would match nothing."""
    if level is not None and not _LEVEL_ID.fullmatch(level):
        raise InputError(
            f"{level!r} is no beginning of the id of a level of theory, for instance l2d1a0ff1",
            "`qfarm export` without --level lists the levels with their ids, if there are several.",
        )


def refuse_mixed(store: Store, survey: Survey) -> None:
    """Refuse several levels before anything is written.

    Raises
    ------
    ExportError
        The records are of several levels of theory; all are named.
    """
    if len(survey.done) > 1:
        names = {level: _level_name(store, row) for level, row in survey.examples.items()}
        raise mixed_levels({names[level]: count for level, count in survey.done.items()})


def show(written: Written) -> None:
    """Print what was written and what is missing."""
    classes = sorted(written.records | written.missing)
    rows = [(name, written.records[name], written.missing[name]) for name in classes]
    total = ("total", written.records.total(), written.missing.total())
    console = stdout()
    console.print(table(("class", ">records", ">missing"), [*rows, total]))
    size = f"{written.size / 1e6:.2f} MB"
    console.print(f"{written.target}: {counted(total[1], 'record')}, {size}", soft_wrap=True)
    console.print(f"{written.manifest}: {_missing(written)}", soft_wrap=True)


def _missing(written: Written) -> str:
    if not written.missing:
        return "nothing is missing"
    states = ", ".join(f"{count} {state}" for state, count in sorted(written.reasons.items()))
    return f"{written.missing.total()} missing ({states}), each with its reason and remedy"


def _followed(records: Iterable[Record], survey: Survey) -> Iterable[Record]:
    console = stderr()
    return track(
        records,
        "exporting",
        total=survey.done.total(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


_LEVEL_ID: Final = re.compile(r"l[0-9a-f]*")


def _level_name(store: Store, row: Row) -> str:
    """Name of a level, from the record of a stage."""
    record = select.record_of(store, row)
    return row.level_id if record is None else full_label(record.level)
