"""``qfarm doctor``: find and try all that the farm and its queued work need."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from qfarm import config
from qfarm.cli.console import stderr, stdout
from qfarm.cli.doctor import engines, places, show, trial
from qfarm.cli.doctor.finding import Finding, Verdict
from qfarm.config import Farm
from qfarm.engines import TABLE, engine, standins
from qfarm.store.protocol import Need
from qfarm_schemas.config import Partition
from qfarm_workers.loop import partition_of


def command(
    name: Annotated[
        str | None,
        typer.Option("--engine", metavar="NAME", help="Try this engine, and nothing else."),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option("--partition", metavar="NAME", help="As this partition's workers would."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts.")] = False,
) -> None:
    """Find and try what the farm needs: engines, their files, MongoDB, scratch space, commands.

    Each engine computes a water molecule as a worker would, at the levels of theory that wait in
    the queue, or at a cheap one. Parameter files are looked for by the elements of the queued
    fragments. Engines that nothing needs and nobody set up are no fault. Exit codes: 0 no fault,
    1 at least one.
    """
    farm = config.load()
    if name is not None:
        engine(name)  # refuses an unknown name
    chosen = farm.config.partitions
    if partition is not None:
        chosen = (partition_of(chosen, partition),)
    with stderr().status("looking"), _no_trace(farm):
        findings = tuple(look(farm, chosen, name))
    if as_json:
        json.dump(show.as_dict(findings), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show.show(findings, stdout())
    if any(finding.verdict is Verdict.FAULT for finding in findings):
        raise typer.Exit(1)


@contextmanager
def _no_trace(farm: Farm) -> Iterator[None]:
    """Leave no folders behind where there were none, unless they hold something."""
    new = [folder for folder in (farm.scratch, farm.folder) if not folder.exists()]
    trial.sweep(farm)
    try:
        yield
    finally:
        for folder in (farm.scratch / trial.FOLDER, *new):
            with suppress(OSError):  # the output of a failure is kept in it, or it was never made
                folder.rmdir()


def look(farm: Farm, partitions: tuple[Partition, ...], only: str | None) -> Iterator[Finding]:
    """Everything, or one engine."""
    queued, needs = places.queue(farm, partitions)
    if only is None:
        answers = tuple(places.mongo(farm))
        yield from answers
        unanswered = any(finding.verdict is Verdict.FAULT for finding in answers)
        yield places.unasked() if unanswered else queued
        yield places.launchpad(farm)
        yield places.scratch(farm.scratch)
        yield places.commands(partitions)
        yield from places.reach(farm, partitions)
    seen = {by for one in partitions for by in _stand_ins(farm, one)}
    for name in sorted(TABLE.keys() - seen) if only is None else (only,):
        yield from engines.examine(farm, engine(name), partitions, _of(needs, name))


def _stand_ins(farm: Farm, partition: Partition) -> set[str]:
    """Engines that are tried in the place of others."""
    used = {name: standins.stand_in(farm.config, partition, name) for name in TABLE}
    return {by for name, by in used.items() if by != name}


def _of(needs: tuple[Need, ...], name: str) -> tuple[Need, ...]:
    return tuple(need for need in needs if need.level.engine == name)
