"""Patients: the processes of the surgical killer, forked: a victim, and a worker that rescues."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Final

from chaos.engine import look_up
from chaos.faultpoints import Doom
from qfarm import config
from qfarm.store import open_store
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.attempt import Worker
from qfarm_workers import loop
from qfarm_workers.identity import gone, this_process

PARTITION: Final = "local"
ELSEWHERE: Final = "another-host"
GATE: Final = "gate"
"""File: while it is there, the rescuer claims nothing, so that the task is the victim's alone."""


class Gated:
    """A store that gives no work while the gate is closed, and never says that all is done."""

    def __init__(self, store: Any, gate: Path) -> None:
        self._store = store
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, *arguments: Any) -> Any:
        return None if self._gate.exists() else self._store.claim(*arguments)

    def claim_many(self, *arguments: Any) -> Any:
        return () if self._gate.exists() else self._store.claim_many(*arguments)

    def busy(self, *_: Any) -> bool:
        return True


def victim(folder: str, doom: dict[str, Any] | None, dooms: str, elsewhere: bool) -> int:
    """A worker that is doomed from the moment on when its store is open."""
    if elsewhere:
        _patch("this_process", _on_another_host)

    @contextmanager
    def opened(uri: str, database: str) -> Iterator[Any]:
        with open_store(uri, database) as store:
            if doom is not None:
                Doom(**doom).order(Path(dooms), os.getpid())
            yield store

    _patch("open_store", opened)
    loop.work(folder, PARTITION, "victims", "victim", look_up)
    return 0


def rescuer(folder: str, reap: float, longest_wait: float) -> int:
    """A reaper and a worker, as in any launcher; both run all the time."""
    gate = Path(folder) / GATE
    _patch("LONGEST_WAIT", longest_wait)

    @contextmanager
    def opened(uri: str, database: str) -> Iterator[Any]:
        with open_store(uri, database) as store:
            yield Gated(store, gate)

    _patch("open_store", opened)
    Thread(target=_reap, args=(folder, reap), daemon=True).start()
    loop.work(folder, PARTITION, "rescuers", "rescuer", look_up)
    return 0


def _reap(folder: str, every: float) -> None:
    farm = config.load(Path(folder))
    with open_store(config.mongo_uri(farm), farm.config.mongo.database) as store:
        me = this_process("reaper", PARTITION, "rescuers")
        reaper = Reaper(store, me, look_up, farm.config.lease.heartbeat)
        while True:
            reaper.reap(gone)
            time.sleep(every)


def _on_another_host(name: str, partition: str, job: str) -> Worker:
    return this_process(name, partition, job).model_copy(update={"host": ELSEWHERE})


def _patch(name: str, value: object) -> None:
    """Exchange a name of the pull loop, in this forked process alone."""
    setattr(loop, name, value)
