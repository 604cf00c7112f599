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

from qfarm.engines.base import Command, Job, PythonCall, Site
from qfarm.engines.launch import launch
from qfarm_workers import supervisor
from qfarm_workers.process import (
    Ended,
    EngineProcess,
    Flag,
    Limits,
    SoftStop,
    Stopped,
    request,
)
from support import build
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


SLEEPY = "while [ ! -e {file} ]; do sleep 0.05; done; echo in order"
STOPPABLE = Command(("sh", "-c", SLEEPY.format(file="stop_now")))
STUBBORN = Command(("sh", "-c", SLEEPY.format(file="never")))


def test_a_soft_stop_is_obeyed(process: EngineProcess, folder: Path) -> None:
    limits = Limits(60, 4000, SoftStop("stop_now", 0.5))
    ended = process.run(STOPPABLE, folder, limits, Event())
    assert (ended.code, ended.stopped, ended.asked) == (0, None, True)
    assert 0.5 <= ended.wall_seconds < 5
    assert (folder / "stdout.txt").read_text() == "in order\n"


def test_a_soft_stop_that_is_ignored_ends_with_a_kill(process: EngineProcess, folder: Path) -> None:
    limits = Limits(1.0, 4000, SoftStop("stop_now", 0.2), walltime=True)
    ended = process.run(STUBBORN, folder, limits, Event())
    assert (ended.stopped, ended.asked) == (Stopped.TIME, True)
    assert (folder / "stop_now").exists()
    assert 1.0 <= ended.wall_seconds < 5


def test_a_program_that_ends_in_time_is_not_asked_to_stop(
    process: EngineProcess, folder: Path
) -> None:
    limits = Limits(60, 4000, SoftStop("stop_now", 30))
    ended = process.run(call("hello"), folder, limits, Event())
    assert (ended.code, ended.asked) == (0, False)
    assert not (folder / "stop_now").exists()


def test_a_stop_file_that_cannot_be_made_leaves_the_kill(
    process: EngineProcess, folder: Path
) -> None:
    limits = Limits(0.6, 4000, SoftStop("no/such/folder", 0.1))
    ended = process.run(STUBBORN, folder, limits, Event())
    assert (ended.stopped, ended.asked) == (Stopped.TIME, False)


@pytest.mark.parametrize("end", ["exec sleep 600", "exit 3"])
def test_ranks_that_left_the_session_are_killed_with_their_launcher(
    process: EngineProcess, folder: Path, end: str
) -> None:
    """As those of mpirun and srun may."""
    script = (
        f"setsid sh -c 'echo $$ > rank; exec sleep 600' & while [ ! -s rank ]; do :; done; {end}"
    )
    ended = process.run(Command(("sh", "-c", script)), folder, Limits(1.0, 4000), Event())
    assert ended.code in (3, -signal.SIGTERM)
    gone(int((folder / "rank").read_text()))


SRUN = """\
setsid sh -c 'echo $$ >rank.part; mv rank.part rank; exec sleep 600' &
rank=$!
trap 'sleep 0.3; kill -9 $rank; echo "forced the termination of its step" >&2; exit {code}' TERM
while :; do sleep 0.05; done
"""
"""As srun it ends its ranks, which other daemons may have started, if it is asked and has time."""


def in_script(folder: Path, text: str, code: int = 143) -> Command:
    """A launch line that a script starts and waits for, as those of sites do."""
    (folder / "srun").write_text(text.format(code=code))
    return Command(("sh", "-c", "sh ./srun; true"))


def test_a_launcher_of_ranks_is_asked_to_end_before_it_is_killed(
    process: EngineProcess, folder: Path
) -> None:
    """The script ends at once; what it has started in its group is waited for."""
    ended = process.run(in_script(folder, SRUN), folder, Limits(1.0, 4000), Event())
    assert (ended.stopped, ended.code) == (Stopped.TIME, -signal.SIGTERM)
    assert "forced the termination" in (folder / "stderr.txt").read_text()
    assert 1.3 <= ended.wall_seconds < 3
    gone(int((folder / "rank").read_text()))


