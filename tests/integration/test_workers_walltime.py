"""Attempts that are longer than a worker's life: soft stops, restart files, chains of workers."""

from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from qfarm.engines.base import Site
from qfarm.sites import Missing
from qfarm.store.protocol import Claim, Selection, StageState
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Partition, Policy
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.record import Record
from qfarm_workers import attempt
from qfarm_workers.bench import Place
from qfarm_workers.identity import this_process
from qfarm_workers.prepare import Prepared
from support import build, engines, steps, wait
from support.loops import Farm, farm

__all__ = ["farm"]

WALLTIME, TIME_LIMIT = FailureKind.WALLTIME, FailureKind.TIME_LIMIT
SHORT = Partition(walltime=2.4)
"""Attempts end after 2.16 s and are asked to after 1.16 s; below 0.48 s none begins."""


def record(farm: Farm) -> Record:
    (only,) = farm.store.records(Selection())
    return only


def began_at(farm: Farm) -> int:
    """Step from which the accepted attempt went on."""
    return int(record(farm).result.engine_version.removeprefix("from "))


def failures(farm: Farm, fragment: str) -> list[Failure]:
    return [one for one in farm.outcomes(fragment) if isinstance(one, Failure)]


def test_a_chain_of_short_lives_ends_with_a_record(farm: Farm) -> None:
    """The engine calls a stop an unconverged SCF; one such failure would end the stage."""
    farm.partition = SHORT
    fragment = farm.submit(steps.stage(15, policy=Policy(chemistry=1, node=1)))
    first = farm.loop("first")
    assert first.run() == 1
    assert first.outlived
    second = farm.loop("second")
    assert second.run() == 1
    assert not second.outlived
    assert farm.kinds(fragment) == [WALLTIME, None]
    assert began_at(farm) > 3
    assert [one.continued_from for one in farm.attempts(fragment)] == [None, 1]
    assert farm.attempts(fragment)[1].rung == farm.attempts(fragment)[0].rung
    assert not list(farm.restarts.root.iterdir())


def test_what_was_stopped_keeps_the_checks_and_what_the_engine_said(farm: Farm) -> None:
    farm.partition = SHORT
    fragment = farm.submit(steps.stage(100))
    farm.work()
    stopped = farm.attempts(fragment)[0]
    (failure,) = failures(farm, fragment)
    assert [check.name for check in stopped.checks] == ["exit code", "stale files", "end"]
    assert [check.passed for check in stopped.checks] == [True, True, False]
    assert failure.checks == ()
    assert "scf-not-converged" in str(failure.evidence["the engine said"])
    assert "asked to stop" in failure.cause
    assert farm.states(fragment) == [StageState.READY]


def test_a_program_that_does_not_stop_is_killed_and_goes_on_all_the_same(farm: Farm) -> None:
    farm.partition = SHORT
    fragment = farm.submit(steps.stage(30, obedient=False))
    farm.work()
    assert farm.kinds(fragment) == [WALLTIME]
    assert "was killed" in failures(farm, fragment)[0].cause
    farm.work()
    assert farm.kinds(fragment) == [WALLTIME, None]
    assert began_at(farm) > 10


def test_a_result_that_is_complete_in_time_is_no_failure(farm: Farm) -> None:
    """It was asked to stop, and ended before it read that."""
    farm.partition = SHORT
    fragment = farm.submit(steps.stage(13, obedient=False))
    farm.work()
    assert farm.kinds(fragment) == [None]
    assert farm.states(fragment) == [StageState.DONE]


def test_the_stages_own_limit_is_not_the_walltime(farm: Farm) -> None:
    farm.partition = Partition(walltime=60)
    fragment = farm.submit(steps.stage(100, time_limit=1.6))
    farm.work()
    assert farm.kinds(fragment) == [TIME_LIMIT]
    assert farm.states(fragment) == [StageState.FAILED]
    assert farm.store.retry(Selection()) == 1
    farm.work()
    said = [str(one.evidence["began"]) for one in failures(farm, fragment)]
    assert said[0] == "from 0"
    assert int(said[1].removeprefix("from ")) > 3, "a retry goes on where it stopped"


def test_what_never_fits_ends_with_the_infrastructure_budget(farm: Farm) -> None:
    farm.partition = Partition(walltime=1.0)
    stage = steps.stage(100, obedient=False, policy=Policy(infrastructure=2))
    fragment = farm.submit(stage)
    while farm.states(fragment) != [StageState.FAILED]:
        farm.work()
    assert farm.kinds(fragment) == [WALLTIME, WALLTIME]
    assert "infrastructure budget" in farm.view(fragment).rows[0].reason


def test_an_old_loop_claims_nothing(farm: Farm) -> None:
    farm.partition = SHORT
    fragment = farm.submit(steps.stage(1))
    loop = farm.loop()
    life = loop.bench.lifetime
    loop.bench = replace(loop.bench, lifetime=replace(life, began=life.began - 2))
    assert loop.run() == 0
    assert loop.outlived
    assert farm.states(fragment) == [StageState.READY]
    fresh = farm.loop()
    assert fresh.run() == 1
    assert not fresh.outlived


