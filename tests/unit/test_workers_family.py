"""The descendants of a process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from qfarm_workers.family import descendants

BY_A_THREAD = """\
import subprocess, sys, threading
def start():
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    child.wait()
threading.Thread(target=start).start()
"""

BY_A_SHELL = """\
import subprocess
shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"])
shell.wait()
"""


@contextmanager
def family(code: str) -> Iterator[tuple[psutil.Process, psutil.Process]]:
    """A process that runs the code, and that whose pid it prints."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        youngest = psutil.Process(int(one.stdout.readline()))
        yield psutil.Process(one.pid), youngest
        youngest.kill()
        one.kill()


def test_children_of_children_are_found() -> None:
    with family(BY_A_SHELL) as (process, sleep):
        assert descendants(process) == [sleep.parent(), sleep]


def test_children_that_a_thread_has_started_are_found() -> None:
    with family(BY_A_THREAD) as (process, sleep):
        assert descendants(process) == [sleep]


def test_what_has_ended_has_none() -> None:
    one = subprocess.Popen(["true"])
    process = psutil.Process(one.pid)
    one.wait()
    assert descendants(process) == []
