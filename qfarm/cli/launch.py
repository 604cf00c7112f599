"""`qfarm launch`: keep partitions of clusters busy, for weeks."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from uuid import uuid4

import typer
from rich.text import Text
from structlog.typing import FilteringBoundLogger

from qfarm import config
from qfarm.cli.console import stderr
from qfarm.cli.farm import open_farm
from qfarm.cli.reach import TUNNEL, unreached
from qfarm.cli.wording import counted
from qfarm.config import Farm
from qfarm.engines import engine
from qfarm.errors import ConfigError, UserError
from qfarm.store.protocol import Store
from qfarm_launchers import commands, log
from qfarm_launchers.batch import BatchSystem
from qfarm_launchers.daemon import LOOK_SECONDS, Daemon
from qfarm_launchers.interrupts import Ends
from qfarm_launchers.keeper import Keeper, order_of
from qfarm_launchers.roster import Roster
from qfarm_schemas.attempt import Worker
from qfarm_schemas.config import Partition
from qfarm_workers.bench import Engines
from qfarm_workers.identity import this_process
from qfarm_workers.loop import partition_of

START_SECONDS: Final = 60.0
"""s: how long a detached launcher has to become one."""

JOB: Final = "qfarm_workers.job"

NO_SCHEDULER: Final = (
    "Run qfarm on a login node of the cluster, or load the module that brings these commands."
)
"""What to do where a scheduler's commands are not."""


@dataclass(frozen=True)
class Options:
    """What the user chose; tests choose the engines, what a job runs and how often to look, too."""

    partitions: tuple[str, ...] = ()
    until_done: bool = False
    quiet: bool = False
    engines: Engines = engine
    module: str = JOB
    look_seconds: float = LOOK_SECONDS


