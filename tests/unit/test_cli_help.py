"""Help texts: they fill a terminal that is narrower than the lines of a docstring."""

from itertools import pairwise

import pytest
from typer.testing import CliRunner

from qfarm.cli import COMMANDS, app


@pytest.mark.parametrize("name", ["fsck", "launch", "merge", "run", "submit"])
def test_help_is_wrapped_once(name: str) -> None:
    """No line of a paragraph ends where the first word of the next one had room."""
    said = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert name in COMMANDS
    text = said.stdout.partition("\u256d")[0]
    for paragraph in "\n".join(line.strip() for line in text.splitlines()).split("\n\n"):
        lines = paragraph.strip().splitlines()
        for line, following in pairwise(lines):
            assert len(line) + 1 + len(following.split()[0]) > 78, (line, following)