def test_a_launcher_of_ranks_is_asked_to_end_when_its_worker_has_gone(
    process: EngineProcess, folder: Path
) -> None:
    program = in_script(folder, SRUN)
    thread, ended = in_background(lambda: process.run(program, folder, GENEROUS, Event()))
    until((folder / "rank").exists)
    process.hang_up()
    gone(process.pid or 0)
    thread.join(10)
    assert ended[0].code is None
    assert "forced the termination" in (folder / "stderr.txt").read_text()


def test_a_launcher_whose_script_has_ended_is_asked_to_end(
    process: EngineProcess, folder: Path
) -> None:
    in_script(folder, SRUN)
    script = "sh ./srun & while [ ! -e rank ]; do sleep 0.02; done; exit 3"
    ended = process.run(Command(("sh", "-c", script)), folder, GENEROUS, Event())
    assert (ended.stopped, ended.code) == (None, 3)
    assert "forced the termination" in (folder / "stderr.txt").read_text()


def test_who_ends_in_order_when_told_to_has_not_done_its_work(
    process: EngineProcess, folder: Path
) -> None:
    """What it leaves half done must not count as the output of a program that ended well."""
    (folder / "srun").write_text(SRUN.format(code=0))
    ended = process.run(Command(("sh", "./srun")), folder, Limits(0.6, 4000), Event())
    assert (ended.stopped, ended.code) == (Stopped.TIME, -signal.SIGTERM)


DEAF = "trap '' TERM; x=$({eat}); while :; do sleep 0.05; done"
EAT = "head -c 60000000 /dev/zero | tr '\\0' x"


@pytest.mark.parametrize(
    ("why", "least", "most"),
    [(Stopped.MEMORY, 1.0, 2.5), (Stopped.JOB, 2.0, 3.5), (Stopped.TIME, 2.0, 3.5)],
)
def test_one_that_does_not_listen_is_killed_before_the_batch_system_would(
    tmp_path: Path, folder: Path, why: Stopped, least: float, most: float
) -> None:
    """Of the end of the walltime, too, which is what TIME means here."""
    leave = Flag()
    eat, limits = "true", GENEROUS
    if why is Stopped.MEMORY:
        eat, limits = EAT, Limits(60, 50)
    elif why is Stopped.TIME:
        limits = Limits(0.0, 4000, walltime=True)
    else:
        leave.set()
    program = Command(("sh", "-c", DEAF.format(eat=eat)))
    with EngineProcess(tmp_path / "supervisor", 1, leave) as process:
        ended = process.run(program, folder, limits, Event())
    assert (ended.stopped, ended.code) == (why, -signal.SIGKILL)
    assert least <= ended.wall_seconds < most


def test_one_that_does_not_listen_is_killed_in_the_end(
    process: EngineProcess, folder: Path
) -> None:
    program = Command(("sh", "-c", DEAF.format(eat="true")))
    ended = process.run(program, folder, Limits(0.1, 4000), Event())
    assert (ended.stopped, ended.code) == (Stopped.TIME, -signal.SIGKILL)
    assert 5.0 <= ended.wall_seconds < 7


@pytest.mark.parametrize(
    ("prologue", "code", "says"),
    [("false", 1, ""), ("no_such_module load aims", 127, "no_such_module")],
)
def test_a_prologue_that_fails_starts_nothing(
    process: EngineProcess, folder: Path, prologue: str, code: int, says: str
) -> None:
    site = Site(prologue=(prologue,), command=("sh", "-c", "touch started"))
    job = Job(fragment=build.WATER, stage=build.stage(), site=site)
    ended = process.run(launch(job, ()), folder, GENEROUS, Event())
    assert ended.code == code
    assert says in (folder / "stderr.txt").read_text()
    assert not (folder / "started").exists()


def test_a_command_keeps_its_temporary_files_in_its_folder(
    process: EngineProcess, folder: Path
) -> None:
    site = Site(prologue=("export MODULE=loaded",), environment={"SPECIES": "tight"})
    command = ("sh", "-c", 'echo "$TMPDIR $MODULE $SPECIES $1"', "sh", "{threads}")
    job = Job(fragment=build.WATER, stage=build.stage(), site=site, threads=2)
    process.run(launch(job, command), folder, GENEROUS, Event())
    assert (folder / "stdout.txt").read_text() == f"{folder} loaded tight 2\n"


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
