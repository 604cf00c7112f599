"""A farm on the tests' Slurm, used as its user would: commands, launchers, scontrol."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.batch import Line
from qfarm.config import load_protocol
from qfarm.plan import Plan, plan
from qfarm.store.fleet import JobNote
from qfarm.store.protocol import Store
from qfarm_schemas.fragment import Fragment
from support.slurm import Slurm
from support.wait import gone, until

TESTS = Path(__file__).parents[1]
QFARM = str(Path(sys.executable).with_name("qfarm"))
LAUNCHER = (sys.executable, "-m", "support.cluster_launch")


@dataclass
class LaunchedFarm:
    """A farm folder with a ``qfarm.toml`` for partitions of a cluster of the tests.

    Attributes
    ----------
    root : Path
        The folder.
    store : Store
        Its database.
    """

    root: Path
    store: Store

    @property
    def environment(self) -> dict[str, str]:
        """Of all commands; jobs of Slurm inherit it."""
        return os.environ | {"PYTHONPATH": str(TESTS)}

    def qfarm(self, *words: str) -> str:
        """Standard output of a command that must succeed."""
        done = self.run(QFARM, *words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the farm's folder."""
        return subprocess.run(
            words,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self, partition: str) -> dict[str, Any]:
        """What `qfarm launcher status --json` says of a partition."""
        rows = json.loads(self.qfarm("launcher", "status", "--json"))["partitions"]
        return next(row for row in rows if row["partition"] == partition)

    def suspects(self) -> list[str]:
        """Nodes that are left alone."""
        return [note.host for note in self.store.fleet.suspects()]

    @contextmanager
    def launcher(
        self, *partitions: str, start: Sequence[str] = LAUNCHER
    ) -> Iterator[subprocess.Popen[str]]:
        """A launcher in the foreground; it is killed at the end of the block."""
        with (self.root / "launcher.err").open("a") as said:
            process = subprocess.Popen(
                [*start, *partitions],
                cwd=self.root,
                env=self.environment,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        try:
            until(lambda: self._launched(process, partitions), 30)
            yield process
        finally:
            kill(process)

    def _launched(self, process: subprocess.Popen[str], partitions: Sequence[str]) -> bool:
        assert process.poll() is None, (self.root / "launcher.err").read_text()
        standings = [self.store.fleet.standing(name) for name in partitions]
        return all(one.launcher and one.launcher.pid == process.pid for one in standings)

    def tell(self) -> str:
        """What happened, for whoever reads a failed test."""
        lines = [(self.root / "launcher.err").read_text()]
        for log in sorted((self.root / ".qfarm" / "log" / "jobs").glob("*.log")):
            lines += [f"== {log.name}", log.read_text()[-2000:]]
        for name in ("cpu", "gpu"):
            lines += [str(note) for note in self.store.fleet.jobs(name, ended=True)]
        attempts = self.root / ".qfarm" / "log"
        for log in sorted(attempts.glob("attempts*.jsonl")):
            lines += [f"== {log.name}", *log.read_text().splitlines()[-400:]]
        return "\n".join(lines)

    def jobs(self, partition: str, ended: bool = False) -> list[JobNote]:
        """Notes of a partition's jobs."""
        return list(self.store.fleet.jobs(partition, ended))

    def at_work(self, partition: str, on: str = "") -> JobNote | None:
        """A job that runs and has made an attempt."""
        notes = self.store.fleet.jobs(partition)
        found = (note for note in notes if note.attempts and on in ("", note.host))
        return next(found, None)

    def job_at_work(self, partition: str, seconds: float = 60.0) -> JobNote:
        """Wait for one."""
        until(lambda: self.at_work(partition), seconds)
        found = self.at_work(partition)
        assert found is not None
        return found


@dataclass
class ClusterFarm(LaunchedFarm):
    """One on the tests' Slurm, `slurm`."""

    slurm: Slurm


def kill(process: subprocess.Popen[str]) -> None:
    """Kill -9, and wait."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    gone(process.pid)


def planned(fragments: Sequence[Fragment], protocol: Path) -> list[Plan]:
    """What a submission of these fragments makes."""
    stages = load_protocol(str(protocol))
    plans = [plan(fragment, stages) for fragment in fragments]
    assert all(isinstance(one, Plan) for one in plans)
    return [one for one in plans if isinstance(one, Plan)]


def line(one: Plan) -> Line:
    """What the checker is told of a fragment."""
    fragment = one.fragment
    numbers = [int(number) for number in fragment.numbers]
    return Line(fragment.id, one.key, numbers, fragment.positions.tolist())


def holds(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition comes true in time."""
    try:
        until(condition, seconds)
    except TimeoutError:
        return False
    return True
