"""Batches of short attempts: few calls of the store, and no harm to what waits in one."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest

from qfarm.errors import ScratchFullError, StoreError
from qfarm.store.protocol import Selection, StageState
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.config import LeaseConfig, Policy, Stage
from qfarm_schemas.failure import FailureKind
from qfarm_workers import attempt, batch, guide, loop
from qfarm_workers.identity import this_process
from qfarm_workers.lifetime import Lifetime
from qfarm_workers.process import EngineProcess
from support import engines, wait
from support.loops import Farm, Watched, farm

__all__ = ["farm"]

SHORT = [0.05] * 8
DONE, READY, RUNNING = StageState.DONE, StageState.READY, StageState.RUNNING


@pytest.fixture
def watched(farm: Farm) -> Watched:
    """The store of the farm, whose leases are as long as users have them."""
    farm.lease = LeaseConfig()
    return farm.watch()


def submit(farm: Farm, count: int, *stages: Stage) -> list[str]:
    return [farm.submit(*(stages or (engines.stage("good"),))) for _ in range(count)]


def gated(tmp_path: Path) -> Stage:
    return engines.stage("gated", options={"gate": str(tmp_path / "gate")})


def opened(tmp_path: Path) -> None:
    wait.until((tmp_path / "gate.pid").exists)


def states(farm: Farm, fragments: list[str]) -> list[StageState]:
    return [farm.states(fragment)[0] for fragment in fragments]


def run(farm: Farm) -> Thread:
    thread = Thread(target=farm.loop(recent=SHORT).run)
    thread.start()
    return thread


def test_short_attempts_are_claimed_and_committed_together(farm: Farm, watched: Watched) -> None:
    first, second = (engines.stage("good", name=name) for name in ("first", "second"))
    fragments = submit(farm, 10, first, second)
    assert farm.loop().run() == 20
    assert all(farm.states(fragment) == [DONE] * 2 for fragment in fragments)
    assert all(farm.kinds(fragment) == [None] * 2 for fragment in fragments)
    assert watched.limits[0] == 1
    assert 1 < max(watched.limits) <= batch.MOST
    assert len(watched.commits) <= 12
    assert watched.beats < 20
    for keys in watched.commits:
        assert len({key.partition(".")[0] for key in keys}) == len(keys)


def test_after_a_crash_stages_are_claimed_one_by_one(farm: Farm, watched: Watched) -> None:
    once = engines.stage("segfault", policy=Policy(node=1))
    ill = submit(farm, 4, once)
    fragments = submit(farm, 3)
    assert farm.loop(recent=SHORT).run() == 7
    assert all(farm.kinds(fragment) == [FailureKind.CRASHED] for fragment in ill)
    assert states(farm, fragments) == [DONE] * 3
    assert watched.limits[:5] == [batch.MOST, 1, 1, 1, 1]
    assert len(watched.released) == 6  # what the first batch had besides


def test_a_long_attempt_hurts_none_of_its_batch(
    farm: Farm, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "PATIENCE", 0.5)
    fragments = [*submit(farm, 2), farm.submit(gated(tmp_path)), *submit(farm, 3)]
    thread = run(farm)
    opened(tmp_path)
    wait.until(lambda: len(watched.released) == 3)
    assert states(farm, fragments) == [DONE, DONE, RUNNING, READY, READY, READY]
    with EngineProcess(tmp_path / "other", threads=1) as process:
        other = farm.loop("other")
        other.bench = replace(other.bench, process=process)
        helper = Thread(target=other.run)
        helper.start()
        wait.until(lambda: states(farm, fragments) == [DONE, DONE, RUNNING, DONE, DONE, DONE])
        (tmp_path / "gate").touch()
        thread.join(20)
        helper.join(20)
    assert [farm.kinds(fragment) for fragment in fragments] == [[None]] * 6
    assert not list(farm.store.running())


def test_a_drain_ends_the_batch(
    farm: Farm, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guide, "LOOK_SECONDS", 0.0)
    fragments = [*submit(farm, 1), farm.submit(gated(tmp_path)), *submit(farm, 3)]
    thread = run(farm)
    opened(tmp_path)
    farm.store.ask_drain("run-1")
    (tmp_path / "gate").touch()
    thread.join(20)
    assert states(farm, fragments) == [DONE, DONE, READY, READY, READY]
    assert [farm.kinds(fragment) for fragment in fragments] == [[None]] * 2 + [[]] * 3


def test_the_end_of_a_life_ends_the_batch(
    farm: Farm, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragments = submit(farm, 4)
    worker, run = farm.loop(recent=SHORT), attempt.run

    def grow_old(*arguments: Any) -> Any:
        finished = run(*arguments)
        worker.bench = replace(worker.bench, lifetime=Lifetime(100.0, monotonic() - 99.0))
        return finished

    monkeypatch.setattr(attempt, "run", grow_old)
    assert worker.run() == 1
    assert worker.outlived
    assert states(farm, fragments) == [DONE, READY, READY, READY]


def test_a_full_disk_in_a_batch_fails_two_and_not_the_batch(farm: Farm, watched: Watched) -> None:
    full = engines.stage("disk_full", policy=Policy(node=1))
    fragments = submit(farm, 6, full)
    with pytest.raises(ScratchFullError):
        farm.loop(recent=SHORT).run()
    assert states(farm, fragments) == [StageState.FAILED] * 2 + [READY] * 4


def test_an_exception_keeps_what_is_finished_and_gives_back_the_rest(
    farm: Farm, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragments = submit(farm, 5)
    prepare, calls = attempt.prepare, iter(range(9))

    def stumble(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return prepare(*arguments)

    monkeypatch.setattr(attempt, "prepare", stumble)
    with pytest.raises(KeyboardInterrupt):
        farm.loop(recent=SHORT).run()
    assert states(farm, fragments) == [DONE, DONE, RUNNING, READY, READY]
    assert len(watched.commits) == 1


def test_finished_attempts_do_not_wait_for_the_rest_of_a_slow_batch(
    farm: Farm, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "SECONDS", 0.0)
    monkeypatch.setattr(batch, "size", lambda _: 4)
    submit(farm, 4)
    assert farm.loop().run() == 4
    assert [len(keys) for keys in watched.commits] == [1, 1, 1, 1]
    assert watched.released == []


def test_a_batch_that_takes_too_long_is_broken_off_between_attempts(
    farm: Farm, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody prolongs the leases of what waits."""
    monkeypatch.setattr(batch, "PATIENCE", 0.0)
    monkeypatch.setattr(batch, "size", lambda _: 4)
    monkeypatch.setattr(loop, "Heartbeat", lambda *_, **__: nullcontext())
    fragments = submit(farm, 4)
    assert farm.loop().run() == 4
    assert [len(keys) for keys in watched.commits] == [1, 1, 1, 1]
    assert len(watched.released) == 3 + 2 + 1
    assert [farm.kinds(fragment) for fragment in fragments] == [[None]] * 4


