"""Who a worker is, and when it is known to be dead."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psutil

from qfarm_workers.identity import CLOCK_TOLERANCE, gone, this_process
from support.wait import until


def test_this_process_lives() -> None:
    me = this_process("me", "local", "run-1")
    assert (me.name, me.partition, me.job) == ("me", "local", "run-1")
    assert me.pid == psutil.Process().pid
    assert not gone(me)


def test_another_host_is_never_known_to_be_dead() -> None:
    me = this_process("me")
    assert not gone(me.model_copy(update={"host": "elsewhere", "pid": 2**22 + 1}))


def test_a_pid_that_was_used_again_is_another_process() -> None:
    me = this_process("me")
    earlier = me.started - timedelta(seconds=CLOCK_TOLERANCE + 1)
    assert gone(me.model_copy(update={"started": earlier}))
    corrected = me.started - timedelta(seconds=CLOCK_TOLERANCE - 1)
    assert not gone(me.model_copy(update={"started": corrected}))


def test_a_dead_process_is_gone_also_while_it_is_a_zombie() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me = this_process("me")
    worker = me.model_copy(update={"pid": child.pid, "started": _started(child.pid)})
    assert not gone(worker)
    child.kill()
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert gone(worker)
    child.communicate()
    assert gone(worker)


def _started(pid: int) -> datetime:
    return datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC)
