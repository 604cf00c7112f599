"""The engine of the storm, as the product's workers look it up; it brings fault points along."""

from collections.abc import Mapping
from typing import Final

from chaos import clocks, faultpoints
from chaos.fates import RUNGS, STAGES
from qfarm.engines import inprocess
from qfarm.engines.base import Engine, EngineDefaults, Exit, Job, PythonCall
from qfarm.errors import NotFoundError
from qfarm.ladder import Aid, Ladder
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result
from support.build import GENEROUS

TIME_LIMIT: Final = 600.0
"""s: no process stopped by the storm may run into it, for that would fail the stage for good."""


class StormEngine(EngineDefaults):
    """Runs `chaos.program`, which does what `chaos.fates` says."""

    name = "storm"
    ladder = Ladder(scf=tuple(Aid(name, {"step": step}) for step, name in enumerate(RUNGS)))

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        return None

    def basis_set(self, level: LevelOfTheory) -> str | None:
        return None

    def write(self, job: Job) -> Mapping[str, str]:
        return inprocess.write(job)

    def run(self, job: Job) -> PythonCall:
        return PythonCall("chaos.program", "main")

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
        return inprocess.parse(files, ended)


ENGINE: Engine = StormEngine()


def look_up(name: str) -> Engine:
    """Find this engine as `qfarm.engines.engine` does."""
    if name != ENGINE.name:
        raise NotFoundError(f"there is no engine {name!r}", "Engines: storm.")
    return ENGINE


def stages(partition: str | None = None) -> tuple[Stage, ...]:
    """Both stages: an optimisation, and a single point on the geometry that it gives."""
    level = LevelOfTheory(engine=ENGINE.name, method="none", basis="tight")
    tasks = (TaskKind.OPTIMISATION, TaskKind.SINGLE_POINT)
    return tuple(
        Stage(
            name=name,
            task=task,
            level=level,
            max_force=0.01,
            time_limit=TIME_LIMIT,
            policy=GENEROUS,
            partition=partition,
        )
        for name, task in zip(STAGES, tasks, strict=True)
    )


faultpoints.install()  # before any client is made: in Dask's workers nothing else comes so early
clocks.install()
