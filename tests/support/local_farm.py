"""A farm whose partition ``cpu`` keeps batch jobs on this machine; its jobs and launchers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from qfarm.plan import Plan, workflow_key
from qfarm.store import open_store
from qfarm.store.fleet import JobNote
from qfarm.store.protocol import StageState
from qfarm_schemas.attempt import Attempt, Failure
from qfarm_schemas.config import Stage
from qfarm_schemas.failure import FailureKind
from support.clusters import LaunchedFarm
from support.farm import Said, qfarm
from support.launched import write_farm
from support.wait import lives, until
from support.work import water

QUICK = (sys.executable, "-m", "support.quick_launch")

PARTITION = """\
[lease]
seconds = 3.0
heartbeat = 0.5
[[partitions]]
name = "cpu"
scheduler = "local"
slots = {slots}
memory_mb = 500
max_jobs = 1
submit_per_minute = 60
idle_seconds = {idle}
{more}
"""


@dataclass
class LocalFarm(LaunchedFarm):
    """The farm, and what tests do with it; the current folder is its folder."""

    fragments: list[str] = field(default_factory=list)

    def configure(self, slots: int = 1, idle: float = 60.0, more: str = "") -> None:
        """Write the partition into ``qfarm.toml``, in place of the one before."""
        path = self.root / "qfarm.toml"
        head = path.read_text().partition("[lease]")[0]
        path.write_text(head + PARTITION.format(slots=slots, idle=idle, more=more))

    def submit(self, *stages: Stage) -> str:
        """Submit a fragment that no other has; its id."""
        fragment = water(len(self.fragments))
        self.store.add([Plan(workflow_key(fragment, stages), fragment, stages)])
        self.fragments.append(fragment.id)
        return fragment.id

    def say(self, *words: str) -> Said:
        """Run ``qfarm`` in this process."""
        return qfarm(*words)

    def attempts(self, fragment: str) -> list[Attempt]:
        """Attempts at a fragment, in order."""
        view = self.store.view(fragment)
        return [attempt for row in view.rows for attempt in view.attempts.get(row.key, ())]

    def kinds(self, fragment: str) -> list[FailureKind | None]:
        """How they ended; None: with a record."""
        outcomes = [attempt.outcome for attempt in self.attempts(fragment)]
        return [one.kind if isinstance(one, Failure) else None for one in outcomes]

    @property
    def done(self) -> bool:
        """Whether every stage has its record."""
        states = {count.state for count in self.store.counts() if count.count}
        return states == {StageState.DONE}

    @property
    def note(self) -> JobNote:
        """The only job that there ever was."""
        (note,) = self.jobs("cpu", ended=True)
        return note

    @property
    def working(self) -> JobNote | None:
        """A job that has an attempt under way."""
        if not self.store.running():
            return None
        return next(iter(self.store.fleet.jobs("cpu")), None)

    @contextmanager
    def job(
        self, name: str = "cpu-1", module: str = "support.quick_job", given: Sequence[str] = ()
    ) -> Iterator["Job"]:
        """A batch job without a launcher, in a session of its own as a scheduler's is."""
        words = [sys.executable, "-m", module, "tcp://nobody:1", "--nthreads", "1"]
        words += ["--farm", str(self.root), "--partition", "cpu", "--job", name, *given]
        log = self.root / f"{name}.log"
        with log.open("w") as said:
            process = subprocess.Popen(
                words,
                cwd=self.root,
                env=self.environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Job(process, log)
        finally:
            end(self.root)
            process.wait(10)


@dataclass(frozen=True)
class Job:
    """A batch job's process, and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """To all of its processes, as batch systems do."""
        for process in [*family(self.process.pid), psutil.Process(self.process.pid)]:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def slots(self) -> list[int]:
        """Processes that pull."""
        return [
            process.pid for process in family(self.process.pid) if "forkserver" in said(process)
        ]

    def wait(self, seconds: float = 20.0) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(seconds)


def family(pid: int) -> list[psutil.Process]:
    """All descendants of a process."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def said(process: psutil.Process) -> str:
    """Its command line."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def end(root: Path) -> None:
    """Kill every process of a farm that is left."""
    for process in psutil.process_iter():
        try:
            ours = str(root) in " ".join([*process.cmdline(), process.cwd()])
            if ours and process.pid != os.getpid():
                process.kill()
        except psutil.Error:
            continue


@pytest.fixture
def farm(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalFarm]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with open_store(mongo_uri, database) as store:
        farm = LocalFarm(tmp_path, store)
        write_farm(tmp_path, mongo_uri, database, "")
        farm.configure()
        (tmp_path / "launcher.err").touch()
        yield farm
        end(tmp_path)
        print(farm.tell())  # pytest shows it where the test failed
        for log in tmp_path.glob("*.log"):
            print(f"== {log.name}\n{log.read_text()[-2000:]}")


__all__ = ["QUICK", "Job", "LocalFarm", "end", "family", "farm", "lives", "until"]
