"""``qfarm migrate``: the documents of an older qfarm brought to the layout of this one."""

from typing import Annotated

import typer

from qfarm import config
from qfarm.cli.console import stderr, stdout


def command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
    ] = False,
) -> None:
    """Bring the database to the version of this qfarm.

    Stop all workers first, and keep a copy (`qfarm backup FILE`). If it is cut off, run it again.
    """
    from qfarm.store.migrations import migrate

    farm = config.load()
    uri, database = config.mongo_uri(farm), farm.config.mongo.database
    with stderr().status("migrating") as status:
        done = migrate(uri, database, dry_run, lambda step: status.update(f"migrating: {step}"))
    if not done:
        stdout().print("Nothing to migrate: the database is of this qfarm's version")
    for step in done:
        line = f"{'would do' if dry_run else 'done'}: {step}"
        stdout().print(line, soft_wrap=True, markup=False)
