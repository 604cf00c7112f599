"""An engine for tests: the level's option ``program`` names what of `support.programs` runs."""

from collections.abc import Mapping
from typing import Any

from qfarm.engines import inprocess
from qfarm.engines.base import Command, Engine, EngineDefaults, Exit, Job, PythonCall
from qfarm.errors import NotFoundError
from qfarm.ladder import Aid, Ladder
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result
from support import build


class ProgramEngine(EngineDefaults):
    """Runs programs that behave well or badly."""

    name = "test"
    ladder = Ladder(scf=(Aid("plain"), Aid("damped", {"damping": 0.5})))

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        return None

    def basis_set(self, level: LevelOfTheory) -> str | None:
        return None

    def write(self, job: Job) -> Mapping[str, str]:
        if job.level.options["program"] == "poison-write":
            raise ZeroDivisionError("a poisonous fragment")
        return inprocess.write(job)

    def run(self, job: Job) -> PythonCall | Command:
        program = str(job.level.options["program"])
        if program == "command-missing":
            return Command(("an-executable-that-is-not-there",))
        return PythonCall("support.programs", program)

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
        if job.level.options["program"] == "hello":
            raise KeyError("a poisonous output")
        return inprocess.parse(files, ended)


ENGINE: Engine = ProgramEngine()


def look_up(name: str) -> Engine:
    """Find an engine as `qfarm.engines.engine` does."""
    if name != ENGINE.name:
        raise NotFoundError(f"there is no engine {name!r}", "Engines: test.")
    return ENGINE


def level(program: str, **options: Any) -> LevelOfTheory:
    return LevelOfTheory(
        engine="test", method="none", options={"program": program} | options, basis="tight"
    )


def stage(program: str, *, name: str = "single_point", **fields: Any) -> Stage:
    options = fields.pop("options", {})
    return build.stage(name=name, level=level(program, **options), **fields)
