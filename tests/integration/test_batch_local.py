"""Jobs of this machine: they outlive their launcher, are found again, and end when asked."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qfarm_launchers import processes
from qfarm_launchers.batch import BatchSystem, EndingKind, QueueState
from qfarm_launchers.cluster import JobOrder
from qfarm_schemas.config import Partition
from support.wait import gone, until

STAND_IN = """
import os, sys, time
from pathlib import Path
print("job", os.environ["QFARM_JOB_ID"], os.environ["QFARM_LOCAL_JOB"], flush=True)
exec(Path(sys.argv[sys.argv.index("--farm") + 1], "what").read_text())
"""

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Path]:
    """A farm folder with a space and a quote in its path."""
    folder = tmp_path / "my 'farm"
    folder.mkdir()
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    yield folder
    for process in psutil.process_iter():
        try:
            ours = str(folder) in process.cmdline()
        except psutil.Error:
            continue
        if ours:
            process.kill()


def batch(farm: Path) -> BatchSystem:
    prologue = (f"export PYTHONPATH='{farm.parent}'",)
    return BatchSystem(Partition(scheduler="local", slots=1, prologue=prologue))


def order(farm: Path, what: str, name: str = "local-1") -> JobOrder:
    (farm / "what").write_text(what)
    return JobOrder(name, farm, farm / "logs", sys.executable, module="stand_in")


def mine(system: BatchSystem, *names: str) -> dict[str, str]:
    """Name -> id of those of my jobs that are in the queue; other tests may have theirs."""
    found = {queued.name: job for job, queued in system.queue().items()}
    return {name: found[name] for name in names if name in found}


def test_a_job_runs_and_its_ending_is_told(farm: Path) -> None:
    system = batch(farm)
    wanted = order(farm, "sys.exit(3)")
    job = system.submit(wanted)
    until(lambda: job not in system.queue())
    ending = system.ending(job)
    assert ending is not None
    assert (ending.kind, ending.exit_code) == (EndingKind.FAILED, 3)
    assert wanted.log.read_text() == f"job {job} local-1\n"  # the job knows its id, too


def test_another_launcher_finds_a_job_whose_launcher_was_killed(farm: Path) -> None:
    wanted = order(farm, "time.sleep(600)")
    code = (
        f"import os, sys; from pathlib import Path; sys.path[:0] = {sys.path!r}\n"
        "from integration.test_batch_local import batch, JobOrder\n"
        f"farm = Path({str(farm)!r})\n"
        "batch(farm).submit(JobOrder('local-1', farm, farm / 'logs', sys.executable, "
        "module='stand_in'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    system = batch(farm)
    job = mine(system, wanted.name)[wanted.name]
    assert system.queue()[job].state is QueueState.RUNNING
    assert os.getsid(int(job.partition(".")[0])) == int(job.partition(".")[0])
    until(lambda: job in wanted.log.read_text())
    system.cancel([job])
    until(lambda: job not in system.queue())
    assert system.ending(job) is None  # nobody of us has waited for it


def test_a_cancelled_job_ends_and_is_said_to_be_cancelled(farm: Path) -> None:
    system = batch(farm)
    job = system.submit(order(farm, "time.sleep(600)"))
    before = time.monotonic()
    system.cancel([job, "999999.1", "no job"])
    assert time.monotonic() - before < 1
    until(lambda: job not in system.queue())
    ending = system.ending(job)
    assert ending is not None
    assert ending.kind is EndingKind.CANCELLED
    assert ending.text == "signal 15"


def test_a_job_that_does_not_end_is_killed_by_whoever_looks_next(
    farm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = batch(farm)
    wanted = order(farm, STUBBORN)
    job = system.submit(wanted)
    until(lambda: "ready" in wanted.log.read_text())
    system.cancel([job])
    assert system.queue()[job].state is QueueState.ENDING
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.0)
    system.queue()
    gone(int(job.partition(".")[0]))
    until(lambda: job not in system.queue())


def test_another_process_with_the_pid_of_a_job_is_left_alone(farm: Path) -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        batch(farm).cancel([f"{other.pid}.1"])
        assert other.poll() is None
        other.kill()


def test_a_job_s_children_are_no_jobs_and_end_with_it(farm: Path) -> None:
    system = batch(farm)
    what = """
import subprocess
child = subprocess.Popen(["sleep", "600"])
print("child", child.pid, flush=True)
time.sleep(600)
"""
    wanted = order(farm, what)
    job = system.submit(wanted)
    until(lambda: "child" in wanted.log.read_text())
    child = int(wanted.log.read_text().split()[-1])
    assert mine(system, "local-1") == {"local-1": job}
    assert not [found for found in system.queue() if found.startswith(f"{child}.")]
    system.cancel([job])
    gone(child)
