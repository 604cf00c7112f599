"""The command line: the table of subcommands, and how errors reach the user.

A subcommand is one module in this package that defines ``command``: a function with Typer's
annotations (or a `typer.Typer` for a group), named in `COMMANDS`. A module is imported only when
its subcommand runs. Data goes to stdout, everything else to stderr (`qfarm.cli.console`).

Exit codes: 0 done, 1 a `UserError` (what happened and the remedy), 2 wrong usage or an unexpected
error (with the name of the file that holds the traceback), 130 interrupted.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from inspect import cleandoc
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from qfarm.errors import UserError


class Command(NamedTuple):
    """Where a subcommand is (``module:name``) and its line in ``qfarm --help``."""

    target: str
    help: str


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "up": Command("qfarm.cli.up:command", "Start the farm's MongoDB, or check it."),
        "down": Command("qfarm.cli.down:command", "Stop the farm's MongoDB; the data stay."),
        "submit": Command("qfarm.cli.submit:command", "Put fragments from files into the queue."),
        "run": Command("qfarm.cli.run:command", "Work in the foreground until nothing waits."),
        "launch": Command("qfarm.cli.launch:command", "Keep the batch queues of clusters filled."),
        "launcher": Command(
            "qfarm.cli.launcher:command", "Status, drain, pause, stop of launchers."
        ),
        "status": Command("qfarm.cli.status:command", "Count stages by state."),
        "list": Command("qfarm.cli.listing:command", "List fragments and their stages."),
        "show": Command("qfarm.cli.show:command", "Show all about one fragment."),
        "retry": Command("qfarm.cli.retry:command", "Make failed or cancelled stages ready again."),
        "cancel": Command("qfarm.cli.cancel:command", "Take stages out of the queue."),
        "export": Command("qfarm.cli.export:command", "Write the records to an HDF5 file."),
        "backup": Command("qfarm.cli.backup:command", "Write the whole farm to one file."),
        "restore": Command("qfarm.cli.restore:command", "Read a backup into an empty database."),
        "merge": Command("qfarm.cli.merge:command", "Bring another farm's backup into this one."),
        "migrate": Command("qfarm.cli.migrate:command", "Bring the database to this version."),
        "protocol": Command("qfarm.cli.protocol:command", "List protocols, or show one."),
        "fsck": Command("qfarm.cli.fsck:command", "Check that the farm is whole; repair it."),
        "roles": Command("qfarm.cli.roles:command", "Roles and users of the farm's database."),
        "doctor": Command("qfarm.cli.doctor:command", "Find and try all that the farm needs."),
    }
)


class LazyGroup(TyperGroup):
    """A group that imports a subcommand only when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in place of its line of help, then look it up."""
        if args and args[0] in COMMANDS:
            self.add_command(_load(args[0]), args[0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run; a `UserError` is printed and ends the process with code 1."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            from qfarm.cli.console import print_error

            print_error(error)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


class OnceCommand(TyperCommand):
    """A command whose options of one value may be given once; the last would win in silence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse ``--class a --class b``, which would leave out class a."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in self.params:
            takes_one = getattr(option, "is_flag", True) is False and not option.multiple
            if takes_one and given.count(option) > 1:
                hint = f"'{option.opts[0]}'"
                raise typer.BadParameter("it can be given once only.", ctx, param_hint=hint)
        return super().parse_args(ctx, args)


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name].target.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return get_command(found)
    single = typer.Typer(add_completion=False)
    single.command(name, help=_unwrapped(found.__doc__ or ""), cls=OnceCommand)(found)
    return get_command(single)


def _unwrapped(text: str) -> str:
    """Paragraphs of one line each: a terminal is narrower than a docstring's lines."""
    return "\n\n".join(" ".join(part.split()) for part in cleandoc(text).split("\n\n"))


def _version(asked: bool) -> None:
    if asked:
        print(f"qfarm {version('qfarm')}")
        raise typer.Exit


def _application() -> typer.Typer:
    application = typer.Typer(
        cls=LazyGroup,
        name="qfarm",
        help="A distributed quantum-mechanics task farm with a job database.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    application.callback()(_options)
    for name, command in COMMANDS.items():
        application.command(name, help=command.help)(_placeholder)
    return application


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take what is given before the subcommand."""


def _placeholder() -> None:
    """Stand for a subcommand in ``qfarm --help``."""


app = _application()


def main() -> None:
    """Entry point of ``qfarm``."""
    try:
        app()
    except Exception as error:  # noqa: BLE001  the last line before the user
        from qfarm.cli.console import print_unexpected

        print_unexpected(error)
        sys.exit(2)
