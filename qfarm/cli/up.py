"""``qfarm up``: start the farm's MongoDB, or check the configured one."""

import shlex
from typing import Annotated

import typer
from rich.console import Console

from qfarm import config
from qfarm.cli.console import stderr, stdout
from qfarm.config import Farm


def command(
    here: Annotated[
        bool, typer.Option("--here", help="Make a farm of its own below another farm's folder.")
    ] = False,
    replica_set: Annotated[
        bool,
        typer.Option(
            "--replica-set",
            help="As a replica set of one node. It always is one, for transactions need it.",
        ),
    ] = True,
) -> None:
    """Start the farm's MongoDB and wait until it is ready.

    Without mongo.uri in qfarm.toml a private mongod is started on 127.0.0.1, as a replica set of
    one node with a password of its own, in the farm folder. With mongo.uri or mongo.uri_file that
    MongoDB is checked and nothing is started.
    Running it again changes nothing.
    """
    farm = config.load()
    if not here:
        config.refuse_below_a_farm(farm)
    _make_private(farm)
    given = config.given_uri(farm)
    if given:
        _check(farm, given)
    else:
        _start(farm)
    stdout().print(f"  lpad -l {shlex.quote(str(farm.launchpad))}", soft_wrap=True, markup=False)


def _start(farm: Farm) -> None:
    from qfarm.store.credentials import private_launchpad, write_launchpad
    from qfarm.store.server import up

    with stderr().status("starting mongod"):
        server = up(farm.mongo_folder, farm.mongod, farm.config.mongo.port)
    database = farm.config.mongo.database
    write_launchpad(farm.launchpad, private_launchpad(server.credentials, database))
    console = stdout()
    verb = "started" if server.started else "already runs"
    took = f" in {server.seconds:.1f} s" if server.started else ""
    console.print(f"MongoDB {verb} on 127.0.0.1:{server.credentials.port}{took}", soft_wrap=True)
    _lines(console, {"pid": server.pid, "database": database, "data": server.data})
    _lines(console, {"log": server.log})


def _check(farm: Farm, uri: str) -> None:
    from qfarm.store import open_store
    from qfarm.store.credentials import uri_launchpad, write_launchpad

    database = farm.config.mongo.database
    with stderr().status("asking MongoDB"), open_store(uri, database):
        write_launchpad(farm.launchpad, uri_launchpad(uri, database))
    stdout().print("The MongoDB of mongo.uri answers; nothing was started", soft_wrap=True)
    _lines(stdout(), {"database": database})


def _lines(console: Console, values: dict[str, object]) -> None:
    for name, value in values.items():
        console.print(f"  {name} {value}", soft_wrap=True, markup=False)


def _make_private(farm: Farm) -> None:
    """Keep passwords from other users, and out of a repository that the folder may lie in."""
    from qfarm.errors import ConfigError

    try:
        farm.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        farm.folder.chmod(0o700)
        hidden = farm.folder / ".gitignore"
        if not hidden.exists():
            hidden.write_text("*\n")
    except OSError as error:
        raise ConfigError(
            f"cannot write the farm folder {farm.folder}: {error.strerror}",
            "Set `folder` in qfarm.toml to a folder that you may write.",
        ) from None
