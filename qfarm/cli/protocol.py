"""``qfarm protocol``: list the protocols, or show one as a table."""

from typing import Annotated, Final

import typer
from rich.table import Table

from qfarm import config
from qfarm.cli.console import stdout
from qfarm.engines import method
from qfarm_schemas.config import LevelRule, StageTemplate
from qfarm_schemas.level import LevelOfTheory

command = typer.Typer(
    help="List protocols, or show one.", no_args_is_help=True, add_completion=False
)


@command.command("list")
def list_protocols() -> None:
    """List the protocols that come with qfarm."""
    table = Table("protocol", "stages", "description", box=None)
    for name in config.protocols():
        protocol = config.load_protocol(name)
        stages = " -> ".join(stage.name for stage in protocol.stages)
        table.add_row(name, stages, protocol.description)
    stdout().print(table)


@command.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a protocol, or a TOML file.")],
) -> None:
    """Show which level of theory each class and size gets in each stage.

    In each stage the first line that matches a fragment counts.
    """
    protocol = config.load_protocol(name)
    table = Table(*_COLUMNS, box=None)
    for stage in protocol.stages:
        for rule in stage.levels:
            table.add_row(*_row(stage, rule))
    console = stdout()
    console.print(f"{protocol.name}: {protocol.description}", soft_wrap=True, markup=False)
    console.print(table)


def _row(stage: StageTemplate, rule: LevelRule) -> tuple[str, ...]:
    which = (", ".join(rule.classes) or "any", _atoms(rule), " ".join(rule.elements) or "any")
    level = rule.level
    if level is None:
        return (*which, stage.name, "-", "left out", "-", "-")
    return (
        *which,
        stage.name,
        level.engine,
        _method(level),
        "-" if level.basis == "none" else level.basis.value,
        f"max force {stage.max_force:g} eV/A" if stage.task == "optimisation" else _scf(level),
    )


def _atoms(rule: LevelRule) -> str:
    if rule.max_atoms is None:
        return "any" if rule.min_atoms == 1 else f"> {rule.min_atoms - 1}"
    return f"{rule.min_atoms}-{rule.max_atoms}" if rule.min_atoms > 1 else f"<= {rule.max_atoms}"


def _method(level: LevelOfTheory) -> str:
    return method(level) if level.mbd_beta is None else f"{method(level)} (beta {level.mbd_beta:g})"


def _scf(level: LevelOfTheory) -> str:
    limits = level.thresholds
    parts = (("energy", limits.energy, "eV"), ("forces", limits.forces, "eV/A"))
    return ", ".join(f"{name} {limit:g} {unit}" for name, limit, unit in parts if limit is not None)


_COLUMNS: Final = ("class", "atoms", "elements", "stage", "engine", "level", "basis", "criteria")
