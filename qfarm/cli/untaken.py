"""Untaken: ready stages that no partition takes, and why, as `qfarm status` tells."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from qfarm.routing import Waiting, takers, unserved
from qfarm.store.fleet import Fleet, Standing
from qfarm.store.wish import Wish
from qfarm_schemas.config import Partition
from qfarm_workers.identity import gone, launched

MOST: Final = 1_000_000
"""Stages that are counted."""


def untaken(fleet: Fleet, partitions: Sequence[Partition]) -> tuple[str, ...]:
    """Ready stages that no partition can take now, why, and what to do; a line each.

    Stages that a partition of another cluster may take, which `partitions` does not know, are left
    out.
    """
    standings = fleet.standings()
    refused = {one.name: one.refused for one in standings if refuses(one)}
    closed = {one.name for one in standings if one.gate.closed}.union(refused)
    own = {one.name for one in partitions}
    elsewhere = {one.name for one in standings if _looked_after(one)} - own
    found = (
        replace(kind, count=_ready(fleet, kind, frozenset(levels)))
        for kind, levels in _kinds(fleet).items()
        if not takers(kind, partitions, closed)
        if not (elsewhere if kind.partition is None else kind.partition in elsewhere)
    )
    return unserved(found, partitions, closed, refused)


def refuses(standing: Standing) -> bool:
    """Whether a partition that no user closed can do no work now, as its living launcher says."""
    return bool(standing.refused) and not standing.gate.closed and launched(standing)


def _looked_after(standing: Standing) -> bool:
    """Whether its launcher lives, or did within a day: a cluster may be down for maintenance.

    One of this machine that has ended does not count: its partition may have got another name.
    """
    dead = standing.launcher is not None and gone(standing.launcher)
    return (standing.alive or standing.lately) and not dead


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
