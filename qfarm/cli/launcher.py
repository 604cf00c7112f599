"""`qfarm launcher`: look after launchers and the jobs that they keep."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from qfarm.cli.console import stderr, stdout
from qfarm.cli.costs import show as show_costs
from qfarm.cli.farm import open_farm
from qfarm.cli.following import lines_of
from qfarm.cli.launch import Options, chosen, launching
from qfarm.cli.table import fitted, table
from qfarm.cli.untaken import refuses
from qfarm.cli.wording import counted, duration
from qfarm.config import Farm, load
from qfarm.costs.model import CostModel
from qfarm.errors import NotFoundError
from qfarm.store.fleet import Gate, NodeNote, Standing
from qfarm.store.protocol import Store
from qfarm_launchers import log
from qfarm_launchers.cluster import NUMBER, job_name
from qfarm_launchers.interrupts import Ends
from qfarm_launchers.keeper import logs_of
from qfarm_workers.identity import launched, this_process
from qfarm_workers.loop import partition_of

command = typer.Typer(no_args_is_help=True, help="Status, drain, pause, stop of launchers.")

Names = Annotated[
    list[str] | None, typer.Argument(help="Partitions; default: all behind a scheduler.")
]

LINES: Final = 20


@command.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts.")] = False,
) -> None:
    """Show each partition: its launcher, its jobs, what waits, and why it has so many jobs."""
    with open_farm() as (farm, store):
        standings = {one.name: one for one in store.fleet.standings()}
        nodes = store.fleet.suspects()
    rows = [_row(farm, name, standings.get(name, Standing(name))) for name in _all(farm, standings)]
    if as_json:
        shown = {"partitions": rows, "nodes": [_node(note) for note in nodes]}
        json.dump(shown, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _show(rows, nodes, stdout())


@command.command()
def drain(partitions: Names = None) -> None:
    """Let jobs finish what they do; then they end, and the launcher with the last of them."""
    _ask(partitions, Gate.DRAINING, "drains: what runs is finished, then its launcher ends")


@command.command()
def pause(partitions: Names = None) -> None:
    """Submit and claim nothing more; what runs is finished.

    Partitions that `spill_to` in qfarm.toml names take its stages meanwhile.
    """
    _ask(partitions, Gate.PAUSED, "is paused: `qfarm launcher resume` goes on")


@command.command()
def resume(partitions: Names = None) -> None:
    """Undo a pause or a drain.

    Where no launcher runs any more, `qfarm launch` starts one, which undoes a drain by itself.
    """
    _ask(partitions, Gate.OPEN, "is open")


@command.command()
def stop(
    partitions: Names = None,
    keep_jobs: Annotated[
        bool, typer.Option("--keep-jobs", help="End the launcher only; its jobs go on.")
    ] = False,
) -> None:
    """End jobs at once, which costs no retry, and then the launcher."""
    if keep_jobs:
        _end_launchers(partitions)
        return
    with open_farm() as (farm, store):
        own = {one.name for one in farm.config.partitions}
        here = []
        for name in _meant(farm, store, partitions):
            if launched(store.fleet.standing(name)):
                store.fleet.ask(name, Gate.STOPPING)
                print(f"{name} stops: its jobs are ended, then its launcher")
            elif name in own:
                here.append(name)
            else:
                _stop_unknown(store, name)
    if here:
        _stop_here(tuple(here))


@command.command()
def use(
    node: Annotated[str, typer.Argument(help="A node that `qfarm launcher status` shows.")],
) -> None:
    """Use a node again that is left alone, because you mended it."""
    with open_farm() as (_, store):
        if node not in {note.host for note in store.fleet.suspects()}:
            raise NotFoundError(
                f"no node {node!r} is left alone", "`qfarm launcher status` shows those that are."
            )
        store.fleet.clear(node)
    print(f"{node} is used again")


@command.command()
def costs() -> None:
    """Show what stages cost: seconds and memory, as learnt from those that were accepted.

    A row for each stage, level of theory and partition, at the middle size of its records.
    """
    with open_farm() as (_, store):
        model = CostModel.from_document(store.fleet.costs())
    show_costs(model, stdout())


@command.command()
def logs(
    partition: Annotated[str | None, typer.Argument(help="Only of this partition.")] = None,
    job: Annotated[
        str | None, typer.Option("--job", help="Log of the batch job of this name.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Last lines.")] = LINES,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
) -> None:
    """Show the launcher's log, or that of one of its jobs."""
    farm = load()
    path, wanted = _log(farm, job), None if job else partition  # a job has one partition
    with suppress(KeyboardInterrupt):
        for line in lines_of(path, lines, follow, lambda text: _about(text, wanted)):
            print(line if job else _words(line))


def _row(farm: Farm, name: str, standing: Standing) -> dict[str, Any]:
    found = (one for one in farm.config.partitions if one.name == name)
    alive = launched(standing)
    partition, look = next(found, None), standing.look if alive else {}
    refused = standing.refused if alive else ""  # else nobody looks whether it still holds
    return {
        "partition": name,
        "scheduler": "elsewhere" if partition is None else partition.scheduler,
        "state": "refused" if refused and not standing.gate.closed else standing.gate,
        "launcher": _who(standing),
        "alive": alive,
        **{key: look.get(key) for key in ("jobs", "pending", "slots", "attempts", "ready", "left")},
        "why": look.get("trouble") or refused or look.get("why") or "",
    }