def command(
    partitions: Annotated[
        list[str] | None,
        typer.Argument(help="Partitions of qfarm.toml; default: all behind a scheduler."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job script of each partition.")
    ] = False,
    until_done: Annotated[
        bool,
        typer.Option(
            "--until-done",
            help="End when nothing waits or runs any more; exit code 3 if something failed or "
            "could not be worked on.",
        ),
    ] = False,
) -> None:
    """Keep batch jobs in the queues of clusters, as many as the waiting stages are worth.

    Ctrl-C or SIGTERM ends the launcher; its jobs go on, and the next launcher takes them over. See
    `qfarm launcher` for status, drain, pause and stop.
    """
    options = Options(tuple(partitions or ()), until_done)
    if dry_run:
        print_scripts(config.load(), options)
    elif detach:
        detached(config.load(), options)
    else:
        raise typer.Exit(run(options))


def print_scripts(farm: Farm, options: Options) -> None:
    """Print what would be submitted; nothing is asked of a scheduler or the database."""
    from qfarm_launchers.cluster import NUMBER, choice
    from qfarm_launchers.jobs import script

    for partition in chosen(farm, options.partitions):
        order = order_of(farm, partition, NUMBER)
        sys.stdout.write(f"# partition {partition.name}: a job for {partition.scheduler}\n")
        sys.stdout.write(script(choice(partition, order)).rstrip() + "\n\n")


def run(options: Options) -> int:
    """Launch in the foreground; the exit code.

    Raises
    ------
    ConfigError
        There is no such partition, another launcher has it, or no job could be submitted here.
    """
    _look_ahead(config.load(), options)
    with Ends() as interrupts, launching(options) as (daemon, _):
        _say(options, _greeting(daemon))
        daemon.run(interrupts)
        left = sum(len(keeper.roster.present) for keeper in daemon.keepers)
        if options.until_done:
            return _tell_done(options, daemon.store, interrupts.drain)
        if left:
            go = "goes" if left == 1 else "go"
            _say(options, f"The launcher has ended; {counted(left, 'job')} {go} on without it.")
        return 0


def _tell_done(options: Options, store: Store, stopped: bool) -> int:
    """How the farm stands at the end, as `qfarm run` tells it; its exit code."""
    from qfarm.cli.run import summary
    from qfarm_launchers.launcher import Ending

    ending = Ending(store.counts(), stopped)
    for line in summary(ending, "qfarm launch"):
        _say(options, line)
    return ending.exit_code


@contextmanager
def launching(options: Options) -> Iterator[tuple[Daemon, FilteringBoundLogger]]:
    """Become the launcher of the chosen partitions.

    Raises
    ------
    ConfigError
        There is no such partition, or another launcher has it.
    """
    echo = None if options.quiet else (lambda line: stderr().print(Text(line), soft_wrap=True))
    with ExitStack() as stack:
        farm, store = stack.enter_context(open_farm())
        partitions = chosen(farm, options.partitions)
        lines = stack.enter_context(log.to_file(log.path_in(farm.folder), echo))
        me = this_process(f"launch-{uuid4().hex[:8]}")
        me = me.model_copy(update={"job": me.name})
        keepers = [
            keeper_of(farm, store, partition, me, lines, options.module) for partition in partitions
        ]
        daemon = Daemon(
            farm,
            store,
            keepers,
            me,
            options.engines,
            lines,
            options.until_done,
            options.look_seconds,
        )
        daemon.take()
        names = [keeper.partition.name for keeper in keepers]
        lines.info("launch", partitions=names, pid=me.pid, host=me.host)
        yield daemon, lines


def keeper_of(
    farm: Farm,
    store: Store,
    partition: Partition,
    me: Worker,
    lines: FilteringBoundLogger,
    module: str = JOB,
) -> Keeper:
    """The launcher of one partition, which has not taken it yet."""
    roster = Roster(partition, store.fleet, BatchSystem(partition), lines)
    return Keeper(farm, partition, store.fleet, roster, me, lines, module)


def chosen(farm: Farm, names: Sequence[str]) -> tuple[Partition, ...]:
    """Partitions by name; without names those behind a scheduler, or all if there are none."""
    known = farm.config.partitions
    if names:
        return tuple(partition_of(known, name) for name in dict.fromkeys(names))
    return tuple(one for one in known if one.scheduler != "local") or known


def _look_ahead(farm: Farm, options: Options) -> None:
    """Refuse what cannot work here, and warn of what may not work on compute nodes."""
    partitions = chosen(farm, options.partitions)
    _can_submit(partitions)
    trouble = unreached(farm, partitions)
    if trouble:
        _say(options, f"warning: {trouble}. {TUNNEL}")


def _can_submit(partitions: Sequence[Partition]) -> None:
    """Refuse where the schedulers' commands are not: a launcher would wait for them for ever."""
    for partition in partitions:
        missing = BatchSystem(partition).missing()
        if missing:
            raise ConfigError(
                f"partition {partition.name!r} needs {', '.join(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not on the PATH of this machine",
                NO_SCHEDULER,
            )


def detached(farm: Farm, options: Options) -> None:
    """Start a launcher in the background, and see that it becomes one.

    Raises
    ------
    ConfigError
        There is no such partition, or no job could be submitted here.
    UserError
        It ended at once.
    """
    _look_ahead(farm, options)
    out = log.path_in(farm.folder).with_name("launcher.out")
    words = [sys.executable, "-m", "qfarm", "launch", *options.partitions]
    words += ["--until-done"] if options.until_done else []
    child = commands.detached(words, out)
    _wait(child, farm, options, out)
    print(f"The launcher is process {child.pid}; `qfarm launcher status` and `logs` show it.")


def _wait(child: commands.Started, farm: Farm, options: Options, out: Path) -> None:
    names = {partition.name for partition in chosen(farm, options.partitions)}
    until = time.monotonic() + START_SECONDS
    with open_farm() as (_, store):
        while time.monotonic() < until:
            if child.poll() is not None:
                raise UserError(f"the launcher ended at once:\n{_tail(out)}", f"It wrote to {out}.")
            held = {
                one.name
                for one in store.fleet.standings()
                if one.alive and one.launcher is not None and one.launcher.pid == child.pid
            }
            if names <= held:
                return
            time.sleep(0.2)
    raise UserError(f"the launcher does not begin:\n{_tail(out)}", f"It writes to {out}.")


def _tail(path: Path, lines: int = 10) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _greeting(daemon: Daemon) -> str:
    names = ", ".join(keeper.partition.name for keeper in daemon.keepers)
    return f"Launching {names}. Ctrl-C ends the launcher, jobs go on."


def _say(options: Options, text: str) -> None:
    if not options.quiet:
        stderr().print(Text(text), soft_wrap=True)
