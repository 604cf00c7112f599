"""Fates: what the engine of the storm makes of a fragment, as a pure function. Standard library.

The outcome of an attempt follows from the fragment's name, the stage, the number of the attempt and
the rung alone, so whoever knows these can say what must stand in the database.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

STAGES: Final = ("preopt", "single_point")
RUNGS: Final = ("plain", "damped", "smeared")
NAME: Final = 12
"""Characters of a fragment's id that name its scratch folders, and by which its fate is drawn."""

Positions = list[list[float]]

_SHARES: Final = (
    ("easy", 0.80),
    ("second rung", 0.09),
    ("third rung", 0.04),
    ("crashes once", 0.03),
    ("all rungs fail", 0.02),
    ("no gap", 0.02),
)
_RUNGS_TO_CLIMB: Final = {"second rung": 1, "third rung": 2, "all rungs fail": len(RUNGS)}
NO_GAP: Final = "occupied orbitals lie above empty ones, said the engine of the storm"
NOT_CONVERGED: Final = "the SCF of the storm did not converge"


@dataclass(frozen=True)
class Spot:
    """An attempt: which fragment (the first `NAME` characters of its id), stage, number, rung."""

    name: str
    stage: str
    number: int
    rung: int


def fate(name: str, stage: str) -> str:
    """How a stage of a fragment goes, in a word or two."""
    drawn = _draw(name, stage, "fate")
    for word, share in _SHARES:
        drawn -= share
        if drawn < 0.0:
            return word
    return _SHARES[0][0]


def outcome(spot: Spot) -> str:
    """``ok``, ``crashed``, or the kind of the failure."""
    word = fate(spot.name, spot.stage)
    if word == "crashes once":
        return "crashed" if spot.number == 1 else "ok"
    if word == "no gap":
        return "no-gap"
    return "scf-not-converged" if spot.rung < _RUNGS_TO_CLIMB.get(word, 0) else "ok"


def reason(name: str, stage: str) -> str | None:
    """Why a stage fails for good; None when it gets its record."""
    word = fate(name, stage)
    if word == "no gap":
        return NO_GAP
    if word == "all rungs fail":
        return f"every rung was tried ({', '.join(RUNGS)}); the last said: {NOT_CONVERGED}"
    return None


def records(name: str) -> int:
    """Number of records that a fragment gets."""
    failed = [reason(name, stage) is not None for stage in STAGES]
    return failed.index(True) if any(failed) else len(STAGES)


def seconds(spot: Spot) -> float:
    """How long the engine takes, s: nearly nothing, or long enough for some heartbeats."""
    drawn = _draw(spot.name, spot.stage, "seconds", spot.number)
    return 0.6 if drawn < 0.03 else 0.0


def moved(name: str, stage: str, start: Positions) -> Positions:
    """Geometry that a stage ends with, A: an optimisation moves all atoms, a single point none."""
    if stage != STAGES[0]:
        return start
    return [[x + 0.05 * _draw(name, "shift", i) for i, x in enumerate(row)] for row in start]


def energy(spot: Spot, start: Positions) -> float:
    """Energy, eV: another one for every start geometry, stage and rung."""
    geometry = hashlib.sha256(json.dumps(start).encode()).hexdigest()
    return -1000.0 * (1.0 + _draw(spot.name, spot.stage, geometry)) + 0.5 * spot.rung


def signature(number: int, token: str) -> str:
    """What the engine writes as its version: which attempt it ran for, under which token."""
    return f"storm {number}.{token}"


def _draw(*parts: object) -> float:
    """A number in [0, 1) that follows from the parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2.0**48
