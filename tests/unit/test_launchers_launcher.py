"""The launcher's decisions: when it ends, drains, kills; pools and stores are small stand-ins."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from qfarm.errors import StoreError
from qfarm.store.protocol import StageCount, StageState, Store
from qfarm_launchers import launcher
from qfarm_launchers.interrupts import Interrupts
from qfarm_launchers.launcher import Ending, Launcher, Look
from qfarm_launchers.reaper import Reaper
from qfarm_workers.identity import this_process
from support.engines import look_up

HEARTBEAT = 10.0


def counts(**numbers: int) -> tuple[StageCount, ...]:
    return tuple(StageCount("sp", StageState(name), number) for name, number in numbers.items())


@dataclass
class Board:
    """The few things of a store that a launcher asks for."""

    drained: list[str] = field(default_factory=list)
    away: int = 0
    seizures: int = 0

    def counts(self) -> tuple[StageCount, ...]:
        if self.away:
            self.away -= 1
            raise StoreError("MongoDB does not answer")
        return counts(done=1)

    def running(self) -> tuple[()]:
        return ()

    def ask_drain(self, name: str) -> None:
        self.drained.append(name)

    def take_over(self, gone: Callable[[Any], bool], worker: object, watch: float) -> list[object]:
        assert watch == 2 * HEARTBEAT
        self.seizures += 1
        return []


@dataclass
class ScriptedPool:
    """Runs through a list of numbers of loops; a callable acts first."""

    script: list[int | Callable[[], int]]
    killed: bool = False

    def tend(self) -> int:
        step = self.script.pop(0)
        return step if isinstance(step, int) else step()

    def kill(self) -> None:
        self.killed = True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(launcher, "_NAP_SECONDS", 0.001)


def start(board: Board, pool: ScriptedPool) -> tuple[Ending, list[Look]]:
    looks: list[Look] = []
    store = cast(Store, board)
    reaper = Reaper(store, this_process("me", job="run-1"), look_up, HEARTBEAT)
    with Interrupts() as interrupts:
        ending = Launcher(store, pool, reaper, looks.append).run(interrupts)
    return ending, looks


def press(*numbers: signal.Signals) -> Callable[[], int]:
    def act() -> int:
        for number in numbers:
            os.kill(os.getpid(), number)
        return 1

    return act


def test_it_ends_with_the_last_loop() -> None:
    ending, looks = start(Board(), ScriptedPool([2, 1, 0]))
    assert ending == Ending(counts(done=1))
    assert [look.loops for look in looks] == [2, 1, 0]


def test_the_first_interrupt_drains_and_waits() -> None:
    board, pool = Board(), ScriptedPool([1, press(signal.SIGINT), 1, 1, 0])
    ending, looks = start(board, pool)
    assert board.drained == ["run-1"]
    assert not pool.killed
    assert pool.script == []
    assert looks[-1].draining
    assert ending.exit_code == 130


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,), (signal.SIGHUP,)]
)
def test_the_second_interrupt_kills_and_reaps(signals: tuple[signal.Signals, ...]) -> None:
    board, pool = Board(), ScriptedPool([press(*signals), 1, 1])
    ending, _ = start(board, pool)
    assert pool.killed
    assert board.seizures >= 1
    assert ending.exit_code == 130


def test_handlers_are_put_back_and_nohup_is_respected() -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is not before
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_outage_is_shown_and_borne() -> None:
    board = Board(away=2)
    ending, looks = start(board, ScriptedPool([1, 1, 1, 0]))
    assert [bool(look.trouble) for look in looks] == [True, True, False, False]
    assert ending.exit_code == 0


def test_an_error_of_a_loop_ends_the_run_and_kills_the_others() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    pool = ScriptedPool([1, fail])
    with pytest.raises(ZeroDivisionError):
        start(Board(), pool)
    assert pool.killed


@pytest.mark.parametrize(
    ("numbers", "stopped", "code"),
    [
        ({"done": 3}, False, 0),
        ({"done": 3, "cancelled": 1}, False, 0),
        ({}, False, 0),
        ({"done": 3, "failed": 1}, False, 3),
        ({"done": 3, "ready": 1}, False, 3),
        ({"done": 3, "waiting": 1}, False, 3),
        ({"done": 3}, True, 130),
    ],
)
def test_exit_codes(numbers: dict[str, int], stopped: bool, code: int) -> None:
    assert Ending(counts(**numbers), stopped).exit_code == code
