"""Run an engine for one job in a plain child process, as a worker would but without limits."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qfarm import verdict
from qfarm.engines.base import Command, Engine, Exit, Job
from qfarm_schemas.attempt import Failure
from qfarm_schemas.result import Result

SECONDS = 240
"""Patience; a water molecule needs a few seconds."""

CALL = (
    "import importlib, pathlib, sys;"
    "getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(pathlib.Path(sys.argv[3]))"
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Ran:
    """A finished run: the job, what the folder held afterwards, what the engine made of it."""

    job: Job
    files: Mapping[str, str]
    ended: Exit
    outcome: Result | Failure


def run(engine: Engine, job: Job, folder: Path) -> Ran:
    """Write the input into the empty `folder`, run the engine there, parse what it left."""
    for name, text in engine.write(job).items():
        (folder / name).write_text(text)
    argv, extra = program_of(engine, job, folder)
    with (folder / "stdout.txt").open("w") as out, (folder / "stderr.txt").open("w") as err:
        code = subprocess.run(
            argv,
            cwd=folder,
            env={**os.environ, **extra},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=SECONDS,
            check=False,
        ).returncode
    files, ended = texts(folder), Exit(code)
    return Ran(job, files, ended, engine.parse(job, files, ended))


def program_of(engine: Engine, job: Job, folder: Path) -> tuple[Sequence[str], Mapping[str, str]]:
    """Command line and additions to the environment."""
    program, threads = engine.run(job), dict.fromkeys(THREADS, str(job.threads))
    if isinstance(program, Command):
        return program.argv, threads | dict(program.environment)
    call = (sys.executable, "-c", CALL, program.module, program.function, str(folder))
    return call, threads


def texts(folder: Path) -> dict[str, str]:
    """Every text file of a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        try:
            found[path.name] = path.read_text()
        except UnicodeDecodeError:
            continue
    return found


def accepted(job: Job, outcome: Result | Failure) -> bool:
    """Whether the verdict would make a record of it."""
    if isinstance(outcome, Failure):
        return False
    checks = verdict.judge(verdict.Subject(outcome, job.stage, job.fragment))
    return all(check.passed for check in checks)
