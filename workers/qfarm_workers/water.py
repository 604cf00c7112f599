"""Water: a water molecule by an engine, by the very code of an attempt; nothing is committed."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Final

import psutil

from qfarm.config import Farm
from qfarm.engines.base import Engine
from qfarm.sites import Missing
from qfarm.store.protocol import Claim
from qfarm_schemas.attempt import Failure, Outcome
from qfarm_schemas.config import Partition, Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory, Thresholds
from qfarm_workers.attempt import prepare
from qfarm_workers.attempt import run as run_attempt
from qfarm_workers.bench import Bench, Engines, engines_of, places_of
from qfarm_workers.finished import Finished
from qfarm_workers.identity import this_process
from qfarm_workers.prepare import Prepared
from qfarm_workers.process import EngineProcess
from qfarm_workers.scratch import Scratch

WATER: Final = Fragment(
    numbers=[8, 1, 1],
    positions=[[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]],
    source="qfarm doctor",
)
"""Near its equilibrium, A."""

SHORT: Final = 9
"""Characters of a level's id in names of folders."""

SECONDS: Final = 300.0
"""Patience; a water molecule needs seconds, modules and MPI some more."""

_TIERS: Final = list(BasisTier)

_PBE0: Final = {"method": "PBE0", "dispersion": "mbd", "mbd_beta": 0.85}

_PYSCF: Final = (LevelOfTheory(engine="pyscf", basis=BasisTier.INTERMEDIATE, **_PBE0),)

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
    "gpu4pyscf": _PYSCF,
    "pyscf": _PYSCF,
    "tblite": (LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic"),),
}
"""What is tried of an engine when nothing is queued: the first whose parameter files are there."""

Lacks = Callable[[Fragment, LevelOfTheory], Missing | None]
"""Which parameter files a calculation lacks."""


@dataclass(frozen=True)
class Trial:
    """How a water molecule went: verdict, version of the engine, wall time in seconds."""

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


def cheapest(engine: Engine, queued: Iterable[LevelOfTheory], lacks: Lacks) -> LevelOfTheory | None:
    """Level to try: of those queued the one of the smallest basis, else a usual one."""
    own = [level for level in queued if level.engine == engine.name]
    usual = LEVELS.get(engine.name, ())
    ordered = (*sorted(own, key=rank), *usual)
    able = [one for one in ordered if engine.refuse(WATER, one, TaskKind.SINGLE_POINT) is None]
    return next((one for one in able if lacks(WATER, one) is None), next(iter(able), None))


def rank(level: LevelOfTheory) -> tuple[int, str]:
    """What sorts levels by their cost."""
    return _TIERS.index(level.basis), level.id


def run(
    farm: Farm, partition: Partition, engines: Engines, level: LevelOfTheory, scratch: Scratch
) -> Trial:
    """Compute water in a scratch folder of its own, by the path that attempts go.

    Raises
    ------
    OSError
        The folder cannot be made.
    """
    with EngineProcess(scratch.root, partition.threads) as process:
        here = engines_of(farm, partition, engines)
        bench = Bench(process, scratch, partition, here, places_of(farm, partition))
        made = _finished(prepare(claim_of(level, partition), bench), bench).attempt
    return Trial(made.outcome, made.engine_version, made.cost.wall_seconds)


def root_of(above: Path, level: LevelOfTheory) -> Path:
    """Scratch folder of one trial, below a folder of trials."""
    return above / f"{os.getpid()}.{level.engine}.{level.id[:SHORT]}"


def sweep(above: Path) -> None:
    """Remove what trials of dead processes left in a folder of trials, and it when it is empty."""
    for old in above.glob("*.*.*"):
        pid = old.name.partition(".")[0]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):  # others are at work, or there is no folder
        above.rmdir()


def claim_of(level: LevelOfTheory, partition: Partition) -> Claim:
    """The right to compute water, which no store has given."""
    stage = Stage(
        name="selftest",
        task=TaskKind.SINGLE_POINT,
        level=level,
        time_limit=SECONDS,
        memory_mb=partition.memory_mb,
    )
    return Claim(
        key=f"selftest.{stage.name}",
        workflow="selftest",
        submitted=WATER,
        start=WATER,
        stage=stage,
        history=(),
        number=1,
        token=level.id[:SHORT],
        worker=this_process("selftest", partition.name),
        claimed=datetime.now(UTC),
    )


def _finished(ready: Prepared | Finished, bench: Bench) -> Finished:
    """Make the attempt, if it can start; nothing is committed."""
    made = run_attempt(ready, bench, Event()) if isinstance(ready, Prepared) else ready
    if made is None:
        raise RuntimeError("an attempt that nobody asked to stop was stopped")
    return made
