"""``qfarm submit``: fragments from files into the queue, whole batches or nothing."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from qfarm import config, sites
from qfarm.ahead import ahead
from qfarm.cli import summary
from qfarm.cli.console import stderr, stdout
from qfarm.cli.farm import open_farm
from qfarm.cli.wording import working
from qfarm.engines import engine, standins
from qfarm.engines.base import Engine
from qfarm.errors import InputError, UserError
from qfarm.intake import (
    Batch,
    Examiner,
    Fate,
    Flaw,
    Kind,
    Once,
    Problem,
    Spool,
    open_spool,
    processes_for,
    read,
    size_of,
)
from qfarm.intake.labels import NAME
from qfarm.ladder import fallback_level
from qfarm.routing import Waiting, takers
from qfarm.store.protocol import Added, Store
from qfarm_schemas.config import Partition, Stage
from qfarm_schemas.fragment import Fragment

PRIORITY: Final = 1000
"""Largest priority, and the negative of the smallest."""


def command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="xyz or extxyz files.")],
    *,
    protocol: Annotated[
        str, typer.Option("--protocol", metavar="NAME|FILE", help="Stages and levels of theory.")
    ] = "open",
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="T", help="Tag every fragment; repeatable.")
    ] = None,
    fragment_class: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="C", help="Class of every fragment, whatever the file says."
        ),
    ] = None,
    priority: Annotated[
        int,
        typer.Option(
            "--priority", min=-PRIORITY, max=PRIORITY, metavar="P", help="Higher runs earlier."
        ),
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only; write nothing.")] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Submit the valid frames of a bad batch.")
    ] = False,
    rejects: Annotated[
        Path | None, typer.Option("--rejects", metavar="FILE", help="Write every problem here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Summary as JSON on stdout.")] = False,
) -> None:
    """Check fragments and put them into the queue.

    Charge is read from charge, total_charge or molecular_charge; the multiplicity 2S+1 from
    multiplicity, spin, total_spin or molecular_multiplicity; without them 0 and 1 are assumed
    when the electron count allows it. The class is read from class or fragment_class, tags from
    tags. Fragments that the database or the batch has already are left out, so a submission that
    was cut off is completed by the same command. Stages of known fragments that are not done get
    the protocol's limits, budgets and partitions; failed ones use them after `qfarm retry`.

    A batch with an invalid frame is rejected as a whole, unless --skip-invalid is given. Exit
    code 0: accepted (or, with --dry-run, acceptable); 1: rejected, nothing was written.
    """
    farm = config.load()
    named = config.load_protocol(protocol, farm)
    lacking = Once(partial(_lacking, farm))
    examiner = Examiner(named, _name(fragment_class), _names(tags or []), lacking=lacking)
    with ExitStack() as stack:
        store = stack.enter_context(_store(dry_run))
        spool = Spool(stack.enter_context(open_spool()))
        batch = _read(files, examiner, spool, store)
        if rejects is not None:
            _write_problems(rejects, batch.problems)
        accepted = _accepted(batch, skip_invalid)
        to_write = None if dry_run or not accepted else store
        nothing = Added(0, 0)
        added = nothing if to_write is None else _add(to_write, spool, batch, examiner, priority)
    work = working(farm.config.partitions)
    result = summary.Submission(
        batch, examiner.protocol.name, accepted, dry_run, store is not None, added, work
    )
    _report(result, as_json)
    if not accepted:
        raise typer.Exit(1)


def _lacking(farm: config.Farm, fragment: Fragment, stage: Stage) -> Flaw | None:
    """What parameter file lacks, or is not what it should be, in a partition that may run it."""
    levels = (stage.level, fallback_level(stage, fragment.n_atoms))
    tried = (
        sites.site(farm, _used(farm, stage, place), fragment, level, place)
        for place in _places(farm, stage)
        for level in levels
        if level is not None
    )
    lack = next((found for found in tried if isinstance(found, sites.Missing)), None)
    return None if lack is None else Flaw(Kind.PARAMETERS, lack.what, lack.remedy)


def _places(farm: config.Farm, stage: Stage) -> list[Partition]:
    """Partitions that may run a stage, now or while the one that it names is closed."""
    waiting = Waiting(stage.name, stage.level.engine, stage.partition)
    every = farm.config.partitions
    names = {*takers(waiting, every)}
    if stage.partition is not None:
        names.update(takers(waiting, every, (stage.partition,)))
    return [place for place in every if place.name in names]


def _used(farm: config.Farm, stage: Stage, place: Partition) -> Engine:
    """Who computes the stage there."""
    return engine(standins.stand_in(farm.config, place, stage.level.engine))


def _accepted(batch: Batch, skip_invalid: bool) -> bool:
    rejected = batch.count(Fate.REJECTED)
    return not rejected or (skip_invalid and rejected < batch.total)


@contextmanager
def _store(optional: bool) -> Iterator[Store | None]:
    """Open the store; without one, a dry run goes on."""
    with ExitStack() as stack:
        try:
            store = stack.enter_context(open_farm()).store
        except UserError:
            if not optional:
                raise
            store = None
        yield store


def _read(files: list[Path], examiner: Examiner, spool: Spool, store: Store | None) -> Batch:
    size = size_of(files)
    with _progress(_READING) as progress:
        task = progress.add_task("reading", total=size)
        return read(
            files,
            examiner,
            spool,
            store.known if store is not None else lambda _: frozenset(),
            lambda more: progress.update(task, advance=more),
            processes_for(size),
        )


def _add(store: Store, spool: Spool, batch: Batch, examiner: Examiner, priority: int) -> Added:
    """Write the new fragments, and new limits of the known ones; what that changed."""
    parts: list[Added] = []
    with _progress(_WRITING) as progress:
        task = progress.add_task("writing", total=batch.count(Fate.NEW) + batch.count(Fate.KNOWN))
        for plans in ahead(spool.plans(examiner.protocol)):
            parts.append(store.add(plans, priority))
            progress.update(task, advance=len(plans))
    return Added(
        new=sum(part.new for part in parts),
        known=sum(part.known for part in parts),
        updated=sum(part.updated for part in parts),
    )


def _progress(columns: tuple[TextColumn | BarColumn | MofNCompleteColumn, ...]) -> Progress:
    console = stderr()
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _name(name: str | None) -> str | None:
    if name is not None and not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name for a class or a tag",
            "Begin with an ASCII letter, go on with such letters, digits and _ . : + -.",
        )
    return name


def _names(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in map(_name, names) if name is not None)


def _write_problems(path: Path, problems: list[Problem]) -> None:
    try:
        path.write_text("".join(f"{problem}\n" for problem in problems), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}; nothing was submitted",
            "Choose another file for --rejects.",
        ) from error


def _report(result: summary.Submission, as_json: bool) -> None:
    if as_json:
        json.dump(result.as_dict(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        summary.show(result, stdout(), stderr())


_READING: Final = (
    TextColumn("{task.description}"),
    BarColumn(),
    TextColumn("{task.percentage:>3.0f} %"),
)

_WRITING: Final = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
