"""Wish: which ready stages a worker asks the queue for. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

SIGHT = 400
"""Ready stages that a claim looks through at first for one that fits."""


@dataclass(frozen=True)
class Ahead:
    """A ready stage as it is seen before it is claimed.

    Attributes
    ----------
    stage : str
        Name of the stage.
    level_id : str
        Level of theory that it asks for.
    formula : str
        Hill formula of the fragment, without its charge.
    n_atoms : int
        Its size.
    partition : str or None
        Partition that must run it.
    attempts : int
        Attempts committed so far.
    """

    stage: str
    level_id: str
    formula: str
    n_atoms: int
    partition: str | None = None
    attempts: int = 0


@dataclass(frozen=True)
class Wish:
    """What a worker may take; every condition that is given must hold.

    Attributes
    ----------
    partitions : tuple of str
        Whose stages it may take besides those of no partition; empty: the worker's own.
    stages : tuple of str
        Names of stages; empty: all.
    levels : frozenset of str or None
        Ids of levels of theory; None: all.
    elsewhere : str
        Host whose last node failures are left for other hosts; empty: nothing is.
    outgrown : str
        Partition that leaves to others the stages it has proved too narrow for; empty: it does not.
    fits : callable or None
        Whether the worker can do it, judged from what is seen before the claim.
    sight : int
        How many ready stages are looked through for one that fits; beyond them nothing is claimed.
    skip : int
        How many of the first are left out, because they were looked through before.
    """

    partitions: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    levels: frozenset[str] | None = None
    elsewhere: str = ""
    outgrown: str = ""
    fits: Callable[[Ahead], bool] | None = None
    sight: int = SIGHT
    skip: int = 0


ANYTHING = Wish()
"""What a worker asks for who can do everything."""
