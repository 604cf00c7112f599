"""Batch: the fragments of a storm, the list of them for the checker, and their submission."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.engine import stages
from qfarm import config
from qfarm.plan import Plan, workflow_key
from qfarm.store import open_store
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment
from support.build import WATER

LIST: Final = "batch.jsonl"
BLOCK: Final = 250
"""Fragments submitted at once."""


@dataclass(frozen=True)
class Line:
    """What the list says of a fragment: its id, workflow key, atomic numbers and positions (A)."""

    id: str
    workflow: str
    numbers: list[int]
    positions: list[list[float]]


def write(path: Path, count: int, seed: int) -> list[Line]:
    """Draw so many stretched water molecules, and write the list of them."""
    drawn = lines(count, seed)
    with path.open("w") as file:
        file.writelines(json.dumps(vars(line)) + "\n" for line in drawn)
    return drawn


def lines(count: int, seed: int) -> list[Line]:
    """Draw so many stretched water molecules."""
    drawn = random.Random(seed)
    return [_line(_drawn(drawn, index), stages()) for index in range(count)]


def read(path: Path) -> list[Line]:
    """The list."""
    with path.open() as file:
        return [Line(**json.loads(text)) for text in file]


def plan(line: Line, planned: tuple[Stage, ...]) -> Plan:
    """What is submitted of a fragment."""
    fragment = Fragment(numbers=line.numbers, positions=line.positions, fragment_class="storm")
    return Plan(workflow_key(fragment, planned), fragment, planned)


def submit(folder: str) -> None:
    """Submit all of the list to the farm of a folder; may be killed and called again."""
    farm = config.load(Path(folder))
    listed, planned = read(Path(folder) / LIST), stages()
    with open_store(config.mongo_uri(farm), farm.config.mongo.database) as store:
        for first in range(0, len(listed), BLOCK):
            store.add([plan(line, planned) for line in listed[first : first + BLOCK]])


def _drawn(drawn: random.Random, index: int) -> Fragment:
    positions = [[float(x) for x in row] for row in WATER.positions]
    positions[0][2] += 0.3 * drawn.random()
    positions[1][1] += 1e-4 * index  # so that no two are the same
    return Fragment(numbers=WATER.numbers, positions=positions, fragment_class="storm")


def _line(fragment: Fragment, planned: tuple[Stage, ...]) -> Line:
    positions: Any = fragment.positions.tolist()
    key = workflow_key(fragment, planned)
    return Line(fragment.id, key, [int(n) for n in fragment.numbers], positions)
