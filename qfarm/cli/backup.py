"""``qfarm backup``: the whole farm in one file, or a check of such a file."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from qfarm import config
from qfarm.cli.console import stdout
from qfarm.cli.following import following
from qfarm.cli.table import table
from qfarm.cli.wording import counted
from qfarm.export.atomic import replacing
from qfarm.store import backup
from qfarm.store.backup import BackupError, Manifest


def command(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, or to check.")],
    check: Annotated[
        bool, typer.Option("--check", help="Verify FILE; nothing is written, no MongoDB is needed.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an old file.")] = False,
) -> None:
    """Write the whole farm to one file, as it is at one moment.

    Workers may go on meanwhile. The file appears whole or not at all; it holds no passwords.
    `qfarm restore FILE` puts it into an empty database.
    """
    if check:
        with following() as report:
            manifest = backup.check(target, report)
        show(manifest)
        stdout().print(f"{target}: whole, every byte was verified", soft_wrap=True, markup=False)
        return
    _refuse(target, overwrite)
    manifest = _save(target)
    show(manifest)
    size = f"{target.stat().st_size / 1e6:.2f} MB"
    stdout().print(
        f"{target}: {counted(manifest.documents, 'document')}, {size}", soft_wrap=True, markup=False
    )


def show(manifest: Manifest) -> None:
    """Print what a backup is and what is in it."""
    console = stdout()
    rows = [(c.name, c.documents, f"{c.size / 1e6:.2f}") for c in manifest.collections]
    console.print(table(("collection", ">documents", ">MB"), rows))
    moment = manifest.taken.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    console.print(
        f"database {manifest.database} at {moment}, documents of version "
        f"{manifest.schema_version}, written by qfarm {manifest.qfarm_version}",
        soft_wrap=True,
        markup=False,
    )
    if manifest.left_out:
        names = ", ".join(manifest.left_out)
        console.print(f"left out (views, capped): {names}", soft_wrap=True, markup=False)


def _refuse(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise BackupError(f"{target} is a folder", "Name a file in it.")
    if not target.parent.is_dir():
        raise BackupError(f"there is no folder {target.parent}", "Create it, or name another.")
    if target.exists() and not overwrite:
        raise BackupError(f"{target} exists", "Replace it with --overwrite, or name another file.")


def _save(target: Path) -> Manifest:
    farm = config.load()
    uri, database = config.mongo_uri(farm), farm.config.mongo.database
    own = config.given_uri(farm) is None
    try:
        with (
            replacing(target) as temporary,
            open(temporary, "xb", opener=partial(os.open, mode=0o600)) as file,
            following() as report,
        ):
            return backup.save(uri, database, file, own, report)
    except OSError as error:
        raise BackupError(
            f"cannot write {target}: {error.strerror or error}",
            "Free some space, or name a file on another disk.",
        ) from None
