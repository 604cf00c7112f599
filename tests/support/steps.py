"""An engine for tests that is a program of its own: it takes steps, stops softly and restarts."""

from collections.abc import Mapping
from typing import Any

from qfarm import verdict
from qfarm.engines.base import Command, Engine, EngineDefaults, Exit, Job, Parameters, Restart
from qfarm.engines.launch import launch
from qfarm.errors import NotFoundError
from qfarm.ladder import Aid, Ladder
from qfarm_schemas.attempt import Failure
from qfarm_schemas.check import Check
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result
from support import build, engines

STOP = "stop_now"

SCRIPT = f"""\
read steps obedient < input
reached=$(cat reached.state 2>/dev/null || echo 0)
echo "from $reached"
while [ "$reached" -lt "$steps" ]; do
    sleep 0.1
    reached=$((reached + 1))
    echo "$reached" > part
    mv part reached.state
    echo "step $reached" > note
    if [ "$obedient" = 1 ] && [ -e {STOP} ]; then echo "stopped at $reached"; exit 0; fi
done
echo finished
"""
"""Takes steps of 0.1 s, keeps the number of those done, and heeds the soft-stop file or not."""


class StepEngine(EngineDefaults):
    """Runs `SCRIPT` for the level's option ``steps``; heeds a soft stop if ``obedient``."""

    name = "steps"
    ladder = Ladder(scf=(Aid("plain"), Aid("damped")))
    command = ("sh", "-c", SCRIPT)
    soft_stop = STOP
    restart = Restart(texts=("note",), files=("*.state",))

    def parameters(self, fragment: Fragment, level: LevelOfTheory) -> Parameters:
        return Parameters(linked=str(level.options.get("linked", "")))

    def goes_on(self, job: Job) -> bool:
        return bool(job.restart)

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        return None

    def basis_set(self, level: LevelOfTheory) -> str | None:
        return None

    def write(self, job: Job) -> Mapping[str, str]:
        obedient = int(bool(job.level.options["obedient"]))
        return {"input": f"{job.level.options['steps']} {obedient}\n"}

    def run(self, job: Job) -> Command:
        return launch(job, self.command)

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
        """The program alone cannot tell a stop from an SCF that does not converge."""
        lines = files.get("stdout.txt", "").splitlines()
        checks = (
            _check("exit code", "0", str(ended.code), FailureKind.CRASHED),
            _check("stale files", "none", ", ".join(ended.stale) or "none", FailureKind.BAD_OUTPUT),
            _check("end", "finished", (lines or [""])[-1], FailureKind.SCF_NOT_CONVERGED),
        )
        if not all(check.passed for check in checks):
            return verdict.refused(checks, {"began": lines[0] if lines else ""})
        positions = job.fragment.positions
        geometry = {"numbers": job.fragment.numbers, "positions": positions}
        return build.result(**geometry, checks=checks, engine_version=lines[0])


def _check(name: str, required: str, found: str, kind: FailureKind) -> Check:
    return Check(
        name=name,
        required=required,
        found=found,
        passed=found == required,
        kind=kind,
        remedy="Look.",
    )


ENGINE: Engine = StepEngine()


def look_up(name: str) -> Engine:
    """Find this engine, or the one of `support.engines`."""
    try:
        return ENGINE if name == ENGINE.name else engines.look_up(name)
    except NotFoundError:
        raise NotFoundError(f"there is no engine {name!r}", "Engines: test, steps.") from None


def stage(steps: int, *, obedient: bool = True, name: str = "single_point", **fields: Any) -> Stage:
    options = {"steps": steps, "obedient": obedient} | fields.pop("options", {})
    level = LevelOfTheory(engine=ENGINE.name, method="none", options=options, basis="tight")
    return build.stage(name=name, level=level, **fields)
