"""What the store can do, beside plain pymongo, FireWorks and jobflow-remote on the same server.

Run ``OMP_NUM_THREADS=1 PYTHONPATH=$PWD/tests python tests/bench/store.py [--quick | --full]``. It
starts a mongod of its own in a temporary folder and ends it. Figures are medians (smallest to
largest, number) of repeats done in turn, so that ratios hold on a noisy machine.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from bench.store_bench import (
    against_jobflow,
    commands,
    cycles,
    large,
    latency,
    submit,
    wishes,
)
from bench.store_bench.farm import Bench, Scale, mongo
from bench.store_bench.figures import Report
from qfarm.store import server

QUIET = 0.25
"""Load a core beyond which others disturb the figures."""

PARTS: Mapping[str, Callable[[Bench], None]] = {
    "commands": commands.measure,
    "submit": submit.measure,
    "cycles": cycles.measure,
    "wishes": wishes.measure,
    "latency": latency.measure,
    "large": large.measure,
    "jobflow": against_jobflow.measure,
}

QUICK = Scale((200, 1_000), 3, 0.7, (1_000, 5_000), 100, 500, 20, 10)
NORMAL = Scale((1_000, 10_000), 5, 2.0, (1_000, 10_000, 100_000), 200, 10_000, 100, 20)
FULL = Scale((1_000, 10_000), 5, 2.0, (1_000, 10_000, 100_000, 1_000_000), 200, 10_000, 100, 20)


def main() -> None:
    """Measure and print."""
    asked = arguments()
    scale = QUICK if asked.quick else FULL if asked.full else NORMAL
    report, began = Report(), perf_counter()
    with tempfile.TemporaryDirectory(prefix="qfarm-bench-", dir=asked.folder) as name:
        folder = Path(name)
        tempfile.tempdir = name  # what FireWorks' rockets leave goes with the rest
        os.environ["TMPDIR"] = name
        try:
            uri = server.up(folder / "mongo").uri
            bench = Bench(uri, folder, scale, report, asked.jobflow_python)
            head(bench)
            for part in asked.only or PARTS:
                PARTS[part](bench)
        finally:
            server.down(folder / "mongo", force=True)
    report.end()
    report.say(f"\n{perf_counter() - began:.0f} s in all")


def arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="all of it small, 2 to 3 minutes")
    size.add_argument("--full", action="store_true", help="with a million ready stages, 20 minutes")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part; repeatable")
    parser.add_argument("--jobflow-python", help="Python that has jobflow-remote")
    parser.add_argument("--folder", help="where the server's data go; the fill needs 10 GB")
    return parser.parse_args()


def head(bench: Bench) -> None:
    """Say where the figures come from."""
    with mongo(bench.uri, "admin") as admin:
        mongod = admin.command("buildInfo")["version"]
    load = os.getloadavg()[0]
    versions = f"pymongo {version('pymongo')}, FireWorks {version('fireworks')}"
    cores = len(os.sched_getaffinity(0))
    bench.report.say(
        f"mongod {mongod}, one-node replica set, majority writes; {versions}; Python "
        f"{platform.python_version()}; {cores} cores, load {load:.1f} before"
    )
    if load > QUIET * cores:
        bench.report.say("NOT QUIET: others use this machine, so these figures are preliminary")


if __name__ == "__main__":
    main()
