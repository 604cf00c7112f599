"""A batch job whose engine table has the engines for tests besides the real ones."""

import sys

from qfarm.engines import engine
from qfarm.engines.base import Engine
from qfarm_workers import job
from support import engines, steps


def look_up(name: str) -> Engine:
    """Find an engine for tests, or a real one."""
    return steps.look_up(name) if name in (steps.ENGINE.name, engines.ENGINE.name) else engine(name)


if __name__ == "__main__":
    sys.exit(job.main(engines=look_up))
