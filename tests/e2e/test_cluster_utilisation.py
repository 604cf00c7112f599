"""How much of the time that Slurm gives to jobs is spent by engines, where attempts take a second.

The engine sleeps (`support.napping`): what is measured is what qfarm itself takes, on any machine.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from qfarm.store import open_store
from qfarm.store.protocol import Selection, StageState
from qfarm_schemas.attempt import Attempt
from qfarm_schemas.fragment import Fragment
from support.clusters import ClusterFarm, planned
from support.slurm import Slurm
from support.wait import until

pytestmark = pytest.mark.timeout(300)

FRAGMENTS = 320
SLOTS = 2
WANTED = 0.90

CONFIG = """\
keep_scratch = "never"
[mongo]
uri_file = "mongo.uri"
database = "{database}"
[[partitions]]
name = "cpu"
scheduler = "slurm"
queue = "cpu"
slots = {slots}
memory_mb = 500
walltime = "00:10:00"
max_jobs = 2
submit_per_minute = 60
idle_seconds = 1
[[partitions]]
name = "gpu"
scheduler = "slurm"
queue = "gpu"
gpus = 1
slots = {slots}
memory_mb = 500
walltime = "00:10:00"
max_jobs = 1
submit_per_minute = 60
idle_seconds = 1
"""

PROTOCOL = """\
name = "naps"
[[stages]]
name = "single_point"
task = "single-point"
time_limit = 60.0
[[stages.levels]]
[stages.levels.level]
engine = "tblite"
method = "GFN2-xTB"
dispersion = "intrinsic"
basis = "none"
"""

TIMES = re.compile(r"\bName=(\S+) .*\bStartTime=(\S+) EndTime=(\S+) ")


class Allocated(NamedTuple):
    """A job as Slurm's accounts tell it: name, begin and end, s since the epoch."""

    name: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def allocated(slurm: Slurm) -> dict[str, Allocated]:
    """Jobs that have ended, by name."""
    path = slurm.root / "log" / "jobcomp.txt"
    found = TIMES.findall(path.read_text() if path.exists() else "")
    jobs = (
        Allocated(name, *(datetime.fromisoformat(time).timestamp() for time in (began, ended)))
        for name, began, ended in found
    )
    return {job.name: job for job in jobs}


@pytest.fixture
def farm(mongo_uri: str, database: str, tmp_path: Path, slurm: Slurm) -> Iterator[ClusterFarm]:
    (tmp_path / "qfarm.toml").write_text(CONFIG.format(database=database, slots=SLOTS))
    (tmp_path / "protocol.toml").write_text(PROTOCOL)
    address = tmp_path / "mongo.uri"
    address.touch(0o600)
    address.write_text(mongo_uri)
    slurm.resume()
    slurm.wait_idle()
    with open_store(mongo_uri, database) as store:
        farm = ClusterFarm(tmp_path, store, slurm)
        yield farm
        print(farm.tell())  # pytest shows it where the test failed
    slurm.command("scancel", "--user", str(os.getuid()), check=False)
    slurm.wait_idle()


def test_jobs_spend_their_time_in_engines(farm: ClusterFarm) -> None:
    fragments = [
        Fragment(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 0.6 + 0.001 * index]])
        for index in range(FRAGMENTS)
    ]
    farm.store.add(planned(fragments, farm.root / "protocol.toml"))
    start = (sys.executable, "-m", "support.nap_launch", str(farm.root / "counts.json"))
    with farm.launcher("cpu", "gpu", start=start):
        until(lambda: _states(farm) == {StageState.DONE}, 200)
        until(lambda: not farm.jobs("cpu") and not farm.jobs("gpu"), 60)
    names = [note.name for part in ("cpu", "gpu") for note in farm.jobs(part, ended=True)]
    until(lambda: allocated(farm.slurm).keys() >= set(names), 30)

    made: dict[str, list[Attempt]] = {}
    for record in farm.store.records(Selection()):
        (attempt,) = farm.store.view(record.fragment_id).attempts[record.key]
        made.setdefault(attempt.worker.job, []).append(attempt)
    jobs = [allocated(farm.slurm)[name] for name in names]
    for job in jobs:
        print(_spent(job, made[job.name]))
    engine = sum(one.cost.wall_seconds for of_job in made.values() for one in of_job)
    share = engine / sum(SLOTS * job.seconds for job in jobs)
    print(f"utilisation {share:.3f}")
    assert made.keys() == set(names)
    assert {one.worker.partition for of_job in made.values() for one in of_job} == {"cpu", "gpu"}
    assert sum(map(len, made.values())) == FRAGMENTS <= engine
    assert share >= WANTED


def _spent(job: Allocated, made: Sequence[Attempt]) -> str:
    """Where the time of a job went."""
    first = min(one.started for one in made).timestamp() - job.began
    last = job.ended - max(one.finished for one in made).timestamp()
    engine = sum(one.cost.wall_seconds for one in made)
    between = (SLOTS * (job.seconds - first - last) - engine) / len(made)
    return (
        f"{job.name}: {engine:.1f} s in engines of {SLOTS} x {job.seconds:.0f} s; {first:.1f} s "
        f"before the first attempt, {1000 * between:.0f} ms between two, {last:.1f} s after all"
    )


def _states(farm: ClusterFarm) -> set[StageState]:
    return {count.state for count in farm.store.counts() if count.count}
