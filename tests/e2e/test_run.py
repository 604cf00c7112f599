"""`qfarm run` as a user starts it: real processes, real MongoDB, kills and signals in between."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from qfarm.plan import Plan, workflow_key
from qfarm.store import open_store, server
from qfarm.store.protocol import Claim, Running, Selection, StageState, Store
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Policy, Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import Dispersion, LevelOfTheory
from qfarm_workers.identity import this_process
from support import build, engines
from support.wait import gone, until

TESTS = Path(__file__).parents[1]
TEST_RUN = (sys.executable, "-m", "support.run_farm")
QFARM = (str(Path(sys.executable).with_name("qfarm")), "run", "--plain", "--slots")


@dataclass
class Farm:
    """A farm folder and its store."""

    root: Path
    store: Store
    environment: dict[str, str]
    fragments: int = 0

    @property
    def gate(self) -> Path:
        return self.root / "gate"

    def submit(self, *stages: Stage) -> str:
        """Submit a water molecule that was not there before; its id."""
        self.fragments += 1
        moved = build.WATER.positions + float(self.fragments)
        fragment = Fragment(numbers=build.WATER.numbers, positions=moved)
        self.store.add([Plan(workflow_key(fragment, stages), fragment, stages)])
        return fragment.id

    def submit_gated(self, **fields: Any) -> str:
        return self.submit(
            engines.stage("gated", options={"gate": str(self.gate)}, time_limit=60, **fields)
        )

    @contextmanager
    def run(self, slots: int = 1, start: tuple[str, ...] = TEST_RUN) -> Iterator["Run"]:
        """Start a run in a process group of its own; nothing of it is left afterwards."""
        process = subprocess.Popen(
            [*start, str(slots)],
            cwd=self.root,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield Run(process)
        finally:
            family = _family(process.pid)
            process.kill()
            process.communicate()
            for pid in family:
                gone(pid)

    def complete(self, slots: int = 1) -> str:
        """Run until all is done; what was printed."""
        with self.run(slots) as run:
            code, printed = run.end()
        assert code == 0, printed
        return printed

    def at_gate(self) -> tuple[int, Running]:
        """The pid of the program that waits, and its attempt."""
        pid = self.gate.with_suffix(".pid")
        until(pid.exists, 60)
        return int(pid.read_text()), self.store.running()[0]

    def reopen(self) -> None:
        self.gate.with_suffix(".pid").unlink()
        self.gate.touch()

    def kinds(self, fragment_id: str) -> list[FailureKind | None]:
        view = self.store.view(fragment_id)
        made = [attempt.outcome for row in view.rows for attempt in view.attempts.get(row.key, ())]
        return [one.kind if isinstance(one, Failure) else None for one in made]

    def records(self) -> list[str]:
        return [record.fragment_id for record in self.store.records(Selection())]

    def count(self, state: StageState) -> int:
        return sum(count.count for count in self.store.counts() if count.state is state)


@dataclass(frozen=True)
class Run:
    """A run under way."""

    process: subprocess.Popen[str]

    def end(self, seconds: float = 90) -> tuple[int, str]:
        try:
            _, printed = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise AssertionError(f"it still ran after {seconds} s: {error.stderr!r}") from None
        return self.process.returncode, printed

    def ctrl_c(self) -> None:
        """What the terminal does: SIGINT to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    @property
    def family(self) -> list[int]:
        return _family(self.process.pid)


def _family(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def farm(mongo_uri: str, database: str, tmp_path: Path) -> Iterator[Farm]:
    with open_store(mongo_uri, database) as store:
        yield Farm(tmp_path, store, environment(mongo_uri, database))


def environment(uri: str, database: str) -> dict[str, str]:
    ours = {
        "PYTHONPATH": str(TESTS),
        "QFARM_MONGO__URI": uri,
        "QFARM_MONGO__DATABASE": database,
        "QFARM_LEASE__SECONDS": "60",
        "OMP_NUM_THREADS": "1",
    }
    return dict(os.environ) | ours


def xtb(name: str, task: TaskKind, **fields: Any) -> Stage:
    level = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion=Dispersion.INTRINSIC)
    return Stage(name=name, task=task, level=level, **fields)


def test_real_fragments_from_the_command_line(farm: Farm, mongo_uri: str) -> None:
    stages = (
        xtb("preopt", TaskKind.OPTIMISATION),
        xtb("single_point", TaskKind.SINGLE_POINT),
    )
    fragments = [farm.submit(*stages) for _ in range(3)]
    with farm.run(2, QFARM) as run:
        code, printed = run.end()
    assert code == 0, printed
    assert "6 stages done, 0 failed, 0 waiting." in printed
    assert sorted(farm.records()) == sorted(2 * fragments)
    assert not any(path.is_dir() for path in (farm.root / ".qfarm" / "scratch").iterdir())
    kept = [path for path in farm.root.rglob("*") if path.is_file()]
    assert not any(mongo_uri.encode() in path.read_bytes() for path in kept)
    with farm.run(2, QFARM) as run:
        assert run.end()[0] == 0


def test_exit_code_when_something_failed(farm: Farm) -> None:
    farm.submit(engines.stage("good"))
    farm.submit(engines.stage("crash", policy=Policy(node=1)))
    with farm.run() as run:
        code, printed = run.end()
    assert code == 3
    assert "1 stages done, 1 failed" in printed
    assert "qfarm list --state failed" in printed


