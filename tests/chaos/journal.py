"""Journal: what the storm did, as it happens and counted."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from chaos.faultpoints import FIRED


@dataclass(frozen=True)
class Fired:
    """A process that met its doom: which, by what signal, where."""

    pid: int
    signal: str
    way: str
    command: int
    name: str


@dataclass
class Journal:
    """Notes of a storm.

    Attributes
    ----------
    loud : bool
        Whether to print each line.
    done : Counter
        Faults that came true, by kind.
    kills : int
        How many of them were kills.
    """

    fired: Path
    loud: bool = True
    done: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    lines: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _read: int = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def note(self, text: str, kind: str = "", kill: bool = False) -> None:
        """Write a line; count a fault that came true."""
        if kind:
            self.done[kind] += 1
        self.kills += kill
        line = f"{self.seconds:8.2f} s  {text}"
        self.lines.append(line)
        if self.loud:
            print(line, flush=True)

    def new(self) -> list[Fired]:
        """Dooms that were met since the last call."""
        if not self.fired.exists():
            return []
        with self.fired.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        split = [line.split("\t") for line in whole.splitlines()]
        return [Fired(int(f[0]), f[1], f[2], int(f[3]), f[4]) for f in split]


def journal(dooms: Path, loud: bool) -> Journal:
    """A journal of a farm whose dooms lie in a folder."""
    return Journal(dooms / FIRED, loud)
