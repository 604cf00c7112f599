"""``qfarm down``: stop the farm's private MongoDB."""

from typing import Annotated

import typer

from qfarm import config
from qfarm.cli.console import stderr, stdout
from qfarm.config import Farm


def command(
    force: Annotated[
        bool, typer.Option("--force", help="Kill it when it does not stop by itself.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for its end.", min=1.0)] = 60.0,
) -> None:
    """Stop the farm's private MongoDB; the data stay. Nothing else is stopped."""
    from qfarm.store.server import down, running

    farm = config.load()
    if config.given_uri(farm):
        stdout().print("mongo.uri is set: qfarm started no MongoDB, so it stops none")
        return
    config.refuse_below_a_farm(farm)
    if running(farm.mongo_folder):
        _warn_of_attempts(farm)
    with stderr().status("stopping mongod"):
        pid = down(farm.mongo_folder, timeout, force)
    stdout().print("MongoDB did not run" if pid is None else f"MongoDB stopped (pid {pid})")


def _warn_of_attempts(farm: Farm) -> None:
    from qfarm.errors import StoreError
    from qfarm.store import open_store

    try:
        with open_store(config.mongo_uri(farm), farm.config.mongo.database) as store:
            attempts = len(store.running())
    except StoreError:
        return  # a server that answers nobody must be stoppable too
    if attempts:
        stderr().print(
            f"[yellow]attempts under way: {attempts}; their workers wait for MongoDB to come "
            "back, then give up[/yellow]",
            soft_wrap=True,
        )
