"""Trial: a water molecule by an engine, by the very code that a worker runs."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Final

import psutil

from qfarm.config import Farm
from qfarm.engines.base import Engine
from qfarm.sites import Missing
from qfarm.store.protocol import Claim, Need
from qfarm_schemas.attempt import Failure, Outcome
from qfarm_schemas.config import Partition, Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory, Thresholds
from qfarm_workers.attempt import prepare
from qfarm_workers.attempt import run as run_attempt
from qfarm_workers.bench import Bench, places_of
from qfarm_workers.finished import Finished
from qfarm_workers.identity import this_process
from qfarm_workers.prepare import Prepared
from qfarm_workers.process import EngineProcess
from qfarm_workers.scratch import Scratch, folder_name

WATER: Final = Fragment(
    numbers=[8, 1, 1],
    positions=[[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]],
    source="qfarm doctor",
)
"""Near its equilibrium, A."""

FOLDER: Final = "doctor"
"""Where trials run, below the farm's scratch folder."""

SHORT: Final = 9
"""Characters of a level's id in names of folders."""

SECONDS: Final = 300.0
"""Patience; a water molecule needs seconds, modules and MPI some more."""

MOST_LEVELS: Final = 4
"""Queued levels of one engine that are tried, those of the smallest basis first."""

_TIERS: Final = list(BasisTier)

_PBE0: Final = {"method": "PBE0", "dispersion": "mbd", "mbd_beta": 0.85}

LEVELS: Final[Mapping[str, tuple[LevelOfTheory, ...]]] = {
    "aims": tuple(
        LevelOfTheory(engine="aims", basis=tier, **_PBE0)
        for tier in (BasisTier.LIGHT, BasisTier.INTERMEDIATE, BasisTier.TIGHT)
    ),
    "dftbplus": (
        LevelOfTheory(
            engine="dftbplus",
            method="DFTB3",
            dispersion="mbd",
            mbd_beta=0.83,
            thresholds=Thresholds(eigenvalues=None, forces=None),
        ),
    ),
    "pyscf": (LevelOfTheory(engine="pyscf", basis=BasisTier.INTERMEDIATE, **_PBE0),),
    "tblite": (LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic"),),
}
"""What is tried of an engine when nothing is queued: the first whose parameter files are there."""


@dataclass(frozen=True)
class Trial:
    """How it ended: version of the engine, wall time in seconds, verdict."""

    outcome: Outcome
    version: str
    seconds: float

    @property
    def away(self) -> bool:
        """Whether the worker found nothing to start; only it keeps the traceback of that."""
        outcome = self.outcome
        if not isinstance(outcome, Failure):
            return False
        return outcome.kind is FailureKind.ENGINE_MISSING and "traceback" in outcome.evidence


def levels(
    engine: Engine,
    needs: Sequence[Need],
    missing: Callable[[Fragment, LevelOfTheory], Missing | None],
) -> tuple[LevelOfTheory, ...]:
    """Levels to try, cheapest first."""
    queued = {need.level.id: need.level for need in needs}
    if queued:
        ordered = sorted(queued.values(), key=lambda level: (_TIERS.index(level.basis), level.id))
        return tuple(ordered[:MOST_LEVELS])
    usual = LEVELS.get(engine.name, ())
    there = (level for level in usual if missing(WATER, level) is None)
    return next(((level,) for level in there), usual[:1])


def run(farm: Farm, engine: Engine, partition: Partition, level: LevelOfTheory) -> Trial:
    """Compute water as a worker of the partition would; nothing is committed.

    The scratch folder of a failure stays until the next doctor's visit, if the farm keeps any.

    Raises
    ------
    OSError
        The scratch folder cannot be made.
    """
    root = farm.scratch / FOLDER / f"{os.getpid()}.{engine.name}.{level.id[:SHORT]}"
    scratch = Scratch(root, "never" if farm.config.keep_scratch == "never" else "failed")
    claim = _claim(level, partition)
    keep = False
    try:
        with EngineProcess(root, partition.threads) as process:
            places = places_of(farm, partition)
            bench = Bench(process, scratch, partition, lambda _: engine, places)
            attempt = _finished(prepare(claim, bench), bench).attempt
        tried = Trial(attempt.outcome, attempt.engine_version, attempt.cost.wall_seconds)
        keep = not tried.away and (root / folder_name(claim)).exists()
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    return tried


def sweep(farm: Farm) -> None:
    """Remove what earlier visits kept, and the folder itself when nothing is left."""
    kept = farm.scratch / FOLDER
    for old in kept.glob("*.*.*"):
        pid = old.name.partition(".")[0]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):  # another doctor is at work, or there is no folder
        kept.rmdir()


def _claim(level: LevelOfTheory, partition: Partition) -> Claim:
    stage = Stage(
        name="doctor",
        task=TaskKind.SINGLE_POINT,
        level=level,
        time_limit=SECONDS,
        memory_mb=partition.memory_mb,
    )
    return Claim(
        key=f"doctor.{stage.name}",
        workflow="doctor",
        submitted=WATER,
        start=WATER,
        stage=stage,
        history=(),
        number=1,
        token=level.id[:SHORT],
        worker=this_process("doctor", partition.name),
        claimed=datetime.now(UTC),
    )


def _finished(ready: Prepared | Finished, bench: Bench) -> Finished:
    """Make the attempt, if it can start."""
    made = run_attempt(ready, bench, Event()) if isinstance(ready, Prepared) else ready
    if made is None:
        raise RuntimeError("an attempt that nobody asked to stop was stopped")
    return made
