"""The pull loop on a real MongoDB with real processes: every way an attempt can end."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from pymongo.database import Database

from qfarm.errors import ScratchFullError
from qfarm.store.fleet import Standing
from qfarm.store.protocol import Claim, Selection, StageState
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.config import Partition, Policy, Stage
from qfarm_schemas.failure import FailureKind
from qfarm_workers.guide import ByLauncher
from qfarm_workers.identity import gone, this_process
from qfarm_workers.orders import wish_of
from qfarm_workers.process import EngineProcess
from qfarm_workers.scratch import Scratch
from support import build, engines, wait
from support.loops import LEASE, Farm, farm
from support.lpad import raw

__all__ = ["farm", "raw"]


def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def gated(tmp_path: Path, **fields: Any) -> Stage:
    return engines.stage("gated", options={"gate": str(gate(tmp_path))}, **fields)


def opened(tmp_path: Path) -> int:
    """Pid of the program that waits at the gate."""
    pid = gate(tmp_path).with_suffix(".pid")
    wait.until(pid.exists)
    return int(pid.read_text())


def test_two_stages_end_with_two_records(farm: Farm) -> None:
    fragment = farm.submit(
        engines.stage("good", name="first"), engines.stage("good", name="second")
    )
    assert farm.work() == 2
    assert farm.states(fragment) == [StageState.DONE] * 2
    records = list(farm.store.records(Selection()))
    assert [record.stage for record in records] == ["first", "second"]
    view = farm.view(fragment)
    record, attempt = records[0], farm.attempts(fragment)[0]
    assert record.fragment_id == fragment
    assert record.level == view.stages[record.key].level
    assert record.provenance.cost == attempt.cost
    assert record.provenance.qfarm_version
    assert all(check.passed for check in attempt.checks)
    assert attempt.cost.wall_seconds > 0
    assert attempt.cost.peak_memory_mb > 1
    assert farm.work() == 0


def test_scratch_of_a_success_is_removed_and_of_a_failure_kept(farm: Farm) -> None:
    farm.submit(engines.stage("good"))
    failed = farm.submit(engines.stage("crash", policy=Policy(node=1)))
    farm.work()
    folders = [path for path in farm.scratch.root.iterdir() if path.is_dir()]
    outcome = farm.outcomes(failed)[0]
    assert isinstance(outcome, Failure)
    assert [str(folder) for folder in folders] == [outcome.evidence["scratch folder"]]
    assert "a broken engine" in (folders[0] / "stderr.txt").read_text()


@pytest.mark.parametrize(
    ("program", "kind", "says"),
    [
        ("crash", FailureKind.CRASHED, "a broken engine"),
        ("segfault", FailureKind.CRASHED, "SIGSEGV"),
        ("nothing", FailureKind.CRASHED, "without a result"),
        ("disk_full", FailureKind.SCRATCH_FULL, "No space left"),
        ("no_library", FailureKind.ENGINE_MISSING, "a_library_that_is_not_there"),
        ("command-missing", FailureKind.ENGINE_MISSING, "an-executable-that-is-not-there"),
        ("poison-write", FailureKind.CRASHED, "a poisonous fragment"),
        ("hello", FailureKind.CRASHED, "a poisonous output"),
    ],
)
def test_bad_ends_cost_the_node_budget_and_never_the_loop(
    farm: Farm, program: str, kind: FailureKind, says: str
) -> None:
    bad = farm.submit(engines.stage(program, policy=Policy(node=2)))
    good = farm.submit(engines.stage("good"))
    assert farm.work() == 3
    assert farm.kinds(bad) == [kind, kind]
    assert says in farm.outcomes(bad)[0].model_dump_json()
    assert farm.states(bad) == [StageState.FAILED]
    assert farm.states(good) == [StageState.DONE]
    row = farm.view(bad).rows[0]
    assert row.reason
    assert row.remedy


def test_a_full_disk_stops_the_worker_before_it_fails_the_queue(farm: Farm) -> None:
    queue = [farm.submit(engines.stage("disk_full", policy=Policy(node=1))) for _ in range(4)]
    with pytest.raises(ScratchFullError, match=r"scratch .* is full"):
        farm.work()
    states = [farm.states(fragment)[0] for fragment in queue]
    assert states == [StageState.FAILED] * 2 + [StageState.READY] * 2


def test_nothing_is_claimed_without_room(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    fragment = farm.submit(engines.stage("good"))
    monkeypatch.setattr(Scratch, "free_mb", lambda _: 10.0)
    with pytest.raises(ScratchFullError, match="10 MB free"):
        farm.work()
    assert farm.states(fragment) == [StageState.READY]
    assert farm.attempts(fragment) == []


def test_time_limit(farm: Farm) -> None:
    slow = farm.submit(engines.stage("sleep", time_limit=0.4, policy=Policy(node=1)))
    farm.work()
    outcome = farm.outcomes(slow)[0]
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.TIME_LIMIT
    assert outcome.evidence["time limit, s"] == 0.4


def test_memory_limit(farm: Farm) -> None:
    large = farm.submit(engines.stage("eat_memory", memory_mb=200, policy=Policy(node=1)))
    farm.work()
    outcome = farm.outcomes(large)[0]
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.OUT_OF_MEMORY
    assert outcome.evidence["memory limit, MB"] == 200
    assert farm.attempts(large)[0].cost.peak_memory_mb > 200


def test_what_is_too_large_for_a_partition_is_left_to_one_with_more_memory(farm: Farm) -> None:
    """It was given up, and `qfarm retry` sent it to the same partition again."""
    small, big = Partition(name="local", memory_mb=200), Partition(name="big", memory_mb=4000)
    farm.partition, farm.partitions = small, (small, big)
    large = farm.submit(engines.stage("eat_memory", memory_mb=4000))
    at_work = Standing("big", alive=True)
    guide = ByLauncher(farm.store, "run-1", wish_of(small, (small, big), [at_work], {}))
    assert farm.loop(guide=guide).run() == 1
    assert farm.kinds(large) == [FailureKind.OUT_OF_MEMORY]
    outcome = farm.outcomes(large)[0]
    assert isinstance(outcome, Failure)
    assert outcome.evidence["partitions with more"] == "big"
    assert farm.states(large) == [StageState.READY]
    claim = farm.store.claim(this_process("w", "big"), 60.0)
    assert isinstance(claim, Claim)
    assert claim.history == tuple(farm.attempts(large))


def test_a_killed_engine_is_tried_again(farm: Farm, tmp_path: Path) -> None:
    fragment = farm.submit(gated(tmp_path))
    thread = farm.start()
    os.kill(opened(tmp_path), signal.SIGKILL)
    gate(tmp_path).touch()
    thread.join(20)
    assert farm.kinds(fragment) == [FailureKind.CRASHED, None]
    assert isinstance(farm.outcomes(fragment)[1], Success)


def test_a_killed_supervisor_costs_one_attempt(farm: Farm, tmp_path: Path) -> None:
    fragment = farm.submit(gated(tmp_path))
    thread = farm.start()
    child = opened(tmp_path)
    os.kill(farm.process.pid or 0, signal.SIGKILL)
    gate(tmp_path).touch()
    thread.join(20)
    wait.gone(child)
    assert farm.kinds(fragment) == [FailureKind.CRASHED, None]


def test_a_lease_outlives_a_long_attempt(farm: Farm, tmp_path: Path) -> None:
    fragment = farm.submit(gated(tmp_path))
    thread = farm.start()
    opened(tmp_path)
    wait.until(lambda: farm.store.running()[0].rung is not None)
    first = farm.store.running()[0]
    wait.until(lambda: farm.store.running()[0].lease_ends > first.lease_ends)
    assert not list(farm.store.take_over(gone, this_process("reaper")))
    gate(tmp_path).touch()
    thread.join(20)
    assert farm.kinds(fragment) == [None]


def test_cancel_kills_the_attempt(farm: Farm, tmp_path: Path) -> None:
    fragment = farm.submit(gated(tmp_path))
    thread = farm.start()
    child = opened(tmp_path)
    assert farm.store.cancel(Selection()) == 1
    wait.gone(child)
    thread.join(20)
    assert farm.states(fragment) == [StageState.CANCELLED]
    assert list(farm.store.records(Selection())) == []


def test_a_lease_that_another_took_kills_the_attempt(farm: Farm, tmp_path: Path) -> None:
    fragment = farm.submit(gated(tmp_path))
    thread = farm.start()
    child = opened(tmp_path)
    taken = list(farm.store.take_over(lambda _: True, this_process("thief")))
    assert len(taken) == 1
    wait.gone(child)
    reaper = Reaper(farm.store, this_process("reaper"), engines.look_up, 10)
    assert len(reaper.reap(lambda _: True)) == 1
    gate(tmp_path).touch()
    thread.join(20)
    assert farm.kinds(fragment) == [FailureKind.LOST_WORKER, None]
    assert len(list(farm.store.records(Selection()))) == 1


def test_reaping_writes_in_the_name_of_the_dead(farm: Farm) -> None:
    fragment = farm.submit(engines.stage("good"))
    dead = build.WORKER.model_copy(update={"partition": "local"})
    claimed = farm.store.claim(dead, 60)
    assert isinstance(claimed, Claim)
    reaper = Reaper(farm.store, this_process("reaper", job="run-2"), engines.look_up, 10)
    assert reaper.reap(lambda _: False) == []
    ended = reaper.reap(lambda worker: worker == dead)
    assert [attempt.worker for attempt in ended] == [dead]
    assert farm.kinds(fragment) == [FailureKind.LOST_WORKER]
    assert reaper.reap(lambda _: True) == []
    assert farm.work() == 1
    assert farm.kinds(fragment) == [FailureKind.LOST_WORKER, None]


def test_an_attempt_that_the_user_killed_costs_nothing(farm: Farm) -> None:
    fragment = farm.submit(engines.stage("good", policy=Policy(infrastructure=1)))
    worker = this_process("w", job="run-1")
    claimed = farm.store.claim(worker, 60)
    assert isinstance(claimed, Claim)
    reaper = Reaper(farm.store, this_process("me", job="run-1"), engines.look_up, 10, killed=True)
    reaper.reap(lambda _: True)
    assert farm.kinds(fragment) == [FailureKind.INTERRUPTED]
    farm.work()
    assert farm.states(fragment) == [StageState.DONE]


def test_drained_loops_claim_nothing(farm: Farm) -> None:
    fragment = farm.submit(engines.stage("good"))
    farm.store.ask_drain("run-1")
    assert farm.work() == 0
    assert farm.states(fragment) == [StageState.READY]


def test_a_loop_waits_for_what_another_may_release(farm: Farm, tmp_path: Path) -> None:
    fragment = farm.submit(gated(tmp_path, name="first"), engines.stage("good", name="second"))
    other = this_process("other")
    claimed = farm.store.claim(other, 60)
    assert isinstance(claimed, Claim)
    thread = farm.start()
    thread.join(1.0)
    assert thread.is_alive()
    gate(tmp_path).touch()
    Reaper(farm.store, other, engines.look_up, 10).reap(lambda worker: worker == other)
    thread.join(20)
    assert farm.states(fragment) == [StageState.DONE] * 2


def test_an_outage_longer_than_the_lease_costs_nothing(
    farm: Farm, tmp_path: Path, raw: Database[dict[str, Any]]
) -> None:
    fragment = farm.submit(gated(tmp_path))
    thread = farm.start()
    opened(tmp_path)
    reaper = Reaper(farm.store, this_process("reaper"), engines.look_up, LEASE.heartbeat)
    server = int(raw.client.admin.command("serverStatus")["pid"])
    os.kill(server, signal.SIGSTOP)
    try:
        Event().wait(3 * LEASE.seconds)
    finally:
        os.kill(server, signal.SIGCONT)
    ended = [reaper.reap(gone)]
    for _ in range(10):
        Event().wait(LEASE.heartbeat / 2)
        ended.append(reaper.reap(gone))
    gate(tmp_path).touch()
    thread.join(20)
    assert not any(ended)
    assert farm.kinds(fragment) == [None]


def test_stages_of_another_partition_do_not_hold_the_loop(farm: Farm) -> None:
    fragment = farm.submit(engines.stage("good", partition="gpu"))
    assert farm.work() == 0
    assert farm.states(fragment) == [StageState.READY]


def test_one_line_an_attempt(farm: Farm, mongo_uri: str) -> None:
    fragment = farm.submit(engines.stage("good"))
    farm.submit(engines.stage("crash", policy=Policy(node=1)))
    farm.work()
    text = (farm.folder / "log.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["outcome"], line["then"]) for line in lines] == [
        ("success", "done"),
        ("crashed", "giveup"),
    ]
    assert lines[0]["fragment"] == fragment
    assert mongo_uri not in text


def test_geometry_of_the_first_stage_reaches_the_second(farm: Farm) -> None:
    fragment = farm.submit(
        engines.stage("good", name="first"), engines.stage("good", name="second")
    )
    farm.work()
    first, second = farm.store.records(Selection())
    assert np.array_equal(first.result.positions, second.result.positions)
    assert farm.states(fragment) == [StageState.DONE] * 2


def test_several_loops_share_the_work(farm: Farm, mongo_uri: str) -> None:
    fragments = [farm.submit(engines.stage("good")) for _ in range(12)]
    done: list[int] = []
    ready = Event()

    def work(number: int) -> None:
        with EngineProcess(farm.folder / f"slot{number}", threads=1) as process:
            ready.wait()
            loop = farm.loop(f"w{number}")
            loop.bench = replace(loop.bench, process=process)
            done.append(loop.run())

    threads = [Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    ready.set()
    for thread in threads:
        thread.join(60)
    assert sum(done) == 12
    assert all(farm.kinds(fragment) == [None] for fragment in fragments)
    assert len(list(farm.store.records(Selection()))) == 12
