"""Tiny readers of every engine's input, independent of the code that writes it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qfarm_schemas.elements import NUMBERS

Files = Mapping[str, str]
Position = tuple[float, float, float]


@dataclass(frozen=True)
class Input:
    """What an input says.

    Attributes
    ----------
    numbers : list of int
        Atomic numbers in order.
    positions : list of (x, y, z)
        A.
    charge, multiplicity : int
        Of the whole fragment.
    words : dict
        All else that it says: path or keyword -> value.
    """

    numbers: list[int]
    positions: list[Position]
    charge: int
    multiplicity: int
    words: dict[str, str] = field(default_factory=dict)


def of_library(files: Files) -> Input:
    """job.json, the input of engines that are libraries."""
    job = json.loads(files["job.json"])
    fragment = job.pop("fragment")
    return Input(
        numbers=fragment["numbers"],
        positions=[tuple(row) for row in fragment["positions"]],
        charge=fragment["charge"],
        multiplicity=fragment["multiplicity"],
        words=dict(_flat(job)),
    )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield path, json.dumps(value)
        return
    for key, below in value.items():
        yield from _flat(below, f"{path}.{key}".lstrip("."))


def of_aims(files: Files) -> Input:
    """geometry.in (A, Cartesian) and control.in."""
    words = dict(_keywords(files["control.in"]))
    atoms = [row for row in _rows(files["geometry.in"]) if row[0] == "atom"]
    unpaired = int(words.get("fixed_spin_moment", "0"))
    assert (words["spin"] == "collinear") == (unpaired > 0)
    return Input(
        numbers=[NUMBERS[row[4]] for row in atoms],
        positions=[(float(row[1]), float(row[2]), float(row[3])) for row in atoms],
        charge=int(words["charge"]),
        multiplicity=unpaired + 1,
        words=words,
    )


def _rows(text: str) -> list[list[str]]:
    return [words for line in text.splitlines() if (words := line.split("#")[0].split())]


def _keywords(control: str) -> Iterator[tuple[str, str]]:
    """Keywords above the species, those that may be repeated with their first value; species."""
    general, *species = re.split(r"^(?=\s*species\s)", control, flags=re.MULTILINE)
    for keyword, *values in _rows(general):
        if keyword in ("output",):
            yield f"{keyword} {values[0]}", " ".join(values[1:])
        else:
            yield keyword, " ".join(values)
    for text in species:
        yield f"species {text.split()[1]}", text


def of_dftbplus(files: Files) -> Input:
    """dftb_in.hsd with the geometry in GenFormat inside; closed shells only."""
    words = dict(_hsd(files["dftb_in.hsd"]))
    rows = [row.split() for row in words.pop("Geometry.GenFormat").splitlines()]
    (n_atoms, kind), species, *atoms = rows
    assert kind == "C", "a molecule, in A"
    assert len(atoms) == int(n_atoms)
    assert not any("SpinPolarisation" in path for path in words)
    return Input(
        numbers=[NUMBERS[species[int(row[1]) - 1]] for row in atoms],
        positions=[(float(row[2]), float(row[3]), float(row[4])) for row in atoms],
        charge=int(words.pop("Hamiltonian.DFTB.Charge")),
        multiplicity=1,
        words=words,
    )


def _hsd(text: str) -> Iterator[tuple[str, str]]:
    """Path -> value; ``Name = Kind {`` and ``Name {`` open a block, plain lines are its data."""
    path: list[str] = []
    data: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        opened = re.fullmatch(r"(\w+)\s*(?:=\s*(\w+)\s*)?\{(\s*\})?", line)
        if opened:
            name = ".".join(filter(None, opened.group(1, 2)))
            if opened.group(3):
                yield ".".join((*path, name)), ""
            else:
                path.append(name)
        elif line == "}":
            if data:
                yield ".".join(path), "\n".join(data)
            data = []
            path.pop()
        elif "=" in line:
            name, value = (word.strip() for word in line.split("=", 1))
            yield ".".join((*path, name)), value
        else:
            data.append(line)
    assert not path, "a brace is not closed"
