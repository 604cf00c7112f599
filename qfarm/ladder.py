"""The ladder: from the stored history of a stage to what happens next. Pure.

The decision needs the history alone, because a killed process returns nothing. A ladder changes
convergence aids only; thresholds and level of theory stay, except that above 350 atoms a failed
attempt at the level's basis tier may go on at a smaller one (`Policy.basis_above_350`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from qfarm_schemas.attempt import Attempt, Failure, Rung, Success
from qfarm_schemas.config import Stage
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import BasisTier, LevelOfTheory

_SIDES: Final = ("scf", "geometry", "overlap", "memory")
"""Names of the tuples of `Ladder`, and of the fields of `Rung` that stand on them."""

LARGE: Final = 350
"""Atoms above which the basis may fall back; QCell runs larger fragments at `intermediate`."""

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Aid:
    """A named set of settings; `deviation` says what a record made with them departs in."""

    name: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    deviation: str = ""


@dataclass(frozen=True)
class Ladder:
    """Aids of one engine, mildest first.

    Attributes
    ----------
    scf : tuple of Aid
        Against an SCF that does not converge.
    geometry : tuple of Aid
        Against an optimisation that does not converge.
    overlap : tuple of Aid
        Against an ill-conditioned overlap matrix.
    memory : tuple of Aid
        Against a lack of memory; climbed only by attempts of more than one MPI rank.
    """

    scf: tuple[Aid, ...] = ()
    geometry: tuple[Aid, ...] = ()
    overlap: tuple[Aid, ...] = ()
    memory: tuple[Aid, ...] = ()


@dataclass(frozen=True)
class Done:
    """The last attempt was accepted."""


@dataclass(frozen=True)
class Retry:
    """Run the stage on this rung."""

    rung: Rung


@dataclass(frozen=True)
class GiveUp:
    """No rung or no budget is left."""

    reason: str
    remedy: str = ""


Decision = Done | Retry | GiveUp

_SCF: Final = frozenset(
    {
        FailureKind.SCF_NOT_CONVERGED,
        FailureKind.THRESHOLD_MISSED,
        FailureKind.UNSTABLE_SOLUTION,
        FailureKind.START_UP,
    }
)
_CLIMB: Final[Mapping[FailureKind, str]] = MappingProxyType(
    dict.fromkeys(_SCF, "scf")
    | {
        FailureKind.GEOMETRY_NOT_CONVERGED: "geometry",
        FailureKind.ILL_CONDITIONED: "overlap",
        FailureKind.OUT_OF_MEMORY: "memory",
    }
)
"""Which of a ladder's tuples a failure climbs."""

_HOPELESS: Final = frozenset(
    {FailureKind.BAD_GEOMETRY, FailureKind.NO_GAP, FailureKind.METHOD_FAILED}
)
_TOO_LARGE: Final = frozenset({FailureKind.OUT_OF_MEMORY, FailureKind.TIME_LIMIT})
_BASIS_FAILED: Final = (_SCF - {FailureKind.START_UP}) | _TOO_LARGE | {FailureKind.ILL_CONDITIONED}

ROOM: Final = "partitions with more"
"""In the evidence of a failure that met a limit of its partition: which others have more."""

RESUMABLE: Final = frozenset(
    {
        FailureKind.SCF_NOT_CONVERGED,
        FailureKind.THRESHOLD_MISSED,
        FailureKind.START_UP,
        FailureKind.GEOMETRY_NOT_CONVERGED,
        FailureKind.TIME_LIMIT,
        FailureKind.WALLTIME,
        FailureKind.INTERRUPTED,
    }
)
"""Failures after which the density or geometry reached is worth going on from."""


@dataclass(frozen=True)
class _Position:
    scf: int = 0
    geometry: int = 0
    overlap: int = 0
    memory: int = 0
    basis: BasisTier | None = None


def decide(history: Sequence[Attempt], stage: Stage, ladder: Ladder, n_atoms: int) -> Decision:
    """Say what happens after `history`.

    Parameters
    ----------
    history : sequence of Attempt
        All attempts at the stage that count, oldest first; empty before the first.
    stage : Stage
        The stage with its level and budgets.
    ladder : Ladder
        The engine's convergence aids.
    n_atoms : int
        Size of the fragment.

    Returns
    -------
    Done, Retry or GiveUp
    """
    if any(isinstance(attempt.outcome, Success) for attempt in history):
        return Done()
    failures = _failures(history)
    position = _Position()
    for failure in failures:
        moved = _advance(position, failure, stage, ladder, n_atoms)
        if isinstance(moved, GiveUp):
            return moved
        position = moved
    return _over_budget(failures, stage) or Retry(_rung(position, ladder))


