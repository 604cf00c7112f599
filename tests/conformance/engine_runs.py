"""Run an engine for a case as a worker would, but without limits, and on the site of the case."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conformance.engine_cases import CASES, WATER, Case
from qfarm import verdict
from qfarm.engines import engine
from qfarm.engines.base import Engine, Exit, Job
from qfarm.ladder import Aid
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.result import Result
from qfarm_workers import restart, scratch
from support.needs import has_gpu
from support.run_engine import SECONDS, Ran, program_of

OURS: Final = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
"""Lets a child process find `support`."""


@dataclass(frozen=True)
class Made(Ran):
    """A run and the folder it was made in."""

    folder: Path


def runnable(name: str) -> Engine:
    """The engine, or what runs in its place where there is no GPU."""
    other = None if has_gpu() else CASES[name].without_gpu
    return other or engine(name)


def make_job(case: Case, task: TaskKind = TaskKind.SINGLE_POINT, **fields: Any) -> Job:
    """A job at the level of the case on its site; of water, if nothing else is said."""
    limits = {name: fields.pop(name) for name in set(fields) & set(Stage.model_fields)}
    stage = Stage(name="stage", task=task, **({"level": case.level, "time_limit": 300} | limits))
    given = {"fragment": WATER, "stage": stage} | fields
    site = given.pop("site", None) or case.site(given["fragment"], stage.level)
    return Job(**given, site=site)


def on_site(case: Case, job: Job) -> Job:
    """The job with what the site of the case gives: recordings have no parameter files."""
    return job.model_copy(update={"site": case.site(job.fragment, job.level)})


def climbed(case: Case, side: str, aid: Aid, task: TaskKind, **fields: Any) -> Job:
    """A job on the rung that has this aid."""
    return make_job(case, task, **{side: dict(aid.settings)}, **fields)


def run(engine: Engine, job: Job, folder: Path, plan: str = "") -> Made:
    """Run in the empty `folder`; `plan` is the file of a double's misbehaviour."""
    folder.mkdir(exist_ok=True)
    scratch.fill(folder, engine.write(job))
    _link(engine, job, folder)
    argv, extra = program_of(engine, job, folder)
    with (folder / "stdout.txt").open("w") as out, (folder / "stderr.txt").open("w") as err:
        code = subprocess.run(
            argv,
            cwd=folder,
            env={**os.environ, **OURS, **extra, **({"DOUBLE_PLAN": plan} if plan else {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=SECONDS,
            check=False,
        ).returncode
    files, ended = scratch.texts(folder), Exit(code)
    return Made(job, files, ended, engine.parse(job, files, ended), folder)


def after(engine: Engine, earlier: Made, job: Job, kind: FailureKind, folder: Path) -> Made:
    """Run with what an earlier attempt, which ended with `kind`, has left."""
    spot = restart.Spot("key", job.level.id, 1)
    kept = restart.Restarts(folder.with_name(f"{folder.name}.kept"))
    kept.save(spot, earlier.folder, engine.restart)
    found = kept.find(restart.Spot(spot.key, spot.level_id, 2), engine.restart)
    folder.mkdir()
    restart.place(found, folder)
    return run(engine, job.model_copy(update={"restart": found.given, "after": kind}), folder)


def _link(engine: Engine, job: Job, folder: Path) -> None:
    """Let the parameter files appear, empty: no double reads them."""
    needed = engine.parameters(job.fragment, job.level)
    if needed.linked:
        (folder / needed.linked).mkdir(exist_ok=True)
        for name in needed.names:
            (folder / needed.linked / name).touch()


def kind_of(job: Job, outcome: Result | Failure) -> FailureKind | None:
    """Kind of failure after the verdict; None for a record."""
    if isinstance(outcome, Result):
        judged = verdict.outcome(verdict.judge(verdict.Subject(outcome, job.stage, job.fragment)))
        return judged.kind if isinstance(judged, Failure) else None
    return outcome.kind