def test_a_killed_worker_process_is_replaced(farm: Farm) -> None:
    fragment = farm.submit_gated()
    with farm.run() as run:
        program, attempt = farm.at_gate()
        os.kill(attempt.worker.pid, signal.SIGKILL)
        gone(program)
        farm.reopen()
        code, printed = run.end()
    assert code == 0, printed
    assert "vanished" in printed
    assert farm.kinds(fragment) == [FailureKind.LOST_WORKER, None]
    assert farm.records() == [fragment]


def test_a_killed_run_is_taken_up_at_once(farm: Farm) -> None:
    fragments = [farm.submit_gated(), farm.submit(engines.stage("good"))]
    with farm.run() as run:
        program, _ = farm.at_gate()
        family = run.family
        assert program in family
        os.kill(run.process.pid, signal.SIGKILL)
        for pid in family:
            gone(pid)
    farm.reopen()
    farm.complete()
    assert farm.kinds(fragments[0]) == [FailureKind.LOST_WORKER, None]
    assert sorted(farm.records()) == sorted(fragments)
    leftovers = [path for path in (farm.root / ".qfarm" / "scratch").iterdir() if path.is_dir()]
    assert leftovers == []


def test_what_a_dead_worker_claimed_is_done_at_once(farm: Farm) -> None:
    """A worker was killed right after its claim: no reason to wait for the end of its lease."""
    fragment = farm.submit(engines.stage("good"))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = this_process("dead").model_copy(update={"pid": process.pid})
    assert isinstance(farm.store.claim(dead, 3600.0), Claim)
    began = time.monotonic()
    printed = farm.complete()
    assert time.monotonic() - began < 45
    assert "1 stages done, 0 failed, 0 waiting." in printed
    assert farm.records() == [fragment]


def test_a_run_waits_for_what_a_living_worker_holds(farm: Farm) -> None:
    fragment = farm.submit(engines.stage("good"))
    assert isinstance(farm.store.claim(this_process("alive"), 3600.0), Claim)
    with farm.run() as run:
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(6)
        assert farm.records() == []
        run.ctrl_c()
        code, printed = run.end()
    assert code == 130, printed
    assert "another partition" not in printed
    assert farm.kinds(fragment) == []


def test_the_work_of_a_lost_host_is_taken_up(farm: Farm) -> None:
    fragment = farm.submit(engines.stage("good"))
    farm.environment |= {"QFARM_LEASE__SECONDS": "2", "QFARM_LEASE__HEARTBEAT": "0.5"}
    assert isinstance(farm.store.claim(build.WORKER, 2.0), Claim)
    printed = farm.complete()
    assert f"process {build.WORKER.pid} on {build.WORKER.host}" in printed
    assert farm.kinds(fragment) == [FailureKind.LOST_WORKER, None]


def test_one_interrupt_drains(farm: Farm) -> None:
    first, second = farm.submit_gated(), farm.submit(engines.stage("good"))
    with farm.run() as run:
        farm.at_gate()
        run.ctrl_c()
        until(lambda: farm.store.draining(farm.store.running()[0].worker.job))
        farm.gate.touch()
        code, printed = run.end()
    assert code == 130
    assert "Ctrl-C again" in printed
    assert "`qfarm run` goes on" in printed
    assert farm.kinds(first) == [None]
    assert farm.kinds(second) == []
    assert "Traceback" not in printed


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_a_second_interrupt_kills_and_costs_nothing(
    farm: Farm, signals: tuple[signal.Signals, ...]
) -> None:
    fragment = farm.submit_gated(policy=Policy(infrastructure=1))
    with farm.run() as run:
        program, attempt = farm.at_gate()
        for number in signals:
            target = os.killpg if number == signal.SIGINT else os.kill
            target(run.process.pid, number)
            if len(signals) > 1:
                until(lambda: farm.store.draining(attempt.worker.job))
        code, printed = run.end(20)
    assert code == 130
    assert "Traceback" not in printed
    gone(program)
    assert farm.kinds(fragment) == [FailureKind.INTERRUPTED]
    farm.reopen()
    farm.complete()
    assert farm.records() == [fragment]


def test_two_runs_share_one_farm(farm: Farm) -> None:
    fragments = [farm.submit(engines.stage("good")) for _ in range(30)]
    with farm.run() as one, farm.run() as other:
        assert (one.end()[0], other.end()[0]) == (0, 0)
    assert sorted(farm.records()) == sorted(fragments)
    assert all(farm.kinds(fragment) == [None] for fragment in fragments)


def test_a_run_survives_a_killed_mongod(tmp_path: Path) -> None:
    folder = tmp_path / "mongo"
    started = server.up(folder)
    uri = started.uri
    try:
        with open_store(uri, "qfarm") as store:
            farm = Farm(tmp_path, store, environment(uri, "qfarm"))
            fragments = [farm.submit_gated(), farm.submit(engines.stage("good"))]
            with farm.run() as run:
                farm.at_gate()
                _kill_mongod(started.pid)
                farm.gate.touch()
                server.up(folder, port=started.credentials.port)
                code, printed = run.end()
            assert code == 0, printed
            assert sorted(farm.records()) == sorted(fragments)
            assert farm.kinds(fragments[0]) == [None]
    finally:
        server.down(folder, timeout=20, force=True)


def _kill_mongod(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid))  # a zombie's threads may still hold the port
