"""What starting, watching and ending an attempt's process costs.

Run ``OMP_NUM_THREADS=1 PYTHONPATH=$PWD/tests python tests/bench/process_overhead.py``; prints
the median and the slowest of 200 attempts that do nothing.
"""

import statistics
import tempfile
import time
from pathlib import Path
from threading import Event

from qfarm.engines.base import PythonCall
from qfarm_workers.process import EngineProcess, Limits

ATTEMPTS = 200


def main() -> None:
    """Measure and print."""
    nothing, limits = PythonCall("support.programs", "nothing"), Limits(60.0, 4000)
    seconds = []
    with tempfile.TemporaryDirectory() as folder, EngineProcess(Path(folder), threads=1) as process:
        process.run(nothing, Path(folder), limits, Event())  # starts the supervisor
        for _ in range(ATTEMPTS):
            began = time.perf_counter()
            ended = process.run(nothing, Path(folder), limits, Event())
            seconds.append(time.perf_counter() - began)
            assert ended.code == 0, ended
    median, slowest = 1000 * statistics.median(seconds), 1000 * max(seconds)
    print(f"{ATTEMPTS} attempts: median {median:.1f} ms, slowest {slowest:.1f} ms")


if __name__ == "__main__":
    main()
