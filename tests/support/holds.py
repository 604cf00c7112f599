"""Workers that die with a hold on a stage, between the two steps of a claim."""

import subprocess
import sys

import pytest

from qfarm.store.protocol import Store
from qfarm.store.queue import Queue
from qfarm_schemas.attempt import Worker
from qfarm_workers.identity import this_process
from support.work import LEASE


class Killed(BaseException):
    """Stands for a SIGKILL between the hold and the claim."""


def dead_process() -> Worker:
    """A worker of this host whose process has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return this_process("dead").model_copy(update={"pid": process.pid})


def hold(store: Store, who: Worker) -> None:
    """Die, as `who`, with a hold on the first ready stage."""

    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queue, "_settle", die)
        with pytest.raises(Killed):
            store.claim(who, LEASE)
