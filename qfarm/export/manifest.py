"""Manifest: what a data set should hold and does not, and why."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from qfarm.export.dataset import Written

VERSION: Final = 1


@dataclass(frozen=True)
class Expected:
    """A record that the selection asks for.

    Attributes
    ----------
    key : str
        Key of the stage that would give it.
    fragment_id, fragment_class, formula, source : str
        The fragment.
    n_atoms : int
        Its size.
    tags : tuple of str
        Its labels.
    stage : str
        The stage that holds it up, which may come before the one that would give the record.
    state : str
        State of that stage.
    attempts : int
        Attempts at that stage so far.
    reason, remedy : str
        Why there is no record, and what to do.
    """

    key: str
    fragment_id: str
    fragment_class: str
    formula: str
    n_atoms: int
    tags: tuple[str, ...]
    source: str
    stage: str
    state: str
    attempts: int
    reason: str
    remedy: str

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)


def manifest_path(target: Path) -> Path:
    """Where the manifest of a data set lies."""
    return target.with_name(f"{target.name}.manifest.json")


def write(path: Path, head: dict[str, Any], missing: Iterable[str]) -> None:
    """Write a manifest line by line, in constant memory.

    Parameters
    ----------
    path : Path
        File to write.
    head : dict
        What precedes the list ``missing``; must not be empty.
    missing : iterable of str
        JSON of each missing record.
    """
    with path.open("w", encoding="utf-8") as file:
        opening = json.dumps(head, indent=1, sort_keys=True).removesuffix("\n}")
        file.write(f'{opening},\n "missing": [')
        _write_rows(file, missing)
        file.write("]\n}\n")


def head(summary: Written, attributes: dict[str, Any]) -> dict[str, Any]:
    """Everything in a manifest but the list itself."""
    counts = {"records": summary.records, "missing": summary.missing}
    return {
        "format": "qfarm-manifest",
        "version": VERSION,
        "file": summary.target.name,
        **attributes,
        "counts": {name: counter.total() for name, counter in counts.items()},
        "by_class": {name: dict(counter) for name, counter in counts.items()},
        "missing_by_state": dict(summary.reasons),
        "levels": dict(summary.levels),
    }


def _write_rows(file: IO[str], rows: Iterable[str]) -> None:
    for separator, row in zip(_separators(), rows, strict=False):
        file.write(f"{separator}\n  {row}")


def _separators() -> Iterator[str]:
    yield ""
    while True:
        yield ","
