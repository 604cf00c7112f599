"""A batch job whose engines are the real ones, but crash on one node for all but water."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from qfarm.engines import engine
from qfarm.engines.base import Command, Engine, Exit, Job
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind
from qfarm_workers import job

BAD_NODE = "c2"


class Crashing:
    """An engine, but that it crashes for everything that is not water."""

    def __init__(self, real: Engine) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def run(self, job: Job) -> Any:
        if sorted(job.fragment.numbers.tolist()) == [1, 1, 8]:
            return self._real.run(job)
        return Command(("sh", "-c", "kill -SEGV $$"))

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Any:
        if ended.code == -11:
            return Failure(kind=FailureKind.CRASHED, cause="the engine crashed on a bad node")
        return self._real.parse(job, files, ended)


def look_up(name: str) -> Engine:
    found = engine(name)
    bad = os.environ.get("SLURMD_NODENAME") == BAD_NODE
    return Crashing(found) if bad else found  # type: ignore[return-value]


if __name__ == "__main__":
    sys.exit(job.main(engines=look_up))
