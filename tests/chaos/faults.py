"""Faults: what a storm does, when and to whom, drawn from its seed alone."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KILLS: Final[Mapping[str, int]] = {
    "kill worker": 34,
    "kill worker at command": 34,
    "kill engine": 9,
    "kill supervisor": 7,
    "kill launcher": 6,
    "kill launcher at command": 4,
    "kill mongod": 6,
}
"""Faults that are kills, of one hundred of them."""

OTHERS: Final[Mapping[str, int]] = {
    "stop worker": 8,
    "stop worker at commit": 8,
    "stop launcher": 3,
    "stop mongod": 2,
    "fill scratch": 1,
    "fill inodes of scratch": 1,
    "jump clock of workers": 2,
    "jump clock of mongod": 1,
    "fill disk of mongod": 1,
}
"""Faults that come on top of a hundred kills; at least one of each comes in every storm."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    at : float
        When: the part of all records that is there, 0 to 1.
    kind : str
        What, from `KILLS` or `OTHERS`.
    whom : float
        Which of the processes that may be hit, in order of age, as a number in [0, 1).
    command : int
        At which of its MongoDB commands from then on.
    way : str
        ``before`` or ``after`` that command.
    seconds : float
        How long it lasts, where it lasts.
    hours : float
        How far a clock jumps.
    """

    at: float
    kind: str
    whom: float
    command: int
    way: str
    seconds: float
    hours: float

    @property
    def is_kill(self) -> bool:
        return self.kind in KILLS


def draw(seed: int, kills: int) -> list[Fault]:
    """The faults of a storm with so many kills, in order.

    Not all of them come true: a process may die before it meets its doom.
    """
    drawn = random.Random(f"storm {seed}")
    weights = list(KILLS.values())
    kinds = drawn.choices(list(KILLS), weights, k=kills)
    for kind, share in OTHERS.items():
        kinds += [kind] * max(1, round(share * kills / 100))
    drawn.shuffle(kinds)
    times = sorted(drawn.uniform(0.0, 0.95) for _ in kinds)
    return [_fault(drawn, at, kind) for at, kind in zip(times, kinds, strict=True)]


def _fault(drawn: random.Random, at: float, kind: str) -> Fault:
    return Fault(
        at=at,
        kind=kind,
        whom=drawn.random(),
        command=round(drawn.uniform(1, 6) ** 2),
        way=drawn.choice(("before", "after")),
        seconds=drawn.uniform(3.0, 9.0),
        hours=drawn.choice((-26.0, -2.0, 2.0, 26.0)),
    )
