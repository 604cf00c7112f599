"""``qfarm protocol``: list the protocols, or show one as a table."""

from collections.abc import Iterator
from typing import Annotated, Final

import typer
from rich.table import Table

from qfarm import config
from qfarm.cli.console import stdout
from qfarm.cli.table import table
from qfarm.cli.wording import level_name, thresholds_words
from qfarm.engines import method
from qfarm_schemas.config import LevelRule, StageTemplate
from qfarm_schemas.level import LevelOfTheory

command = typer.Typer(
    help="List protocols, or show one.", no_args_is_help=True, add_completion=False
)


@command.command("list")
def list_protocols() -> None:
    """List the protocols that come with qfarm."""
    listed = Table("protocol", "stages", "description", box=None)
    for name in config.protocols():
        protocol = config.load_protocol(name)
        stages = " -> ".join(stage.name for stage in protocol.stages)
        listed.add_row(name, stages, protocol.description)
    stdout().print(listed)


@command.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a protocol, or a TOML file.")],
) -> None:
    """Show which level of theory each class and size gets in each stage.

    In each stage the first line that matches a fragment counts.
    """
    protocol = config.load_protocol(name)
    console = stdout()
    console.print(f"{protocol.name}: {protocol.description}", soft_wrap=True, markup=False)
    for stage in protocol.stages:
        console.print(table(_COLUMNS, (_row(rule) for rule in stage.levels), _title(stage)))
        for line in _thresholds(stage):
            console.print(line, soft_wrap=True, markup=False)


def _title(stage: StageTemplate) -> str:
    until = f", largest force {stage.max_force:g} eV/A" if stage.task == "optimisation" else ""
    return f"Stage {stage.name}: {stage.task.value}{until}"


def _thresholds(stage: StageTemplate) -> Iterator[str]:
    """A line for each set of SCF thresholds; the levels are named where they differ."""
    names: dict[str, dict[str, None]] = {}
    for level in (rule.level for rule in stage.levels if rule.level is not None):
        names.setdefault(thresholds_words(level), {})[level_name(level)] = None
    for words, levels in names.items():
        of = f" of {', '.join(levels)}" if len(names) > 1 else ""
        yield f"SCF thresholds{of}: {words}"


def _row(rule: LevelRule) -> tuple[str, ...]:
    which = (", ".join(rule.classes) or "any", _atoms(rule), " ".join(rule.elements) or "any")
    level = rule.level
    if level is None:
        return (*which, "-", "left out", "-")
    basis = "-" if level.basis == "none" else level.basis.value
    return (*which, level.engine, _method(level), basis)


def _atoms(rule: LevelRule) -> str:
    if rule.max_atoms is None:
        return "any" if rule.min_atoms == 1 else f"> {rule.min_atoms - 1}"
    return f"{rule.min_atoms}-{rule.max_atoms}" if rule.min_atoms > 1 else f"<= {rule.max_atoms}"


def _method(level: LevelOfTheory) -> str:
    return method(level) if level.mbd_beta is None else f"{method(level)} (beta {level.mbd_beta:g})"


_COLUMNS: Final = ("class", "atoms", "elements", "engine", "level", "basis")
