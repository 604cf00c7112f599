"""`qfarm launch` on a real Grid Engine: jobs come, go, are taken over, and hand back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfarm.store import open_store
from qfarm.store.fleet import JobState
from qfarm_launchers.batch import BatchSystem
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Partition
from qfarm_schemas.failure import FailureKind
from support import engines, steps, work
from support.clusters import TESTS, LaunchedFarm, kill
from support.launched import START, all_done, attempts, endings, write_farm
from support.sge import GridEngine
from support.wait import until

PARTITION = """\
[[partitions]]
name = "cpu"
scheduler = "sge"
queue = "all.q"
directives = ["-pe smp 2"]
slots = 2
memory_mb = 1000
walltime = "00:08:00"
max_jobs = 1
submit_per_minute = 30
idle_seconds = 3
prologue = ['export PYTHONPATH="{tests}"']
"""
"""Grid Engine hands no environment over."""


@pytest.fixture
def farm(
    mongo_uri: str, database: str, tmp_path: Path, grid_engine: GridEngine
) -> Iterator[LaunchedFarm]:
    write_farm(tmp_path, mongo_uri, database, PARTITION.format(tests=TESTS))
    with open_store(mongo_uri, database) as store:
        farm = LaunchedFarm(tmp_path, store)
        yield farm
        print(farm.tell())  # pytest shows it where the test failed
    grid_engine.clear()


def queue() -> list[str]:
    """Names of jobs in Grid Engine's queue."""
    batch = BatchSystem(Partition(name="cpu", scheduler="sge", queue="all.q"))
    return [job.name for job in batch.queue().values()]


def test_jobs_come_for_what_waits_and_none_stays(farm: LaunchedFarm) -> None:
    plans = work.plans(6, engines.stage("devices", options={"seconds": 0.3}))
    farm.store.add(plans)
    with farm.launcher("cpu", start=START):
        until(lambda: all_done(farm), 60)
        until(lambda: not farm.jobs("cpu"), 40)
        until(lambda: not queue())
        until(lambda: farm.status("cpu")["jobs"] == 0)  # it says what its last look saw
    (job,) = farm.jobs("cpu", ended=True)
    assert (job.attempts, job.why) == (6, "")
    made = [one for plan in plans for one in attempts(farm, plan.fragment.id)]
    assert endings(made) == ["success"] * 6
    assert {one.worker.job for one in made} == {job.name}
    assert {one.environment and one.environment.scheduler_job for one in made} == {job.scheduler_id}


def test_a_job_outlives_its_launcher_and_is_stopped_by_the_next(farm: LaunchedFarm) -> None:
    plans = work.plans(2, steps.stage(5000))
    farm.store.add(plans)
    with farm.launcher("cpu", start=START) as first:
        until(lambda: len(list(farm.store.running())) == 2, 60)
        kill(first)
    (job,) = farm.jobs("cpu")
    with farm.launcher("cpu", start=START) as second:
        assert [note.name for note in farm.jobs("cpu")] == [job.name]
        assert farm.status("cpu")["launcher"].endswith(f":{second.pid}")
        farm.qfarm("launcher", "stop", "cpu")
        assert second.wait(60) == 0
    assert queue() == []
    (ended,) = farm.jobs("cpu", ended=True)
    assert (ended.state, ended.attempts) == (JobState.ENDED, 2)
    assert ended.why == "the batch system, or somebody, told it to end"
    for plan in plans:
        (made,) = attempts(farm, plan.fragment.id)
        assert isinstance(made.outcome, Failure)
        assert made.outcome.kind is FailureKind.INTERRUPTED
        assert "was told to end long before" in made.outcome.cause  # says the worker: notified
    kept = [name for _, _, names in os.walk(farm.root / ".qfarm" / "restart") for name in names]
    assert kept.count("reached.state") == 2
