"""``qfarm restore``: a backup into an empty database."""

from pathlib import Path
from typing import Annotated

import typer

from qfarm import config
from qfarm.cli.backup import show
from qfarm.cli.console import stdout
from qfarm.cli.following import following
from qfarm.cli.wording import counted
from qfarm.store import backup, version


def command(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="File of `qfarm backup`.")],
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="NAME", help="Database; else that of the farm."),
    ] = None,
    drop_partial: Annotated[
        bool,
        typer.Option("--drop-partial", help="Drop what a restore that was cut off has left."),
    ] = False,
) -> None:
    """Read a backup into an empty database.

    Each byte of the file is verified before anything is written, and each document is read back.
    Until all is there, no qfarm takes the database for a farm. What ran at the time of the backup
    counts as lost, and is tried again.
    """
    farm = config.load()
    own = farm.config.mongo.database
    name = database or own
    with following() as report:
        manifest = backup.restore(config.mongo_uri(farm), name, source, drop_partial, report)
    show(manifest)
    done = f"{counted(manifest.documents, 'document')} restored into the database {name}"
    stdout().print(done, soft_wrap=True, markup=False)
    if manifest.schema_version < version.CURRENT:
        older = (
            f"Its documents are of version {manifest.schema_version}, this qfarm's of "
            f"{version.CURRENT}. Next: qfarm migrate"
        )
        stdout().print(older, soft_wrap=True, markup=False)
    if name != own:
        hint = f'To work with it, set `database = "{name}"` in [mongo] of qfarm.toml.'
        stdout().print(hint, soft_wrap=True, markup=False)
    rights = "Users are not in a backup. On another server run `qfarm roles apply`, then add them."
    stdout().print(rights, soft_wrap=True, markup=False)
