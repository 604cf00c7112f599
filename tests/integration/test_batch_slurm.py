"""Batch jobs on a real Slurm: submitted, refused, cancelled, lost, and told how they ended."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qfarm_launchers.batch import (
    BatchSystem,
    EndingKind,
    QueueState,
    Refused,
    SchedulerAway,
)
from qfarm_launchers.cluster import JobOrder
from qfarm_launchers.schedulers.words import REMEDIES, Limit
from qfarm_schemas.config import Partition
from support.slurm import Slurm
from support.wait import until

STAND_IN = """
import os, subprocess, sys, time
from pathlib import Path
print("arguments", *sys.argv[1:], sep="|")
for name in ("QFARM_JOB_ID", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_JOB_NUM_NODES"):
    print(name, os.environ.get(name, "none"), flush=True)
what = Path(sys.argv[sys.argv.index("--farm") + 1], "what").read_text()
exec(what)
"""
"""Stands for the worker: says what it was given, then does what the farm's file says."""


@pytest.fixture
def farm(tmp_path: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A farm folder with a space in its path, for jobs that run the stand-in."""
    folder = tmp_path / "my farm"
    folder.mkdir()
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield folder
    slurm.command("scancel", "--user", str(os.getuid()), check=False)
    slurm.resume()
    slurm.wait_idle()


def partition(**changes: object) -> Partition:
    settings = {"name": "cpu", "scheduler": "slurm", "queue": "cpu", "slots": 1, "memory_mb": 100}
    return Partition.model_validate(settings | {"walltime": "00:05:00"} | changes)


def order(farm: Path, what: str = "", name: str = "cpu-1") -> JobOrder:
    (farm / "what").write_text(what)
    return JobOrder(name, farm, farm / "logs", sys.executable, module="stand_in")


def finished(batch: BatchSystem, job: str) -> None:
    until(lambda: job not in batch.queue(), 30)


def test_a_job_gets_what_it_must_know_and_its_ending_is_told(farm: Path) -> None:
    batch = BatchSystem(partition(threads=2))
    wanted = order(farm)
    job = batch.submit(wanted)
    finished(batch, job)
    lines = wanted.log.read_text().splitlines()
    words = lines[0].split("|")
    assert words[words.index("--farm") + 1 :][:5] == [
        str(farm),
        "--partition",
        "cpu",
        "--job",
        "cpu-1",
    ]
    assert abs(int(words[words.index("--began") + 1]) - wanted.log.stat().st_mtime) < 30
    assert lines[1:] == [
        f"QFARM_JOB_ID {job}",
        "CUDA_VISIBLE_DEVICES none",
        "OMP_NUM_THREADS 2",
        "SLURM_JOB_NUM_NODES 1",
    ]
    ending = batch.ending(job)
    assert ending is not None
    assert (ending.kind, ending.exit_code, ending.state) == (EndingKind.COMPLETED, 0, "COMPLETED")
    assert ending.host in {"c1", "c2"}


def test_a_running_job_is_seen_by_another_launcher_and_cancelled(farm: Path) -> None:
    job = BatchSystem(partition()).submit(order(farm, "time.sleep(600)"))
    batch = BatchSystem(partition())
    until(lambda: batch.queue()[job].state is QueueState.RUNNING)
    seen = batch.queue()[job]
    assert seen.name == "cpu-1"
    assert seen.host in {"c1", "c2"}
    assert batch.ending(job) is None
    batch.cancel([job])
    finished(batch, job)
    ending = batch.ending(job)
    assert ending is not None
    assert ending.kind is EndingKind.CANCELLED
    batch.cancel([job, "999999"])  # no error: they are gone


def test_sigterm_reaches_the_job_itself(farm: Path) -> None:
    what = """
import signal
def stop(*_):
    print("in order", flush=True); sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""
    batch = BatchSystem(partition())
    wanted = order(farm, what)
    job = batch.submit(wanted)
    until(lambda: wanted.log.exists() and "ready" in wanted.log.read_text())
    batch.cancel([job])
    finished(batch, job)
    assert "in order" in wanted.log.read_text()


def test_failures_and_dead_nodes_are_told_apart(farm: Path, slurm: Slurm) -> None:
    batch = BatchSystem(partition())
    failed = batch.submit(order(farm, "sys.exit(3)"))
    finished(batch, failed)
    ending = batch.ending(failed)
    assert ending is not None
    assert (ending.kind, ending.exit_code) == (EndingKind.FAILED, 3)
    lost = batch.submit(order(farm, "time.sleep(600)", "cpu-2"))
    until(lambda: batch.queue()[lost].host)
    slurm.node_down(batch.queue()[lost].host)
    finished(batch, lost)
    ending = batch.ending(lost)
    assert ending is not None
    assert ending.kind is EndingKind.NODE_FAILURE  # and it is not queued again


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"queue": "nowhere"}, Limit.QUEUE),
        ({"walltime": "01:00:00"}, Limit.WALLTIME),
        ({"cores": 64}, Limit.RESOURCES),
        ({"gpus": 1}, Limit.RESOURCES),
        ({"job_memory_mb": 900_000}, Limit.RESOURCES),
    ],
)
def test_refusals_say_what_slurm_says(farm: Path, changes: dict[str, object], limit: Limit) -> None:
    batch = BatchSystem(partition(**changes))
    with pytest.raises(Refused, match="sbatch: error: ") as caught:
        batch.submit(order(farm))
    assert caught.value.remedy == REMEDIES[limit]
    assert batch.queue() == {}


