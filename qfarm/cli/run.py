"""`qfarm run`: work in the foreground until the queue is empty."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console
from rich.text import Text

from qfarm.cli.console import stderr
from qfarm.cli.farm import open_farm
from qfarm.cli.live import number, view
from qfarm.config import Farm
from qfarm.engines import engine
from qfarm.errors import ConfigError
from qfarm.store.protocol import StageState
from qfarm_launchers.interrupts import Interrupts
from qfarm_launchers.launcher import Ending, Launcher
from qfarm_launchers.local import LocalPool, Place
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.config import Partition
from qfarm_workers.attempt import Engines
from qfarm_workers.identity import gone, this_process
from qfarm_workers.loop import partition_of
from qfarm_workers.scratch import Scratch


@dataclass(frozen=True)
class Options:
    """What the user chose, and which engines there are."""

    slots: int | None = None
    partition: str = "local"
    plain: bool = False
    engines: Engines = engine


def command(
    slots: Annotated[
        int | None, typer.Option(min=1, help="Attempts at once; default: the partition's slots.")
    ] = None,
    partition: Annotated[str, typer.Option(help="Partition to work for.")] = "local",
    plain: Annotated[bool, typer.Option(help="Lines instead of the live view.")] = False,
) -> None:
    """Work until nothing waits.

    Ctrl-C lets running attempts finish and stops; a second one, or SIGTERM, stops at once, which
    costs the fragments no retry. Several runs may work on one farm. Exit codes: 0 all done, 3
    some stages failed or nobody here could work on them, 130 stopped by the user.
    """
    raise typer.Exit(run(Options(slots, partition, plain)))


def run(options: Options) -> int:
    """Run a local pool on the farm of the current folder; the exit code."""
    console = stderr()
    with open_farm() as (farm, store):
        partition = chosen(farm.config.partitions, options.partition)
        me = this_process(f"run-{uuid4().hex[:8]}", partition.name)
        me = me.model_copy(update={"job": me.name})
        reaper = Reaper(store, me, options.engines, farm.config.lease.heartbeat)
        Scratch(farm.scratch, farm.config.keep_scratch).sweep(gone)
        ending = _idle(reaper) or _work(farm, reaper, options, console)
    for text in summary(ending):
        console.print(Text(text), soft_wrap=True)
    return ending.exit_code


def chosen(partitions: tuple[Partition, ...], name: str) -> Partition:
    """The partition to work for here.

    Raises
    ------
    ConfigError
        There is none of that name; a farm of clusters has no ``local`` one.
    """
    if any(partition.name == name for partition in partitions):
        return partition_of(partitions, name)
    names = ", ".join(partition.name for partition in partitions)
    remedy = f"`qfarm run --partition NAME` works on this machine for another one: {names}."
    if any(partition.scheduler != "local" for partition in partitions):
        remedy = f"`qfarm launch` keeps jobs in the queues of clusters. {remedy}"
    raise ConfigError(f"there is no partition {name!r}", remedy)


def _idle(reaper: Reaper) -> Ending | None:
    """How the run ends before it starts, when there is nothing to work on."""
    reaper.reap(gone)
    ending = Ending(reaper.store.counts())
    return None if ending.number(StageState.READY, StageState.RUNNING) else ending


def _work(farm: Farm, reaper: Reaper, options: Options, console: Console) -> Ending:
    partition = partition_of(farm.config.partitions, options.partition)
    place = Place(Path.cwd(), farm.folder, reaper.me.job)
    plain = options.plain or not console.is_terminal
    with (
        Interrupts() as interrupts,
        LocalPool(place, with_slots(partition, options.slots), options.engines) as pool,
        view(console, plain) as show,
    ):
        return Launcher(reaper.store, pool, reaper, show).run(interrupts)


def with_slots(partition: Partition, slots: int | None) -> Partition:
    """The partition with as many slots as asked for."""
    return partition if slots is None else partition.model_copy(update={"slots": slots})


def summary(ending: Ending, command: str = "qfarm run") -> list[str]:
    """Lines that tell how the run ended; `command` goes on with it."""
    counts = ending.counts
    failed, done = number(counts, StageState.FAILED), number(counts, StageState.DONE)
    ready = number(counts, StageState.READY)
    waiting = ready + number(counts, StageState.WAITING)
    lines = [f"{done} stages done, {failed} failed, {waiting} waiting."]
    if failed:
        lines.append("Why: `qfarm list --state failed`, then `qfarm show ID`.")
    if ending.stopped and waiting:
        lines.append(f"Stopped by the user: `{command}` goes on from here.")
    elif ready:
        lines.append("What waits needs another partition: `qfarm list --state ready`.")
    return lines
