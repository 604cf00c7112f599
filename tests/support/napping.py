"""An engine that sleeps in tblite's place, for what is about time and not about chemistry.

``NAP_SECONDS`` in the environment of the jobs says how long (1 s unless set; 0: it does nothing).
"""

import os
from collections.abc import Mapping
from typing import Any

from qfarm.engines import engine
from qfarm.engines.base import Command, Engine, Exit, Job
from qfarm_schemas.attempt import Failure
from qfarm_schemas.result import Result
from support import build

SECONDS = "NAP_SECONDS"


class Napping:
    """tblite, but that nothing is computed; every result passes the verdict."""

    def __init__(self, real: Engine) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self, job: Job) -> Mapping[str, str]:
        return {}

    def run(self, job: Job) -> Command:
        seconds = os.environ.get(SECONDS, "1")
        return Command(("sleep", seconds) if float(seconds) else ("true",))

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
        fragment = job.fragment
        forces = [[0.0, 0.0, 0.0]] * fragment.n_atoms
        return build.result(
            numbers=fragment.numbers,
            positions=fragment.positions,
            forces=forces,
            energy_parts={"GFN2-xTB": -2077.5},
            hirshfeld_ratios=None,
        )


def look_up(name: str) -> Engine:
    """Find an engine as `qfarm.engines.engine` does."""
    found = engine(name)
    return Napping(found) if name == "tblite" else found