def _who(standing: Standing) -> str:
    if standing.launcher is None or not launched(standing):
        return "none"
    return f"{standing.launcher.host}:{standing.launcher.pid}"


def _all(farm: Farm, standings: Iterable[str]) -> tuple[str, ...]:
    own = [partition.name for partition in farm.config.partitions]
    return tuple(dict.fromkeys([*own, *standings]))


def _node(note: NodeNote) -> dict[str, Any]:
    return {
        "host": note.host,
        "until": note.until.isoformat(),
        "why": note.why,
        "fragments": list(note.fragments),
    }


def _show(rows: Sequence[dict[str, Any]], nodes: Sequence[NodeNote], console: Console) -> None:
    heads = ("partition", "state", "launcher", ">jobs", ">pending", ">attempts", ">ready", ">left")
    names = [head.removeprefix(">") for head in heads]
    cells = ([_cell(name, row[name]) for name in (*names, "why")] for row in rows)
    below = ("why",)
    console.print(fitted((*heads, "why"), cells, drop=("left", "pending"), below=below))
    if nodes:
        kept = [(n.host, f"{n.until:%Y-%m-%d %H:%M} UTC", n.why) for n in nodes]
        console.print(table(("node", "left alone until", "because"), kept))
        console.print("Mended? `qfarm launcher use NODE`", markup=False)
    if not any(row["alive"] for row in rows):
        console.print("No launcher runs: `qfarm launch`", markup=False)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "."
    return duration(value) if name == "left" else str(value)


def _ask(partitions: Sequence[str] | None, gate: Gate, words: str) -> None:
    with open_farm() as (farm, store):
        for name in _meant(farm, store, partitions):
            store.fleet.ask(name, gate)
            print(f"{name} {words}{_but(store.fleet.standing(name))}")


def _but(standing: Standing) -> str:
    """What keeps an open partition from work all the same."""
    if not refuses(standing):
        return ""
    return f", but can do no work now ({standing.refused}); it goes on by itself when it can"


def _meant(farm: Farm, store: Store, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of partitions; without names those that `qfarm launch` takes.

    One that qfarm.toml does not have (any more) counts when it was launched once.
    """
    if not names:
        return tuple(one.name for one in chosen(farm, ()))
    noted = {one.name for one in store.fleet.standings()}
    for name in names:
        if name not in noted:
            partition_of(farm.config.partitions, name)
    return tuple(dict.fromkeys(names))


def _end_launchers(partitions: Sequence[str] | None) -> None:
    """Take the partitions from their launchers, which end when they see it."""
    with open_farm() as (farm, store):
        for name in _meant(farm, store, partitions):
            if launched(store.fleet.standing(name)):
                _take_away(store, name)
                print(f"the launcher of {name} ends within seconds; its jobs go on")
            else:
                print(f"{name} has no launcher")


def _take_away(store: Store, name: str) -> None:
    token = store.fleet.take(name, this_process("stop"), 5.0, free=True)
    store.fleet.leave(name, token)


def _stop_here(names: tuple[str, ...]) -> None:
    """End the jobs of partitions without a launcher, by being theirs for a moment."""
    with launching(Options(names)) as (daemon, _), Ends() as interrupts:
        for name in names:
            daemon.store.fleet.ask(name, Gate.STOPPING)
        present = sum(len(keeper.roster.present) for keeper in daemon.keepers)
        stderr().print(f"Ending {counted(present, 'job')} of {', '.join(names)} ...")
        daemon.run(interrupts)


def _stop_unknown(store: Store, name: str) -> None:
    """Stop a partition without a launcher whose scheduler is not known."""
    store.fleet.ask(name, Gate.STOPPING)
    print(
        f"{name} is not in qfarm.toml, so its jobs cannot be cancelled from here: those that run "
        "end by themselves when they have finished what they do"
    )
    notes = [f"{one.name} ({one.scheduler_id or 'id unknown'})" for one in store.fleet.jobs(name)]
    begin = job_name(name, NUMBER).removesuffix(NUMBER)
    known = f"; known are {', '.join(notes)}" if notes else ""
    print(
        "Cancel the others with the scheduler's own command (scancel, qdel, bkill, condor_rm, "
        f"oardel): their names begin with {begin!r}{known}"
    )


def _log(farm: Farm, job: str | None) -> Path:
    path = log.path_in(farm.folder) if job is None else logs_of(farm) / f"{job}.log"
    if not path.is_file():
        if job is None:
            what, remedy = "no launcher ran here", "`qfarm launch` starts one."
        else:
            what, remedy = f"there is no log of a job {job!r}", "`qfarm launcher logs` names jobs."
        raise NotFoundError(f"{what}: there is no file {path}", remedy)
    return path


def _about(text: str, partition: str | None) -> bool:
    """Whether a line speaks of a partition; all do where none is asked for."""
    if partition is None:
        return True
    with suppress(ValueError):
        event = json.loads(text)
        named = (event.get("partition"), *(event.get("partitions") or ()))
        job = str(event.get("job", ""))
        return partition in named or job == job_name(partition, job.rpartition("-")[2])
    return False


def _words(line: str) -> str:
    with suppress(ValueError):
        event = json.loads(line)
        return log.words(str(event.get("level", "info")), event)
    return line
