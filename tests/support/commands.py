"""Commands on the PATH that stand for a scheduler's: they keep what they get."""

import os
from pathlib import Path

import pytest

BODY = """#!/bin/sh
cd "{folder}"
echo x >> {name}.calls
printf '%s\\0' "$@" > {name}.words
for last; do :; done
if [ -f "$last" ]; then cp "$last" {name}.script; fi
cat > {name}.stdin
cat {name}.out
cat {name}.err >&2
exit {code}
"""


class Commands:
    """Stand-ins in a folder of their own, first on the PATH."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def say(self, name: str, out: str = "", err: str = "", code: int = 0) -> None:
        """What a command says from now on."""
        (self.folder / f"{name}.out").write_text(out)
        (self.folder / f"{name}.err").write_text(err)
        path = self.folder / name
        path.write_text(BODY.format(folder=self.folder, name=name, code=code))
        path.chmod(0o755)

    def words(self, name: str) -> list[str]:
        """Arguments of its last call."""
        return (self.folder / f"{name}.words").read_text().split("\0")[:-1]

    def calls(self, name: str) -> int:
        """How often it was called."""
        file = self.folder / f"{name}.calls"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def got(self, name: str, what: str) -> str:
        """What it got: `what` is ``script``, the file named by its last argument, or ``stdin``."""
        return (self.folder / f"{name}.{what}").read_text()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """No command yet."""
    folder = tmp_path / "commands"
    folder.mkdir()
    return Commands(folder, monkeypatch)
