"""Files by which engines that are Python libraries take their job and give their result.

The job goes in as ``job.json``; ``result.json`` or ``failure.json`` comes back, written to a
temporary name and renamed, so that a killed child leaves nothing that could pass for a result.
Matrices stand in it as base64 (`qfarm_schemas.arrays`), so every file stays a text: one of 1,500
basis functions takes 12 MB, 0.1 s to write and 0.2 s to read, against 43 MB and 4 s as a list.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from pydantic import JsonValue, ValidationError

from qfarm.engines.base import EngineDefaults, Exit, Job, PythonCall
from qfarm.verdict import LOOK
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.result import Result

JOB: Final = "job.json"
RESULT: Final = "result.json"
FAILURE: Final = "failure.json"

STREAMS: Final = ("stdout.txt", "stderr.txt")

LARGEST: Final = 64_000_000
"""Bytes that ``result.json`` may have: a worker reads no more than 64 MiB of a text."""

TAIL_LINES: Final = 20
"""Lines of output that go into the evidence of a failure."""


class LibraryEngine(EngineDefaults):
    """What engines that are Python libraries share; `module` computes, by its function ``main``."""

    module: ClassVar[str]

    def write(self, job: Job) -> Mapping[str, str]:
        """Input files: the job itself."""
        return write(job)

    def run(self, job: Job) -> PythonCall:
        """What to run in the folder that holds the input."""
        return PythonCall(self.module)

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
        """Read what the child left; never raises."""
        return parse(files, ended)


def write(job: Job) -> dict[str, str]:
    """Input files of `job`."""
    return {JOB: job.model_dump_json()}


def read_job(folder: Path) -> Job:
    """Read the job in the child process."""
    return Job.model_validate_json((folder / JOB).read_text())


def save(folder: Path, outcome: Result | Failure) -> None:
    """Write the outcome in the child process, whole or not at all."""
    name = RESULT if isinstance(outcome, Result) else FAILURE
    temporary = folder / f"{name}.part"
    temporary.write_text(outcome.model_dump_json())
    temporary.rename(folder / name)


def parse(files: Mapping[str, str], ended: Exit) -> Result | Failure:
    """Read what the child left; garbage gives a Failure, never an exception."""
    try:
        if FAILURE in files:
            return Failure.model_validate_json(files[FAILURE])
        if RESULT in files and ended.code == 0:
            return Result.model_validate_json(files[RESULT])
    except ValidationError as error:
        return _bad_output(f"the output cannot be read: {error.errors()[0]['msg']}", files, ended)
    return crashed(files, ended)


def crashed(files: Mapping[str, str], ended: Exit) -> Failure:
    """Failure of a process that ended without saying anything."""
    return Failure(
        kind=FailureKind.CRASHED,
        cause=f"the process {how_ended(ended)} without a result",
        evidence=_evidence(files, ended),
        remedy="Read the last lines of the error output; a missing library or a full disk shows "
        "there.",
    )


def how_ended(ended: Exit) -> str:
    """The exit status in words."""
    if ended.code < 0:
        return f"was ended by signal {-ended.code}"
    return f"ended with exit code {ended.code}"


def _bad_output(cause: str, files: Mapping[str, str], ended: Exit) -> Failure:
    return Failure(
        kind=FailureKind.BAD_OUTPUT,
        cause=cause,
        evidence=_evidence(files, ended),
        remedy=LOOK,
    )


def tails(files: Mapping[str, str]) -> dict[str, JsonValue]:
    """Last lines of the output streams, those that hold any."""
    ends = {name: "\n".join(files.get(name, "").splitlines()[-TAIL_LINES:]) for name in STREAMS}
    return {name: text for name, text in ends.items() if text.strip()}


def _evidence(files: Mapping[str, str], ended: Exit) -> dict[str, JsonValue]:
    return {"exit code": ended.code, **tails(files)}
