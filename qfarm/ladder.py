"""The ladder: from the stored history of a stage to what happens next. Pure.

The decision needs the history alone, because a killed process returns nothing. A ladder changes
convergence aids only; thresholds and level of theory stay, except that above 350 atoms a failed
attempt at the level's basis tier may go on at a smaller one (`Policy.basis_above_350`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from qfarm_schemas.attempt import Attempt, Failure, FailureKind, Rung, Success
from qfarm_schemas.config import Stage
from qfarm_schemas.level import BasisTier, LevelOfTheory

LARGE: Final = 350
"""Atoms above which the basis may fall back; QCell runs larger fragments at `intermediate`."""

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Aid:
    """A named set of convergence settings."""

    name: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Ladder:
    """Convergence aids of one engine, mildest first."""

    scf: tuple[Aid, ...] = ()
    geometry: tuple[Aid, ...] = ()


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
    }
)
_GEOMETRY: Final = frozenset({FailureKind.GEOMETRY_NOT_CONVERGED})
_HOPELESS: Final = frozenset(
    {FailureKind.BAD_GEOMETRY, FailureKind.NO_GAP, FailureKind.METHOD_FAILED}
)
_TOO_LARGE: Final = frozenset({FailureKind.OUT_OF_MEMORY, FailureKind.TIME_LIMIT})


@dataclass(frozen=True)
class _Position:
    scf: int = 0
    geometry: int = 0
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


def settings(aids: tuple[Aid, ...], name: str) -> Mapping[str, Scalar]:
    """Settings of the aid called `name`; empty when the ladder has none."""
    return next((aid.settings for aid in aids if aid.name == name), {})


def _failures(history: Iterable[Attempt]) -> list[Failure]:
    return [attempt.outcome for attempt in history if isinstance(attempt.outcome, Failure)]


def _advance(
    position: _Position, failure: Failure, stage: Stage, ladder: Ladder, n_atoms: int
) -> _Position | GiveUp:
    if failure.kind in _HOPELESS:
        return GiveUp(failure.cause, failure.remedy)
    if failure.kind in _SCF | _TOO_LARGE and _may_fall_back(position, stage, n_atoms):
        return replace(position, scf=0, basis=stage.policy.basis_above_350)
    if failure.kind in _TOO_LARGE:  # the same limit would stop the same work again
        return GiveUp(failure.cause, failure.remedy)
    if failure.kind in _SCF:
        climbed = replace(position, scf=position.scf + 1)
        return climbed if climbed.scf < len(ladder.scf) else _exhausted(ladder.scf, failure)
    if failure.kind in _GEOMETRY:
        climbed = replace(position, geometry=position.geometry + 1)
        at_end = climbed.geometry >= len(ladder.geometry)
        return _exhausted(ladder.geometry, failure) if at_end else climbed
    return position


def _may_fall_back(position: _Position, stage: Stage, n_atoms: int) -> bool:
    fallback = stage.policy.basis_above_350
    tight = stage.level.basis is BasisTier.TIGHT
    return n_atoms > LARGE and tight and fallback is not None and position.basis is None


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
    scf = ladder.scf[position.scf].name if ladder.scf else ""
    geometry = ladder.geometry[position.geometry].name if ladder.geometry else ""
    return Rung(scf=scf, geometry=geometry, basis=position.basis)