def test_a_thief_gets_all_of_the_batch_and_nothing_runs_twice(
    farm: Farm, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the worker was paused for longer than its leases."""
    monkeypatch.setattr(batch, "PATIENCE", 0.5)
    fragments = [*submit(farm, 1), farm.submit(gated(tmp_path)), *submit(farm, 2)]
    thread = run(farm)
    opened(tmp_path)
    farm.store.ask_drain("run-1")
    reaper = Reaper(farm.store, this_process("reaper"), engines.look_up, 10)
    assert len(reaper.reap(lambda _: True)) == 4
    thread.join(20)
    (tmp_path / "gate").touch()
    assert states(farm, fragments) == [READY] * 4
    lost = [FailureKind.LOST_WORKER]
    assert [farm.kinds(fragment) for fragment in fragments] == [lost] * 4
    assert not list(farm.store.records(Selection()))


def test_stages_whose_worker_was_lost_are_attempted_alone(farm: Farm, watched: Watched) -> None:
    lost = submit(farm, 3)
    farm.store.claim_many(this_process("dead"), 60, 3)
    Reaper(farm.store, this_process("reaper"), engines.look_up, 10).reap(lambda _: True)
    watched.commits.clear()
    watched.limits.clear()
    sound = submit(farm, 4)
    assert farm.loop(recent=SHORT).run() == 7
    assert [len(keys) for keys in watched.commits][:4] == [1, 1, 1, 1]
    assert len(watched.commits) < 7
    assert watched.limits[:3] == [batch.MOST, 1, 1]
    assert all(farm.kinds(fragment) == [FailureKind.LOST_WORKER, None] for fragment in lost)
    assert all(farm.kinds(fragment) == [None] for fragment in sound)


def test_an_outage_in_a_batch_costs_nothing(farm: Farm, watched: Watched) -> None:
    fragments = submit(farm, 4)
    failed = Event()

    def away(call: str) -> None:
        if call == "commit" and not failed.is_set():
            failed.set()
            raise StoreError("MongoDB does not answer")

    watched.before = away
    assert farm.loop(recent=SHORT).run() == 4
    assert failed.is_set()
    assert [farm.kinds(fragment) for fragment in fragments] == [[None]] * 4