def take(farm: Farm, name: str = "w") -> Claim:
    claim = farm.store.claim(this_process(name), 60)
    assert isinstance(claim, Claim)
    return claim


def prepare(farm: Farm, claim: Claim) -> Prepared:
    prepared = attempt.prepare(claim, farm.bench())
    assert isinstance(prepared, Prepared)
    return prepared


def test_a_killed_worker_does_not_lose_what_was_saved_before(farm: Farm) -> None:
    farm.partition = SHORT
    fragment = farm.submit(steps.stage(15))
    farm.work()
    lost = take(farm)
    reaper = Reaper(farm.store, this_process("reaper"), steps.look_up, 10)
    assert len(reaper.reap(lambda _: True)) == 1
    assert lost.number == 2
    farm.work()
    assert farm.kinds(fragment) == [WALLTIME, FailureKind.LOST_WORKER, None]
    assert began_at(farm) > 3


def test_a_worker_that_lost_its_lease_saves_nothing(farm: Farm) -> None:
    farm.partition = SHORT
    farm.submit(steps.stage(100))
    stop = Event()
    prepared = prepare(farm, take(farm))
    ended: list[Any] = []
    thread = Thread(target=lambda: ended.append(attempt.run(prepared, farm.bench(), stop)))
    thread.start()
    wait.until(lambda: list(farm.scratch.root.glob("*/reached.state")))
    stop.set()
    thread.join(20)
    assert ended == [None]
    assert not farm.restarts.root.exists()


def test_nothing_is_saved_by_an_attempt_that_ends_after_its_lease(farm: Farm) -> None:
    site = Site(command=("sh", "-c", "echo 5 > reached.state"))
    farm.places = lambda *_: Place(site)
    farm.submit(steps.stage(1))
    stop = Event()
    stop.set()
    attempt.run(prepare(farm, take(farm)), farm.bench(), stop)
    assert not farm.restarts.root.exists()


def test_a_full_disk_costs_the_restart_and_nothing_else(farm: Farm) -> None:
    farm.partition = SHORT
    fragment = farm.submit(steps.stage(100))
    (farm.folder / "restart").write_text("a file where the folder should be")
    farm.work()
    assert farm.kinds(fragment) == [WALLTIME]
    assert "restart files could not be saved" in (farm.folder / "log.jsonl").read_text()


def test_restart_files_that_are_lost_cost_time_only(farm: Farm) -> None:
    farm.partition = SHORT
    fragment = farm.submit(steps.stage(14))
    farm.work()
    assert farm.kinds(fragment) == [WALLTIME]
    farm.partition = Partition()
    prepared = prepare(farm, take(farm))
    assert prepared.job.restart
    farm.restarts.forget(prepared.claim.key)
    finished = attempt.run(prepared, farm.bench(), Event())
    assert finished is not None
    assert finished.record is not None
    assert finished.record.result.engine_version == "from 0"


def test_parameter_files_appear_under_their_name_and_survive(farm: Farm, tmp_path: Path) -> None:
    species = tmp_path / "species"
    species.mkdir()
    (species / "08_O").write_text("oxygen")
    script = "cat defaults/08_O && cat reached.state || true; ls; echo finished"
    site = Site(command=("sh", "-c", script))
    farm.places = lambda *_: Place(site, species)
    fragment = farm.submit(steps.stage(1, options={"linked": "defaults"}))
    farm.work()
    assert farm.kinds(fragment) == [None]
    assert record(farm).result.engine_version.startswith("oxygen")
    assert (species / "08_O").read_text() == "oxygen"


def test_a_place_that_lacks_something_is_told_with_its_remedy(farm: Farm) -> None:
    farm.places = lambda *_: Missing("there is no 08_O", "Put it there.")
    fragment = farm.submit(steps.stage(1, policy=Policy(node=2)))
    assert farm.work() == 2
    assert farm.kinds(fragment) == [FailureKind.ENGINE_MISSING] * 2
    row = farm.view(fragment).rows[0]
    assert "08_O" in row.reason
    assert row.remedy == "Put it there."


def test_records_do_not_repeat_the_checks_of_the_engine(farm: Farm) -> None:
    fragment = farm.submit(steps.stage(1))
    farm.work()
    names = [check.name for check in farm.attempts(fragment)[0].checks]
    assert names[:3] == ["exit code", "stale files", "end"]
    assert "closest atoms" in names
    assert record(farm).result.checks == ()
    assert record(farm).deviations == ()
    assert farm.attempts(fragment)[0].fragment_id == fragment
    assert build.WATER.n_atoms == len(record(farm).result.forces)


def test_what_cannot_restart_and_needs_more_than_a_life_is_tried_once(farm: Farm) -> None:
    """An engine without restart files; a second whole life would end like the first."""
    farm.partition = Partition(walltime=2)
    fragment = farm.submit(engines.stage("sleep"))
    farm.work()
    assert farm.kinds(fragment) == [TIME_LIMIT]
    assert farm.states(fragment) == [StageState.FAILED]
    assert "Raise walltime" in farm.view(fragment).rows[0].remedy
