"""Trial: a water molecule by an engine, by the very code that a worker runs."""

import shutil
from collections.abc import Callable, Sequence
from typing import Final

from qfarm.config import Farm
from qfarm.engines.base import Engine
from qfarm.sites import Missing
from qfarm.store.protocol import Need
from qfarm_schemas.config import Partition
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_workers import water
from qfarm_workers.scratch import Scratch, folder_name
from qfarm_workers.water import LEVELS, WATER, Trial

__all__ = ["FOLDER", "LEVELS", "MOST_LEVELS", "WATER", "Trial", "levels", "run", "sweep"]

FOLDER: Final = "doctor"
"""Where trials run, below the farm's scratch folder."""

MOST_LEVELS: Final = 4
"""Queued levels of one engine that are tried, those of the smallest basis first."""


def levels(
    engine: Engine,
    needs: Sequence[Need],
    missing: Callable[[Fragment, LevelOfTheory], Missing | None],
) -> tuple[LevelOfTheory, ...]:
    """Levels to try, cheapest first."""
    queued = {need.level.id: need.level for need in needs}
    if queued:
        return tuple(sorted(queued.values(), key=water.rank)[:MOST_LEVELS])
    usual = LEVELS.get(engine.name, ())
    there = (level for level in usual if missing(WATER, level) is None)
    return next(((level,) for level in there), usual[:1])


def run(farm: Farm, engine: Engine, partition: Partition, level: LevelOfTheory) -> Trial:
    """Compute water as a worker of the partition would by `engine`; nothing is committed.

    The scratch folder of a failure stays until the next doctor's visit, if the farm keeps any.

    Raises
    ------
    OSError
        The scratch folder cannot be made.
    """
    root = water.root_of(farm.scratch / FOLDER, level)
    scratch = Scratch(root, "never" if farm.config.keep_scratch == "never" else "failed")
    keep = False
    try:
        tried = water.run(farm, partition, lambda _: engine, level, scratch)
        kept = root / folder_name(water.claim_of(level, partition))
        keep = not tried.away and kept.exists()
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    return tried


def sweep(farm: Farm) -> None:
    """Remove what earlier visits kept, and the folder itself when nothing is left."""
    water.sweep(farm.scratch / FOLDER)
