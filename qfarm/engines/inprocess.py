"""Files by which engines that are Python libraries take their job and give their result.

The job goes in as ``job.json``; ``result.json`` or ``failure.json`` comes back, written to a
temporary name and renamed, so that a killed child leaves nothing that could pass for a result.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from qfarm.engines.base import Exit, Job
from qfarm_schemas.attempt import Failure, FailureKind
from qfarm_schemas.result import Result

JOB: Final = "job.json"
RESULT: Final = "result.json"
FAILURE: Final = "failure.json"


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
        remedy="Look at the kept scratch folder; if it happens on one host only, mend that host.",
    )


def _evidence(files: Mapping[str, str], ended: Exit) -> dict[str, str | int]:
    tails = {name: "\n".join(files.get(name, "").splitlines()[-20:]) for name in _STREAMS}
    return {"exit code": ended.code, **{name: tail for name, tail in tails.items() if tail}}


_STREAMS: Final = ("stdout.txt", "stderr.txt")
