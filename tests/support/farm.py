"""A farm in a folder of its own, on the tests' MongoDB, and the command line to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from qfarm.cli import app
from qfarm.store import open_store
from qfarm.store.protocol import Store


class Said(NamedTuple):
    """How a command ended; `out` with single blanks, so that tables are easy to search."""

    code: int
    out: str
    err: str
    raw: str


class Desk(NamedTuple):
    """A store and the folder that commands run in."""

    store: Store
    folder: Path

    def run(self, *arguments: object, ask: str | None = None) -> Said:
        """Run ``qfarm`` with these arguments, in this process; what it prints has no colour."""
        return qfarm(*arguments, ask=ask)

    def file(self, *frames: str, name: str = "a.xyz") -> Path:
        """Write a structure file."""
        path = self.folder / name
        path.write_text("".join(frames))
        return path


def qfarm(*arguments: object, ask: str | None = None) -> Said:
    """Run the command line in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=ask)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "\x1b" not in result.output
    out = "\n".join(" ".join(line.split()) for line in result.stdout.splitlines())
    return Said(result.exit_code, out, result.stderr, result.stdout)


@pytest.fixture
def desk(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """A fresh farm; the current folder is its folder."""
    monkeypatch.setenv("QFARM_MONGO__URI", mongo_uri)
    monkeypatch.setenv("QFARM_MONGO__DATABASE", database)
    monkeypatch.chdir(tmp_path)
    with open_store(mongo_uri, database) as store:
        yield Desk(store, tmp_path)
