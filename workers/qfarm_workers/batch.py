"""Batch: how many stages a worker claims at once, and which of them it may attempt. Pure."""

from collections.abc import Sequence
from typing import Final

from qfarm.store.protocol import Claim
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind

SECONDS: Final = 2.0
"""s: how long the attempts of a batch shall take together, and the oldest that is not committed
may be. A worker that is killed loses no more, and others wait no longer for what it holds."""

SHORT: Final = 0.5
"""s: attempts that take longer are claimed one by one; the database has time for them."""

MOST: Final = 16
"""Claims of a batch."""

REMEMBERED: Final = 8
"""Attempts of late that tell how long the next will take."""

PATIENCE: Final = 2 * SECONDS
"""s: after which what has not begun is given back, because the attempts were longer than thought.
It is shorter than a lease by far, so nothing prolongs the leases of claims that wait."""


def size(recent: Sequence[float]) -> int:
    """How many stages to claim.

    The mean tells, and not the median: where long stages follow short ones, a worker that
    expected short ones would claim a lot and give most of it back.

    Parameters
    ----------
    recent : sequence of float
        Seconds that this worker's last attempts took.
    """
    if not recent:
        return 1
    mean = sum(recent) / len(recent)
    if mean > SHORT:
        return 1
    return int(SECONDS / max(mean, SECONDS / MOST))


def patience(heartbeat: float) -> float:
    """Seconds from the claim of a batch on, after which what waits is given back.

    The first sign of life of an attempt in a batch comes no later than that.
    """
    return min(PATIENCE, heartbeat)


def lost_its_worker(claim: Claim) -> bool:
    """Whether the worker that made the attempt before was lost; the stage may be why."""
    if not claim.history:
        return False
    last = claim.history[-1].outcome
    return isinstance(last, Failure) and last.kind is FailureKind.LOST_WORKER


def company(claims: Sequence[Claim]) -> int:
    """How many of the claims, from the first on, may be attempted in one batch.

    A stage whose worker was lost is alone: if it kills each of its workers, it takes no other
    stage with it again and again, until their budgets are used up, too.
    """
    suspects = (number for number, claim in enumerate(claims) if lost_its_worker(claim))
    return max(1, next(suspects, len(claims)))
