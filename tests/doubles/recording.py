"""A recorded run as a script for the player: its standard output in parts, its files, its end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from doubles.answer import Answer, End
from doubles.misbehaviour import Act
from doubles.physics import Molecule

PARTS: Final = 10

STREAMS: Final = ("stdout", "aims.out", "aims_tail.out")
"""Names that recordings give to the standard output."""

NOT_LEFT: Final = (
    *STREAMS,
    *("stderr", "slurm.out", "run.json"),
    *("control.in", "geometry.in", "dftb_in.hsd", "geometry.gen"),
)
"""Files of a recording that the program did not write into its folder."""

NOTHING: Final = Molecule(np.zeros(0, dtype=int), np.zeros((0, 3)))


@dataclass(frozen=True)
class Recording:
    """A recorded folder; `Task` and `Script` of the player."""

    folder: Path
    pause: float = 0.0
    molecule: Molecule = NOTHING
    head: str = ""
    stop_file: str = ".never"
    files: Mapping[str, str | bytes] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What rules of a plan match: the recorded output."""
        return "".join(self._lines)

    def answer(self, molecule: Molecule) -> Answer:
        """Nothing is computed."""
        return Answer(molecule, 0.0, molecule.positions, np.zeros(0), None, "recorded")

    def script(self, answer: Answer, act: Act) -> "Recording":
        """The recording itself."""
        return self

    @cached_property
    def _lines(self) -> list[str]:
        found = [self.folder / name for name in STREAMS if (self.folder / name).is_file()]
        return found[0].read_text(errors="replace").splitlines(keepends=True) if found else []

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """The output in parts."""
        size = max(1, -(-len(self._lines) // PARTS))
        starts = range(0, len(self._lines), size)
        return tuple("".join(self._lines[start : start + size]) for start in starts)

    def during(self, done: int) -> Mapping[str, str | bytes]:
        """Nothing."""
        return {}

    def end(self, done: int) -> End:
        """The recorded files and exit code."""
        return End("", self._code, self._left)

    @cached_property
    def _left(self) -> dict[str, str | bytes]:
        paths = (path for path in self.folder.iterdir() if path.name not in NOT_LEFT)
        return {path.name: path.read_bytes() for path in paths}

    @cached_property
    def _code(self) -> int:
        run = self.folder / "run.json"
        return int(json.loads(run.read_text())["exit"]) if run.is_file() else 0


def read(folder: Path, seconds: float) -> Recording:
    """Read a recorded folder."""
    return Recording(folder, seconds)