def test_excluded_hosts_are_left_out(farm: Path) -> None:
    batch = BatchSystem(partition())
    job = batch.submit(replace(order(farm), exclude=("c1", "no$(such) host")))
    finished(batch, job)
    ending = batch.ending(job)
    assert ending is not None
    assert ending.host == "c2"


def test_hosts_that_slurm_knows_no_more_are_not_left_out(farm: Path) -> None:
    batch = BatchSystem(partition())
    job = batch.submit(replace(order(farm), exclude=("c1", "gone7")))
    finished(batch, job)
    ending = batch.ending(job)
    assert ending is not None
    assert ending.kind is EndingKind.COMPLETED


def test_a_held_job_of_a_strange_name_is_seen_and_hides_no_other(farm: Path, slurm: Slurm) -> None:
    batch = BatchSystem(partition())
    ours = batch.submit(order(farm, "time.sleep(600)"))
    strange = "--job-name=my\x0bown\x85job\nof | two lines"
    said = slurm.command("sbatch", "--hold", "--output=/dev/null", strange, "--wrap=true")
    held = said.split()[-1]
    queue = batch.queue()
    assert sorted(queue) == sorted((ours, held))
    assert queue[held].state is QueueState.OTHER
    assert queue[held].reason == "JobHeldUser"


def test_a_gpu_job_sees_its_gpus(farm: Path) -> None:
    batch = BatchSystem(partition(name="gpu", queue="gpu", gpus=2))
    wanted = order(farm, name="gpu-1")
    job = batch.submit(wanted)
    finished(batch, job)
    assert "CUDA_VISIBLE_DEVICES 0,1" in wanted.log.read_text()


def test_engines_spread_over_two_nodes(farm: Path) -> None:
    engines = {"aims": {"command": "srun -n {ranks} aims.x", "ranks": 4}}
    batch = BatchSystem(partition(nodes=2, engines=engines, job_memory_mb=500))
    what = """subprocess.run(["srun", "-n", "4", "sh", "-c", "echo rank on $SLURMD_NODENAME"])"""
    wanted = order(farm, what)
    job = batch.submit(wanted)
    finished(batch, job)
    ranks = sorted(line for line in wanted.log.read_text().splitlines() if "rank on" in line)
    assert ranks == ["rank on c1"] * 2 + ["rank on c2"] * 2
    assert "SLURM_JOB_NUM_NODES 2" in wanted.log.read_text()


def test_a_dead_controller_is_never_an_empty_queue(farm: Path, slurm: Slurm) -> None:
    batch = BatchSystem(partition())
    slurm.stop_controller()
    try:
        for ask in (batch.queue, lambda: batch.submit(order(farm))):
            with pytest.raises(SchedulerAway, match="Unable to contact slurm controller"):
                ask()
        with pytest.raises(SchedulerAway):
            batch.ending("1")
        with pytest.raises(SchedulerAway):
            batch.cancel(["1"])
    finally:
        slurm.start_controller()
        slurm.wait_known()
    assert batch.queue() == {}


def test_closed_partitions_say_so(farm: Path, slurm: Slurm) -> None:
    batch = BatchSystem(partition(queue="gpu"))
    assert batch.available() == ""
    assert BatchSystem(partition(queue=None)).available() == ""
    for state in ("down", "drain", "inactive"):
        slurm.partition("gpu", state)
        assert batch.available() == f"Slurm's partition gpu is {state}"
    slurm.partition("gpu", "up")
    slurm.node_down("g1")
    assert batch.available() == "all nodes of Slurm's partition gpu are down"
    there = "Slurm has no partition fat; it has: cpu, gpu"
    assert BatchSystem(partition(queue="fat")).available() == there


def test_a_user_s_environment_changes_nothing(
    farm: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "gpu")
    monkeypatch.setenv("SQUEUE_PARTITION", "gpu")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "64")
    batch = BatchSystem(partition())
    job = batch.submit(order(farm, "time.sleep(600)"))
    assert job in batch.queue()
    until(lambda: batch.queue()[job].host in {"c1", "c2"})
