"""``qfarm roles``: who may do what in the farm's database, and users with these roles."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from qfarm import config
from qfarm.cli.console import stderr, stdout
from qfarm.cli.table import table
from qfarm.errors import InputError
from qfarm.private import read_private
from qfarm.store import roles

command = typer.Typer(
    help="Roles and users of the farm's database.", no_args_is_help=True, add_completion=False
)

SHORTEST_PASSWORD = 12


@command.command("show")
def show(
    as_json: Annotated[
        bool, typer.Option("--json", help="MongoDB's createRole commands, for tools of your own.")
    ] = False,
) -> None:
    """Show which role may write what, and why. All roles may read. Asks no MongoDB."""
    if as_json:
        print(json.dumps(roles.as_commands(config.load().config.mongo.database), indent=2))
        return
    console = stdout()
    for role in roles.ROLES:
        rows = [(g.collection, ", ".join(g.actions), g.why) for g in role.grants]
        console.print(f"{role.name}: {role.purpose}", markup=False, soft_wrap=True)
        if rows:
            console.print(table(("collection", "writes", "why"), rows))
        else:
            console.print(f"  MongoDB's own role {', '.join(role.inherits)}\n", markup=False)


@command.command("apply")
def apply() -> None:
    """Make the roles and the indexes, or bring them up to date; repeat it after each update.

    For an administrator: the address in mongo.uri_file (or QFARM_MONGO__URI_FILE) must be one of
    a user with the role admin, dbOwner on the farm's database, or root.
    """
    from qfarm.store import users

    farm = config.load()
    names = users.apply(config.mongo_uri(farm), farm.config.mongo.database)
    stdout().print(f"Roles of the database {farm.config.mongo.database}: {', '.join(names)}")
    stdout().print("Next: qfarm roles user NAME ROLE --write FILE")


@command.command("user")
def user(
    name: Annotated[str, typer.Argument(help="The user.")],
    role: Annotated[
        list[str], typer.Argument(help="dashboard, submitter, worker or admin; or several.")
    ],
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            help="Draw a password and write the user's address there, readable for you alone.",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", help="Take the password from this file."),
    ] = None,
) -> None:
    """Make a user with one role or several, or give one a new password and new roles.

    The password is drawn (--write), read from a file, or asked for. It is never shown, and never
    taken from the command line, which others on the machine can see.
    """
    from qfarm.store import users

    _refuse_unknown(role)
    farm = config.load()
    uri, database = config.mongo_uri(farm), farm.config.mongo.database
    if write is not None and write.exists():
        raise InputError(f"{write} is there already", "Name another file, or remove this one.")
    password = _password(write, password_file)
    with _address_in(write, users.address_of(uri, database, name, password)):
        new = users.give(uri, database, name, role, password)
    if write is not None:
        words = f'{write}: give it to {name}, for `uri_file = "..."` below [mongo] in qfarm.toml'
        stderr().print(words, markup=False, soft_wrap=True)
    verb = "made" if new else "changed"
    stdout().print(
        f"User {name} {verb}: {', '.join(role)} of the database {database}", markup=False
    )


@contextmanager
def _address_in(path: Path | None, address: str) -> Iterator[None]:
    """Write the file first, and remove it if the password in it was not set after all.

    The other way round, a full disk would leave a user whose password nobody knows.
    """
    from qfarm.store.users import RolesElsewhereError

    if path is None:
        yield
        return
    _write_new(path, f"{address}\n")
    try:
        yield
    except RolesElsewhereError:
        raise  # the password is set
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write_new(path: Path, text: str) -> None:
    """Write a file that was not there, for its owner alone."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        with os.fdopen(number, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be written: {error.strerror}; no user was made or changed",
        "Name a file in a folder that is there, on a disk with space, and run this again.",
    )


def _refuse_unknown(names: list[str]) -> None:
    known = [role.name for role in roles.ROLES]
    for name in names:
        if name not in known:
            raise InputError(f"there is no role {name!r}", f"Roles: {', '.join(known)}.")


def _password(write: Path | None, file: Path | None) -> str:
    from qfarm.store import users

    if file is None and write is not None:
        return users.new_password()
    if file is not None:
        password = read_private(file, "--password-file")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(password) < SHORTEST_PASSWORD:
        raise InputError(
            f"the password has fewer than {SHORTEST_PASSWORD} characters",
            "Take a longer one, or let qfarm draw one: --write FILE.",
        )
    return str(password)
