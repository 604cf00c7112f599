"""Engine processes: how they end, what they see, and that nothing survives them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from qfarm.engines.base import Command, PythonCall
from qfarm_workers import supervisor
from qfarm_workers.process import Ended, EngineProcess, Limits, Stopped, request
from support.wait import gone, until

GENEROUS = Limits(seconds=60, memory_mb=4000)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProcess]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("QFARM_MONGO__URI", "mongodb://user:secret@host")
    with EngineProcess(tmp_path / "supervisor", threads=3) as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def call(function: str) -> PythonCall:
    return PythonCall("support.programs", function)


def in_background(run: Callable[[], Ended]) -> tuple[Thread, list[Ended]]:
    ended: list[Ended] = []
    thread = Thread(target=lambda: ended.append(run()))
    thread.start()
    return thread, ended


def test_output_goes_to_the_folder(process: EngineProcess, folder: Path) -> None:
    ended = process.run(call("hello"), folder, GENEROUS, Event())
    assert (ended.code, ended.stopped, ended.missing) == (0, None, "")
    assert (folder / "stdout.txt").read_text() == "to stdout\n"
    assert (folder / "stderr.txt").read_text() == "to stderr\n"
    assert (folder / "result.txt").read_text() == "42"


def test_surroundings(process: EngineProcess, folder: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.run(call("surroundings"), folder, GENEROUS, Event())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["group"] == facts["pid"]
    assert facts["cwd"] == facts["environment"]["TMPDIR"] == str(folder)
    assert facts["environment"]["OMP_NUM_THREADS"] == "3"
    assert facts["environment"]["OPENBLAS_NUM_THREADS"] == "3"
    assert "secret" not in json.dumps(facts)
    assert facts["masked"] == []
    assert facts["stdin"] == os.devnull


def test_cost_is_that_of_the_program(process: EngineProcess, folder: Path) -> None:
    ended = process.run(call("burn"), folder, GENEROUS, Event())
    assert 0.3 <= ended.cpu_seconds < 1.0
    assert ended.wall_seconds >= 0.3
    assert ended.peak_memory_mb > 1


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("crash", os.EX_SOFTWARE),
        ("segfault", -signal.SIGSEGV),
        ("disk_full", supervisor.DISK_FULL),
        ("no_memory", supervisor.NO_MEMORY),
        ("no_library", supervisor.MISSING),
    ],
)
def test_bad_ends(process: EngineProcess, folder: Path, program: str, code: int) -> None:
    ended = process.run(call(program), folder, GENEROUS, Event())
    assert ended.code == code
    assert (folder / "stderr.txt").read_text().strip()
    assert process.run(call("nothing"), folder, GENEROUS, Event()).code == 0


@pytest.mark.parametrize(
    "program",
    [
        PythonCall("a_module_that_is_not_there"),
        PythonCall("support.programs", "a_function_that_is_not_there"),
        Command(("an-executable-that-is-not-there",)),
    ],
)
def test_missing_programs(
    process: EngineProcess, folder: Path, program: PythonCall | Command
) -> None:
    ended = process.run(program, folder, GENEROUS, Event())
    assert ended.code is None
    assert "is_not_there" in ended.missing or "is-not-there" in ended.missing


def test_command(process: EngineProcess, folder: Path) -> None:
    program = Command(
        ("sh", "-c", 'echo "$QUESTION $OMP_NUM_THREADS $PWD"; exit 7'), {"QUESTION": "6x9"}
    )
    assert process.run(program, folder, GENEROUS, Event()).code == 7
    assert (folder / "stdout.txt").read_text() == f"6x9 3 {folder}\n"


def test_time_limit(process: EngineProcess, folder: Path) -> None:
    ended = process.run(call("sleep"), folder, Limits(0.5, 4000), Event())
    assert ended.stopped is Stopped.TIME
    assert 0.5 <= ended.wall_seconds < 5
    gone(int((folder / "pid").read_text()))


@pytest.mark.parametrize("program", ["eat_memory", "eat_memory_in_a_child"])
def test_memory_limit(process: EngineProcess, folder: Path, program: str) -> None:
    ended = process.run(call(program), folder, Limits(60, 250), Event())
    assert ended.stopped is Stopped.MEMORY
    assert ended.peak_memory_mb > 250


def test_stop_kills_the_whole_family(process: EngineProcess, folder: Path) -> None:
    stop = Event()
    thread, ended = in_background(
        lambda: process.run(call("sleep_with_family"), folder, GENEROUS, stop)
    )
    until((folder / "pids").exists)
    stop.set()
    thread.join(10)
    assert ended[0].stopped is Stopped.ASKED
    for pid in (folder / "pids").read_text().split():
        gone(int(pid))


def test_nothing_is_left_of_a_program_that_ended_well(process: EngineProcess, folder: Path) -> None:
    assert process.run(call("leave_orphans"), folder, GENEROUS, Event()).code == 0
    for pid in (folder / "orphans").read_text().split():
        gone(int(pid))


def test_a_killed_supervisor_takes_its_program_along(process: EngineProcess, folder: Path) -> None:
    thread, ended = in_background(lambda: process.run(call("sleep"), folder, GENEROUS, Event()))
    until((folder / "pid").exists)
    os.kill(process.pid or 0, signal.SIGKILL)
    thread.join(10)
    assert ended[0].code is None
    assert ended[0].stopped is None
    gone(int((folder / "pid").read_text()))
    assert process.run(call("nothing"), folder, GENEROUS, Event()).code == 0


def test_a_killed_program_is_reported(process: EngineProcess, folder: Path) -> None:
    thread, ended = in_background(lambda: process.run(call("sleep"), folder, GENEROUS, Event()))
    until((folder / "pid").exists)
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    thread.join(10)
    assert ended[0].code == -signal.SIGKILL


def test_the_program_ends_with_its_worker(process: EngineProcess, folder: Path) -> None:
    """The worker's death closes the pipe; the supervisor kills, PDEATHSIG or not."""
    thread, ended = in_background(
        lambda: process.run(call("sleep_with_family"), folder, GENEROUS, Event())
    )
    until((folder / "pids").exists)
    supervisor_pid = process.pid or 0
    process.hang_up()
    for pid in [supervisor_pid, *map(int, (folder / "pids").read_text().split())]:
        gone(pid)
    thread.join(10)
    assert ended[0].code is None


def test_a_program_dies_with_its_supervisor_although_nobody_watches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel sees to it: PDEATHSIG."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with subprocess.Popen(
        [sys.executable, "-m", "qfarm_workers.supervisor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as alone:
        assert alone.stdin is not None
        assert alone.stdout is not None
        line = supervisor.Channel(alone.stdout.fileno(), alone.stdin.fileno())
        line.send(request(call("sleep"), folder))
        started = line.read()
        assert started is not None
        alone.kill()
        gone(started["started"])


def test_one_supervisor_serves_many_attempts(process: EngineProcess, folder: Path) -> None:
    """How long each takes is measured in tests/bench/process_overhead.py."""
    ended = [process.run(call("nothing"), folder, GENEROUS, Event()) for _ in range(20)]
    supervisor_pid = process.pid
    assert [one.code for one in ended] == [0] * 20
    process.run(call("nothing"), folder, GENEROUS, Event())
    assert process.pid == supervisor_pid


def test_close_leaves_no_process(tmp_path: Path) -> None:
    process = EngineProcess(tmp_path, threads=1)
    process.start()
    assert process.pid is not None
    assert psutil.pid_exists(process.pid)
    pid = process.pid
    process.close()
    gone(pid)
    process.close()
