"""Batch jobs on a real Grid Engine: submitted, refused, cancelled, and told how they ended."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qfarm_launchers.batch import (
    BatchSystem,
    Ending,
    EndingKind,
    QueueState,
    Refused,
    SchedulerAway,
)
from qfarm_launchers.cluster import JobOrder
from qfarm_launchers.schedulers.words import REMEDIES, Limit
from qfarm_schemas.config import Partition
from support.sge import GridEngine
from support.wait import until

STAND_IN = """
import os, sys, time
from pathlib import Path
print("arguments", *sys.argv[1:], sep="|")
for name in ("QFARM_JOB_ID", "NSLOTS", "OMP_NUM_THREADS"):
    print(name, os.environ.get(name, "none"), flush=True)
exec(Path(sys.argv[sys.argv.index("--farm") + 1], "what").read_text())
"""


@pytest.fixture
def farm(tmp_path: Path, grid_engine: GridEngine) -> Iterator[Path]:
    """A farm folder with a space in its path, for jobs that run the stand-in."""
    folder = tmp_path / "my farm"
    folder.mkdir()
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    yield folder
    grid_engine.clear()


def batch(farm: Path, **changes: object) -> BatchSystem:
    settings = {"name": "cpu", "scheduler": "sge", "queue": "all.q", "slots": 1}
    prologue = (f"export PYTHONPATH='{farm.parent}'",)  # Grid Engine hands no environment over
    settings |= {"walltime": "00:05:00", "prologue": prologue}
    return BatchSystem(Partition.model_validate(settings | changes))


def order(farm: Path, what: str = "", name: str = "cpu-1") -> JobOrder:
    (farm / "what").write_text(what)
    return JobOrder(name, farm, farm / "logs", sys.executable, module="stand_in")


def ended(system: BatchSystem, job: str) -> Ending:
    until(lambda: job not in system.queue(), 40)
    until(lambda: system.ending(job), 40)
    ending = system.ending(job)
    assert ending is not None
    return ending


def test_a_job_gets_what_it_must_know_and_its_ending_is_told(farm: Path) -> None:
    system = batch(farm, threads=2, directives=["-pe smp 2"])
    wanted = replace(order(farm, "sys.exit(3)"), exclude=("node1", "node2.example.org"))
    job = system.submit(wanted)
    ending = ended(system, job)
    lines = wanted.log.read_text().splitlines()
    assert str(farm) in lines[0].split("|")
    assert lines[1:] == [f"QFARM_JOB_ID {job}", "NSLOTS 2", "OMP_NUM_THREADS 2"]
    assert (ending.kind, ending.exit_code, ending.host) == (EndingKind.FAILED, 3, "localhost")


def test_a_running_job_is_seen_by_another_launcher_and_cancelled(farm: Path) -> None:
    job = batch(farm).submit(order(farm, "time.sleep(600)"))
    system = batch(farm)
    until(lambda: system.queue()[job].state is QueueState.RUNNING, 30)
    seen = system.queue()[job]
    assert (seen.name, seen.host) == ("cpu-1", "localhost")
    assert system.ending(job) is None
    system.cancel([job])
    assert ended(system, job).kind is EndingKind.CANCELLED
    system.cancel([job, "999999"])  # no error: they are gone


def test_a_job_that_reaches_its_walltime_says_so(farm: Path) -> None:
    system = batch(farm, walltime=3)
    assert ended(system, system.submit(order(farm, "time.sleep(600)"))).kind is EndingKind.TIMEOUT


def test_a_job_whose_hosts_are_all_left_out_waits(farm: Path) -> None:
    system = batch(farm)
    job = system.submit(replace(order(farm), exclude=("localhost",)))
    other = system.submit(order(farm, name="cpu-2"))
    assert ended(system, other).kind is EndingKind.COMPLETED
    assert system.queue()[job].state is QueueState.PENDING


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"queue": "nowhere"}, Limit.QUEUE),
        ({"gpus": 1}, Limit.RESOURCES),
        ({"directives": ["-pe nothing 2"]}, Limit.RESOURCES),
    ],
)
def test_refusals_say_what_grid_engine_says(
    farm: Path, changes: dict[str, object], limit: Limit
) -> None:
    system = batch(farm, **changes)
    with pytest.raises(Refused, match="Unable to run job: ") as caught:
        system.submit(order(farm))
    assert caught.value.remedy == REMEDIES[limit]
    assert system.queue() == {}


def test_a_dead_qmaster_is_never_an_empty_queue(
    farm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGE_QMASTER_PORT", "1")
    system = batch(farm)
    for ask in (system.queue, lambda: system.submit(order(farm)), lambda: system.cancel(["1"])):
        with pytest.raises(SchedulerAway, match="Connection refused"):
            ask()
