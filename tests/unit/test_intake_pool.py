"""Frames examined in other processes: the same, in the same order, or a clear error."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qfarm.errors import InputError
from qfarm.intake import chunks, pool
from qfarm.intake.examine import Rejected
from qfarm.intake.frames import Frame
from qfarm.intake.pool import Accepted, Examined, examined, processes_for
from qfarm.intake.problem import Problem
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment
from support.intake import cut, examiner, frame_text
from support.wait import until

TESTS = Path(__file__).resolve().parents[1]
OWNER = """
import sys
from qfarm.intake.examine import Examiner
from qfarm.intake.pool import examined
from support.intake import PROTOCOL, cut, frame_text

if __name__ == "__main__":
    for _ in examined(cut(frame_text()), Examiner(PROTOCOL), 2):
        print("working", flush=True)
        sys.stdin.read()
"""


def willing(fragment: Fragment, stage: Stage) -> str | None:
    return "no neon" if 10 in fragment.numbers else None


def killed(fragment: Fragment, stage: Stage) -> str | None:
    """As the kernel does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def frames() -> list[Frame | Problem]:
    good = [frame_text(f"class=c{i % 2}", ("He 0 0 0", f"He 0 0 {3 + i}")) for i in range(8)]
    neon = frame_text("", ("Ne 0 0 0",))
    return cut("".join((*good, neon, frame_text("charge=1"), *good, "junk\n")))


def all_of(processes: int) -> list[Examined]:
    parts = examined(frames(), examiner(willing), processes)
    return [one for part in parts for one in part]


def test_two_processes_say_the_same_as_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 3)
    alone = all_of(1)
    assert sum(isinstance(one, Accepted) for one in alone) == 15
    assert sum(isinstance(one, Rejected) for one in alone) == 3
    assert all_of(2) == alone


def test_a_killed_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nothing was written") as raised:
        list(examined(frames(), examiner(killed), 2))
    assert "memory" in raised.value.what
    assert raised.value.remedy


def test_processes_end_with_their_owner(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    owner = subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"working\n"
        others = psutil.Process(owner.pid).children(recursive=True)
        owner.kill()
    assert others
    until(lambda: not any(one.is_running() for one in others), seconds=20)


def test_only_large_files_take_other_processes() -> None:
    assert processes_for(pool.WORTH - 1) == 1
    cores = len(os.sched_getaffinity(0))
    assert processes_for(pool.WORTH) == min(cores, pool.MOST)
