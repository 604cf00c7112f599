"""What a launcher takes that keeps 200 workers busy, and what each of them takes.

Run ``PYTHONPATH=$PWD/tests python tests/bench/launcher.py [--jobs 10] [--slots 20] [--nap 4]``. It
starts a mongod of its own, fills a queue of 100,000 fragments, and launches jobs of this machine
whose engine sleeps (`support.napping`; ``--nap 0``: does nothing, so that the workers saturate the
machine). When all workers are at work it looks at the launcher for two minutes: processor time of
it and of the commands it started, memory, commands sent to MongoDB; then at the memory of the
workers, what they share counted once.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil

from bench.store_bench.farm import mongo
from bench.store_bench.figures import Report
from bench.store_bench.molecule import GFN2, fragment
from qfarm.plan import Plan, workflow_key
from qfarm.store import open_store, server
from qfarm.store.fleet import Gate
from qfarm.store.protocol import Store
from qfarm_schemas.config import Stage, TaskKind
from support.napping import SECONDS
from support.wait import until

PARTITION = "bench"
DATABASE = "bench"
BLOCK = 1_000
"""Fragments in one call of `Store.add`."""

LOOK = 5.0
"""s: between two looks at the launcher."""

MOST_CPU = 0.05
"""Cores that the launcher may take: the goal."""

MOST_MB = 300.0
"""MB that it may take: the goal."""

CONFIG = """\
keep_scratch = "never"
[mongo]
uri_file = "mongo.uri"
database = "{database}"
[[partitions]]
name = "{partition}"
scheduler = "local"
slots = {slots}
memory_mb = 500
max_jobs = {jobs}
submit_per_minute = 600
{walltime}
"""


@dataclass(frozen=True)
class Look:
    """The launcher at one moment.

    Attributes
    ----------
    at : float
        When, s.
    cpu : float
        Processor time of it and of the commands that it waited for, s.
    rss, pss : float
        Memory, MB.
    own, all : Counter
        Commands by name: those it sent to MongoDB, those that MongoDB got.
    done : int
        Stages done.
    """

    at: float
    cpu: float
    rss: float
    pss: float
    own: Counter[str]
    all: Counter[str]
    done: int


@dataclass(frozen=True)
class Bench:
    """A farm and its launcher.

    Attributes
    ----------
    folder : Path
        Of ``qfarm.toml``.
    uri : str
        Of its MongoDB.
    store : Store
        Its database.
    asked : Namespace
        What the command line says.
    report : Report
        Gets the figures.
    """

    folder: Path
    uri: str
    store: Store
    asked: argparse.Namespace
    report: Report

    @property
    def workers(self) -> int:
        """Slots of all jobs."""
        return int(self.asked.jobs * self.asked.slots)

    @property
    def counts(self) -> Path:
        """Where the launcher counts its commands."""
        return self.folder / "counts.json"


def main() -> None:
    """Measure and print."""
    asked, report = arguments(), Report()
    with tempfile.TemporaryDirectory(prefix="qfarm-bench-", dir=asked.folder) as name:
        folder = Path(name)
        try:
            uri = server.up(folder / "mongo").uri
            with open_store(uri, DATABASE) as store:
                bench = Bench(folder, uri, store, asked, report)
                prepare(bench)
                with launcher(bench) as process:
                    begin(bench)
                    measure(bench, psutil.Process(process.pid))
                    workers(bench)
        finally:
            server.down(folder / "mongo", force=True)
    report.end()


def arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--slots", type=int, default=20, help="of each job")
    parser.add_argument("--nap", type=float, default=4.0, help="s that an attempt takes")
    parser.add_argument("--walltime", help="of a job, as in qfarm.toml; none unless told")
    parser.add_argument("--fragments", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=120.0, help="of measurement")
    parser.add_argument("--settle", type=float, default=40.0, help="s before it")
    parser.add_argument("--folder", help="where the farm goes")
    return parser.parse_args()


def prepare(bench: Bench) -> None:
    """Write the configuration and fill the queue."""
    asked = bench.asked
    walltime = f'walltime = "{asked.walltime}"' if asked.walltime else ""
    facts = {"database": DATABASE, "partition": PARTITION, "walltime": walltime}
    text = CONFIG.format(slots=asked.slots, jobs=asked.jobs, **facts)
    (bench.folder / "qfarm.toml").write_text(text)
    address = bench.folder / "mongo.uri"
    address.touch(0o600)
    address.write_text(bench.uri)
    stage = Stage(name="single_point", task=TaskKind.SINGLE_POINT, level=GFN2, time_limit=600.0)
    for start in range(0, asked.fragments, BLOCK):
        made = (fragment(index) for index in range(start, min(start + BLOCK, asked.fragments)))
        bench.store.add([Plan(workflow_key(one, (stage,)), one, (stage,)) for one in made])
    bench.report.say(
        f"{asked.jobs} jobs of {asked.slots} slots, {asked.fragments:,} fragments of "
        f"{asked.nap:g} s; load {os.getloadavg()[0]:.1f} before"
    )


@contextmanager
def launcher(bench: Bench) -> Iterator[subprocess.Popen[bytes]]:
    """Launch, as a user would, in a process of its own; at the end all jobs are ended."""
    tests = str(Path(__file__).parents[1])
    settings = {"PYTHONPATH": tests, SECONDS: f"{bench.asked.nap:g}", "OMP_NUM_THREADS": "1"}
    with (bench.folder / "launcher.err").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.nap_launch", str(bench.counts), PARTITION],
            cwd=bench.folder,
            env=os.environ | settings,
            stderr=said,
        )
    try:
        yield process
    finally:
        print((bench.folder / "launcher.err").read_text(), end="")
        jobs = [psutil.Process(pid) for pid in pids(bench)]
        bench.store.fleet.ask(PARTITION, Gate.STOPPING)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        for job in jobs:
            with suppress(psutil.Error, ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


def pids(bench: Bench) -> list[int]:
    """Process ids of the jobs."""
    ids = [note.scheduler_id for note in bench.store.fleet.jobs(PARTITION) if note.scheduler_id]
    return [int(one.partition(".")[0]) for one in ids if psutil.pid_exists(int(one.split(".")[0]))]


def begin(bench: Bench) -> None:
    """Wait until all workers are there."""
    began = time.monotonic()

    def full() -> bool:
        time.sleep(1.0)
        return sum(note.busy for note in bench.store.fleet.jobs(PARTITION)) >= bench.workers

    until(full, 600)
    bench.report.figure("all workers are there after", [time.monotonic() - began], "s")
    time.sleep(bench.asked.settle)


def look(bench: Bench, process: psutil.Process) -> Look:
    """Look once."""
    times, memory = process.cpu_times(), process.memory_full_info()
    with mongo(bench.uri, DATABASE) as database:
        status = database.command("serverStatus")
        done = database["records"].estimated_document_count()
    commands = {k: v for k, v in status["opcounters"].items() if k not in ("deprecated",)}
    return Look(
        time.monotonic(),
        times.user + times.system + times.children_user + times.children_system,
        memory.rss / 2**20,
        memory.pss / 2**20,
        Counter(json.loads(bench.counts.read_text())),
        Counter(commands),
        done,
    )


def measure(bench: Bench, process: psutil.Process) -> None:
    """Look at the launcher again and again."""
    looks = [look(bench, process)]
    while looks[-1].at - looks[0].at < bench.asked.seconds:
        time.sleep(LOOK)
        looks.append(look(bench, process))
    report, first, last = bench.report, looks[0], looks[-1]
    seconds = last.at - first.at
    each = [(b.cpu - a.cpu) / (b.at - a.at) for a, b in pairwise(looks)]
    share = (last.cpu - first.cpu) / seconds
    report.section(f"the launcher, {seconds:.0f} s")
    report.figure("processor time of the launcher", [100 * one for one in each], "% of a core")
    report.figure("  all in all", [100 * share], "% of a core")
    report.figure("resident memory", [one.rss for one in looks], "MB")
    report.figure("proportional memory", [one.pss for one in looks], "MB")
    own, every = last.own - first.own, last.all - first.all
    report.figure("commands of the launcher", [own.total() / seconds], "/s", _by_name(own))
    report.figure("operations of MongoDB", [every.total() / seconds], "/s", _by_name(every))
    report.figure("stages done", [(last.done - first.done) / seconds], "/s")
    busy = sum(note.busy for note in bench.store.fleet.jobs(PARTITION))
    report.fact("workers", f"{busy}, {len(bench.store.running())} claims")
    report.goal("cores of the launcher", share, MOST_CPU, at_most=True)
    report.goal("MB of the launcher", max(one.rss for one in looks), MOST_MB, at_most=True)


def _by_name(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.most_common(5))


def workers(bench: Bench) -> None:
    """Memory of what one job is made of."""
    kinds: dict[str, list[tuple[float, float]]] = {}
    for pid in pids(bench)[:3]:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with suppress(psutil.Error):
                memory = process.memory_full_info()
                kinds.setdefault(_kind(process), []).append((memory.rss, memory.pss))
    report, jobs = bench.report, len(kinds["job"])
    report.section("workers")
    for note in bench.store.fleet.jobs(PARTITION, ended=True):
        if note.ended is not None:
            report.fact(f"job {note.name} has ended", note.why or "it found nothing to do")
    for kind, found in sorted(kinds.items()):
        rss, pss = (median(values) / 2**20 for values in zip(*found, strict=True))
        of_job = sum(one[1] for one in found) / 2**20 / jobs
        text = f"RSS {rss:.1f} MB, PSS {pss:.1f} MB each; {len(found) / jobs:.1f} a job"
        report.fact(f"{kind}", f"{text}, PSS {of_job:.0f} MB a job")
    whole = sum(one[1] for found in kinds.values() for one in found) / 2**20 / jobs
    report.figure("PSS of a job", [whole], "MB", f"{whole / bench.asked.slots:.1f} MB a worker")


def _kind(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    names = {
        "qfarm_workers.supervisor": "supervisor",
        "forkserver": "slot or what forks it",
        "support.nap_job": "job",
        "resource_tracker": "resource tracker",
    }
    return next((name for mark, name in names.items() if mark in words), process.name())


if __name__ == "__main__":
    main()
