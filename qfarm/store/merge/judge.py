"""Judge: what becomes of each stage of a workflow that both farms know. Pure.

A stage begins at the geometry that the one before it accepted. So a record of theirs may follow
only records that are theirs too, or that have the same geometry.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from qfarm.store.protocol import StageState
from qfarm_schemas.arrays import Vectors
from qfarm_schemas.base import Model
from qfarm_schemas.fragment import QUANTUM


class Numbers(Model):
    """The part of a record's result that two farms are compared by: eV, A, eV/A."""

    energy: float
    positions: Vectors
    forces: Vectors


class Difference(NamedTuple):
    """How far two records of one stage are apart, in absolute values.

    Attributes
    ----------
    energy : float
        Of the energies, eV.
    force : float
        Largest of the components of the forces, eV/A.
    shift : float
        Largest of the coordinates, A.
    """

    energy: float
    force: float
    shift: float


class Kind(StrEnum):
    """What becomes of a stage."""

    SAME = "same"
    """Both have the same record."""
    DIFFERENT = "different"
    """Both have a record, and not the same: ours stays."""
    OURS = "ours"
    """Only ours is done."""
    OPEN = "open"
    """Neither is done: nothing changes."""
    ADOPTED = "adopted"
    """Theirs is done, ours is not: their record is adopted."""
    RUNNING = "running"
    """Theirs is done, but ours, or one before it, runs: left alone."""
    APART = "apart"
    """Theirs is done, but from another geometry than ours begins at: left alone."""


class Ours(NamedTuple):
    """A stage as it stands here.

    Attributes
    ----------
    state : StageState
        Its state.
    done : bool
        Whether it has a record.
    difference : Difference or None
        From their record, if both have one and not the same.
    """

    state: StageState
    done: bool
    difference: Difference | None = None


class Judgement(NamedTuple):
    """What becomes of one stage, and how far the two records of it are apart."""

    kind: Kind
    difference: Difference | None = None


def judge(ours: Sequence[Ours], theirs: Sequence[bool]) -> tuple[Judgement, ...]:
    """Judge all stages of a workflow in order.

    Parameters
    ----------
    ours : sequence of Ours
        The stages here.
    theirs : sequence of bool
        Whether each is done there.
    """
    return tuple(_judgements(ours, theirs))


def difference(mine: Numbers, their: Numbers) -> Difference:
    """How far two results are apart; infinitely if they are of other atoms."""
    if mine.positions.shape != their.positions.shape or mine.forces.shape != their.forces.shape:
        return Difference(abs(mine.energy - their.energy), np.inf, np.inf)
    return Difference(
        abs(mine.energy - their.energy),
        float(np.abs(mine.forces - their.forces).max(initial=0.0)),
        float(np.abs(mine.positions - their.positions).max(initial=0.0)),
    )


def _judgements(ours: Sequence[Ours], theirs: Sequence[bool]) -> Iterator[Judgement]:
    blocked: Kind | None = None  # why no later record of theirs can be adopted
    for mine, done in zip(ours, theirs, strict=True):
        if not done:
            yield Judgement(Kind.OURS if mine.done else Kind.OPEN)
        elif mine.done:
            kind = Kind.SAME if mine.difference is None else Kind.DIFFERENT
            if mine.difference is not None and not mine.difference.shift < QUANTUM:
                blocked = blocked or Kind.APART
            yield Judgement(kind, mine.difference)
        else:
            if mine.state in _BUSY:
                blocked = blocked or Kind.RUNNING
            yield Judgement(blocked or Kind.ADOPTED)


_BUSY: Final = frozenset({StageState.RUNNING})
