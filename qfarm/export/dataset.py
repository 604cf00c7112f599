"""Dataset: what every format shares: options, the summary, and errors users see."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from qfarm.engines import label
from qfarm.errors import UserError
from qfarm_schemas.layout import LayoutError
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Record

PROGRAM: Final = "qfarm"


class ExportError(UserError):
    """The file was not written; what was there before is untouched."""


@dataclass(frozen=True)
class Options:
    """What the user allowed.

    Attributes
    ----------
    overwrite : bool
        Replace a file of the same name.
    mixed_levels : bool
        Records of several levels of theory in one file.
    """

    overwrite: bool = False
    mixed_levels: bool = False


@dataclass(frozen=True)
class Written:
    """What an export wrote.

    The counters grow while the file is written.

    Attributes
    ----------
    target, manifest : Path
        The data set, and the list of what is missing in it.
    records, missing : Counter
        Numbers of records and of missing ones, by class.
    reasons : Counter
        Missing ones by state.
    levels : Counter
        Records by level id.
    size : int
        Bytes of the data set.
    """

    target: Path
    manifest: Path
    records: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    size: int = 0


def qfarm_version() -> str:
    """Version of the installed qfarm."""
    return version(PROGRAM)


def full_label(level: LevelOfTheory) -> str:
    """A level, its engine and its id: ``PBE0+MBD/def2-SVP, pyscf (l0123abcd)``."""
    return f"{label(level)}, {level.engine} ({level.id[:9]})"


def mixed_levels(counts: Mapping[str, int]) -> ExportError:
    """Error for several levels of theory in one file; `counts`: label -> records."""
    lines = "\n".join(f"  {count} of {name}" for name, count in counts.items())
    return ExportError(
        f"the records are of {len(counts)} levels of theory, whose energies must not be mixed in "
        f"training data:\n{lines}",
        "Choose one with --level (the beginning of its id in parentheses), --stage, --class or "
        "--tag; or write them all with --allow-mixed-levels.",
    )


def unfit(record: Record, error: LayoutError) -> ExportError:
    """Error for a record that does not fit the layout."""
    return ExportError(
        f"the record {record.key} of fragment {record.fragment_id} does not fit the export "
        f"layout: {error}",
        f"No file was written. Look at it with `qfarm show {record.fragment_id[:12]}`; leave it "
        "out with --class, --tag or --level.",
    )
