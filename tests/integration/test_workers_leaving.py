"""A batch system signals all processes of a job: the worker, the watcher, the engine."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer

import psutil
import pytest

from qfarm.engines.base import Command, PythonCall
from qfarm.store.protocol import StageState
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Partition
from qfarm_schemas.failure import FailureKind
from qfarm_workers import process as processes
from qfarm_workers.process import Ended, EngineProcess, Limits, Stopped
from support import engines, steps
from support.loops import Farm, farm
from support.wait import gone, lives, until

__all__ = ["farm"]

GENEROUS = Limits(seconds=60, memory_mb=4000)
SLEEP = Command(("sleep", "600"))


@pytest.fixture
def leave() -> Event:
    return Event()


@pytest.fixture
def process(
    tmp_path: Path, leave: Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EngineProcess]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with EngineProcess(tmp_path / "supervisor", 1, leave) as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_program_is_ended_with_its_job(
    process: EngineProcess, leave: Event, folder: Path
) -> None:
    timer = Timer(0.3, leave.set)
    timer.start()
    ended = process.run(PythonCall("support.programs", "sleep"), folder, GENEROUS, Event())
    assert (ended.stopped, ended.code) == (Stopped.JOB, -signal.SIGKILL)
    assert ended.wall_seconds < 10
    gone(int((folder / "pid").read_text()))
    assert process.leaving


@pytest.mark.parametrize("code", ["kill -TERM $$", "kill -USR2 $$", "kill -INT $$", "exit 143"])
def test_one_that_heard_of_it_first_is_told_from_one_that_crashed(
    process: EngineProcess, leave: Event, folder: Path, code: str
) -> None:
    timer = Timer(0.4, leave.set)
    timer.start()
    ended = process.run(Command(("sh", "-c", code)), folder, GENEROUS, Event())
    assert ended.stopped is Stopped.JOB


def test_without_a_job_that_ends_such_a_signal_is_a_crash(
    process: EngineProcess, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "TOLD_SECONDS", 0.1)
    ended = process.run(Command(("sh", "-c", "kill -TERM $$")), folder, GENEROUS, Event())
    assert (ended.stopped, ended.code) == (None, -signal.SIGTERM)


def test_what_ended_well_keeps_its_result(
    process: EngineProcess, leave: Event, folder: Path
) -> None:
    leave.set()
    quick = replace(GENEROUS)
    ended = process.run(Command(("true",)), folder, quick, Event())
    assert (ended.code, ended.stopped) == (0, None)
    missing = process.run(Command(("not-there-at-all",)), folder, quick, Event())
    assert missing.stopped is None
    assert missing.missing


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_the_watcher_lives_on_and_its_programs_do_not(
    process: EngineProcess, folder: Path, number: signal.Signals
) -> None:
    ended: list[Ended] = []
    thread = Thread(target=lambda: ended.append(process.run(SLEEP, folder, GENEROUS, Event())))
    thread.start()
    until(lambda: process.pid and _child(process.pid))
    watcher = process.pid
    assert watcher is not None
    os.kill(watcher, number)
    os.kill(_child(watcher), number)
    thread.join(10)
    assert ended[0].code == -number
    assert lives(watcher)
    assert process.run(Command(("true",)), folder, GENEROUS, Event()).code == 0
    assert process.pid == watcher


def _child(pid: int) -> int:
    """The program that it runs, once it is that: a fork of the watcher ignores signals, too."""
    children = psutil.Process(pid).children()
    return next((child.pid for child in children if child.name() == "sleep"), 0)


@pytest.mark.parametrize(
    ("partition", "kind"),
    [
        (Partition(scheduler="local"), FailureKind.INTERRUPTED),
        (Partition(scheduler="slurm"), FailureKind.WALLTIME),
        (Partition(scheduler="slurm", walltime=3600), FailureKind.INTERRUPTED),
        (Partition(scheduler="slurm", walltime=200), FailureKind.WALLTIME),
    ],
)
def test_what_it_means_that_the_job_is_told_to_end(
    farm: Farm, partition: Partition, kind: FailureKind
) -> None:
    """Near the end, or where nobody knows it, that is the walltime; else somebody's wish."""
    farm.partition = partition
    leave = Event()
    fragment = farm.submit(steps.stage(600))
    later = farm.submit(engines.stage("good"))
    with EngineProcess(farm.folder / "scratch", 1, leave) as process:
        farm.process = process
        thread = farm.start()
        until(lambda: list(farm.scratch.root.glob("*/reached.state")))
        leave.set()
        thread.join(10)
    assert farm.kinds(fragment) == [kind]
    assert farm.states(fragment) == [StageState.READY]
    assert farm.kinds(later) == []
    (failure,) = farm.outcomes(fragment)
    assert isinstance(failure, Failure)
    assert "told to end" in failure.cause
    assert ("walltime left, s" in failure.evidence) is (partition.walltime is not None)
    assert list(farm.restarts.root.iterdir()), "the next attempt goes on from there"
    assert not list(farm.scratch.root.glob("*/")), "nothing went wrong that one might look into"
    assert "scratch folder" not in failure.evidence
