"""Problem: why a frame was rejected, where it stands, what the user can do."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Groups under which problems are listed; the value is the heading."""

    UNREADABLE = "cannot be read"
    EMPTY = "no atoms"
    ELEMENT = "unknown element"
    NOT_FINITE = "coordinates that are no numbers"
    TOO_FAR = "coordinates out of range"
    OVERLAP = "overlapping atoms"
    APART = "parts too far apart"
    PERIODIC = "periodic cell"
    UNITS = "length unit"
    CHARGE = "charge"
    MULTIPLICITY = "multiplicity"
    PARITY = "electron count and multiplicity do not fit"
    CLASS = "class"
    NAME = "name"
    TAGS = "tags"
    LEVEL = "no level of theory"
    ENGINE = "an engine cannot do it"
    PARAMETERS = "parameter files are missing"


@dataclass(frozen=True)
class Where:
    """Place of a frame. `frame` and `line` count from 1; `line` is the frame's first."""

    file: str
    frame: int
    line: int

    def __str__(self) -> str:
        return f"{self.file}, frame {self.frame} (line {self.line})"


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a frame, and the remedy, both one sentence."""

    kind: Kind
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}".rstrip()


@dataclass(frozen=True)
class Problem:
    """A flaw and where it was found."""

    where: Where
    flaw: Flaw

    def __str__(self) -> str:
        return f"{self.where}: {self.flaw}"

    def as_dict(self) -> dict[str, str | int]:
        """Plain values for machine-readable output."""
        where, flaw = self.where, self.flaw
        return {
            "file": where.file,
            "frame": where.frame,
            "line": where.line,
            "kind": flaw.kind.name.lower().replace("_", "-"),
            "what": flaw.what,
            "remedy": flaw.remedy,
        }