def effective_level(level: LevelOfTheory, rung: Rung) -> LevelOfTheory:
    """The level of theory that an attempt on `rung` computes."""
    return level if rung.basis is None else level.model_copy(update={"basis": rung.basis})


def fallback_level(stage: Stage, n_atoms: int) -> LevelOfTheory | None:
    """Level that a failed attempt at a stage may fall back to; None where it may not."""
    tier = stage.policy.basis_above_350
    if n_atoms <= LARGE or stage.level.basis is not BasisTier.TIGHT or tier is None:
        return None
    return stage.level.model_copy(update={"basis": tier})


def settings(aids: tuple[Aid, ...], name: str) -> Mapping[str, Scalar]:
    """Settings of the aid called `name`; empty when the ladder has none."""
    return next((aid.settings for aid in aids if aid.name == name), {})


def deviations(level: LevelOfTheory, rung: Rung, ladder: Ladder) -> tuple[str, ...]:
    """Departures from the protocol that a record made on `rung` must state.

    Parameters
    ----------
    level : LevelOfTheory
        As planned.
    rung : Rung
        Where the accepted attempt stood.
    ladder : Ladder
        The engine's.
    """
    fell = rung.basis is not None and rung.basis is not level.basis
    basis = f"basis {rung.basis} instead of {level.basis} (rung fallback above {LARGE} atoms)"
    aids = (aid for side in _SIDES for aid in getattr(ladder, side) if aid.name == _at(rung, side))
    return ((basis,) if fell else ()) + tuple(aid.deviation for aid in aids if aid.deviation)


def _at(rung: Rung, side: str) -> str:
    name: str = getattr(rung, side)
    return name


def _failures(history: Iterable[Attempt]) -> list[Failure]:
    return [attempt.outcome for attempt in history if isinstance(attempt.outcome, Failure)]


def _advance(
    position: _Position, failure: Failure, stage: Stage, ladder: Ladder, n_atoms: int
) -> _Position | GiveUp:
    if failure.kind in _HOPELESS:
        return GiveUp(failure.cause, failure.remedy)
    if failure.kind in _TOO_LARGE and failure.evidence.get(ROOM):
        return position  # as it was, where there is more
    if failure.kind in _BASIS_FAILED and _may_fall_back(position, stage, n_atoms):
        return _Position(geometry=position.geometry, basis=stage.policy.basis_above_350)
    if failure.kind in _TOO_LARGE and not _has_ranks_to_spare(failure):
        return GiveUp(failure.cause, failure.remedy)  # the same limit would stop it again
    if failure.kind not in _CLIMB:
        return position
    return _climb(position, _CLIMB[failure.kind], failure, ladder)


def _climb(position: _Position, side: str, failure: Failure, ladder: Ladder) -> _Position | GiveUp:
    aids: tuple[Aid, ...] = getattr(ladder, side)
    step = getattr(position, side) + 1
    return replace(position, **{side: step}) if step < len(aids) else _exhausted(aids, failure)


def _has_ranks_to_spare(failure: Failure) -> bool:
    """Whether fewer MPI ranks, each with its own arrays, can do with the memory."""
    ranks = failure.evidence.get("ranks")
    return failure.kind is FailureKind.OUT_OF_MEMORY and isinstance(ranks, int) and ranks > 1


def _may_fall_back(position: _Position, stage: Stage, n_atoms: int) -> bool:
    return position.basis is None and fallback_level(stage, n_atoms) is not None


def _exhausted(aids: tuple[Aid, ...], failure: Failure) -> GiveUp:
    names = ", ".join(aid.name for aid in aids) or "none"
    return GiveUp(f"every rung was tried ({names}); the last said: {failure.cause}", failure.remedy)


def _over_budget(failures: Sequence[Failure], stage: Stage) -> GiveUp | None:
    if not failures:
        return None
    paid = [failure for failure in failures if failure.kind is not FailureKind.INTERRUPTED]
    spent = Counter(failure.kind.budget for failure in paid)
    for budget, count in spent.items():
        if count >= stage.policy.allowed(budget):
            last = next(f for f in reversed(paid) if f.kind.budget is budget)
            return GiveUp(
                f"{count} failures used up the {budget.value} budget; the last: {last.cause}",
                last.remedy,
            )
    return None


def _rung(position: _Position, ladder: Ladder) -> Rung:
    names = {side: _name(getattr(ladder, side), getattr(position, side)) for side in _SIDES}
    return Rung(**names, basis=position.basis)


def _name(aids: tuple[Aid, ...], step: int) -> str:
    return aids[step].name if aids else ""
