"""Untaken: ready stages that no partition takes, and why, as `qfarm status` tells."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from qfarm.routing import Waiting, takers, unserved
from qfarm.store.fleet import Fleet
from qfarm.store.wish import Wish
from qfarm_schemas.config import Partition

MOST: Final = 1_000_000
"""Stages that are counted."""


def untaken(fleet: Fleet, partitions: Sequence[Partition]) -> tuple[str, ...]:
    """Ready stages that no partition can take now, why, and what to do; a line each.

    Stages that a partition of another cluster may take, which `partitions` does not know, are left
    out.
    """
    standings = fleet.standings()
    closed = {one.name for one in standings if one.closed}
    elsewhere = {one.name for one in standings} - {one.name for one in partitions}
    found = (
        replace(kind, count=_ready(fleet, kind, frozenset(levels)))
        for kind, levels in _kinds(fleet).items()
        if not takers(kind, partitions, closed)
        if not (elsewhere if kind.partition is None else kind.partition in elsewhere)
    )
    return unserved(found, partitions, closed)


def _kinds(fleet: Fleet) -> dict[Waiting, set[str]]:
    """What was ever submitted, as partitions choose it, with the ids of its levels."""
    kinds: dict[Waiting, set[str]] = defaultdict(set)
    for stage in fleet.stages():
        kinds[Waiting(stage.name, stage.level.engine, stage.partition)].add(stage.level.id)
    return kinds


def _ready(fleet: Fleet, kind: Waiting, levels: frozenset[str]) -> int:
    """How many of them are ready now."""
    wish = Wish(stages=(kind.stage,), levels=levels)
    free = fleet.demand("", wish, MOST, 0).ready  # those that name no partition
    return (
        free if kind.partition is None else fleet.demand(kind.partition, wish, MOST, 0).ready - free
    )
