"""What is decided and written around an attempt, without running one."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from qfarm.engines.base import Engine, Site
from qfarm.ladder import Aid, Done, GiveUp, Ladder, Retry
from qfarm.sites import Missing
from qfarm_schemas.attempt import Environment, Failure, Rung, Success
from qfarm_schemas.check import Check
from qfarm_schemas.config import Partition, Policy
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory
from qfarm_workers import attempt, failures
from qfarm_workers.bench import Bench, Place
from qfarm_workers.finished import Finished, Made, finish
from qfarm_workers.prepare import Prepared, job_of
from qfarm_workers.process import Ended, EngineProcess
from qfarm_workers.restart import Restarts, Spot
from qfarm_workers.scratch import Scratch
from support import build, engines, steps
from support.claims import PARTITION, claim

LARGE = Fragment(numbers=[1] * 351, positions=np.arange(351 * 3).reshape(351, 3))


def bench(partition: Partition = PARTITION, **fields: Any) -> Bench:
    nowhere = Path("/nowhere")
    process = EngineProcess(nowhere, threads=1)  # never started
    return Bench(process, Scratch(nowhere), partition, steps.look_up, **fields)


def prepare(surroundings: Bench | None = None, **fields: Any) -> Prepared | Finished:
    return attempt.prepare(claim(**fields), surroundings or bench())


def test_the_first_attempt_stands_on_the_first_rung() -> None:
    prepared = prepare()
    assert isinstance(prepared, Prepared)
    assert prepared.rung == Rung(scf="plain")
    assert prepared.job.scf == {}


def test_the_rung_brings_its_settings() -> None:
    prepared = prepare(history=build.history(FailureKind.SCF_NOT_CONVERGED))
    assert isinstance(prepared, Prepared)
    assert prepared.rung == Rung(scf="damped")
    assert prepared.job.scf == {"damping": 0.5}


def test_a_later_stage_starts_from_the_accepted_geometry() -> None:
    moved = build.WATER.model_copy(update={"positions": build.WATER.positions + 1.0})
    prepared = prepare(start=moved)
    assert isinstance(prepared, Prepared)
    assert np.array_equal(prepared.job.fragment.positions, moved.positions)


@pytest.mark.parametrize(("stage_mb", "partition_mb"), [(1000, 3000), (3000, 1000)])
def test_the_smaller_memory_limit_counts(stage_mb: int, partition_mb: int) -> None:
    stage = engines.stage("good", memory_mb=stage_mb)
    prepared = prepare(bench(Partition(memory_mb=partition_mb, threads=4)), stage=stage)
    assert isinstance(prepared, Prepared)
    assert prepared.job.memory_mb == 1000
    assert prepared.job.threads == 4


def test_above_350_atoms_the_fallback_basis_is_computed() -> None:
    history = build.history(FailureKind.SCF_NOT_CONVERGED)
    claimed = claim(submitted=LARGE, start=LARGE, history=history)
    prepared = attempt.prepare(claimed, bench())
    assert isinstance(prepared, Prepared)
    assert prepared.job.level.basis is BasisTier.INTERMEDIATE
    assert prepared.job.level.id != claimed.stage.level.id


def test_an_unknown_engine_is_a_failure_of_the_node() -> None:
    finished = prepare(stage=build.stage())  # pyscf is not in the table
    assert isinstance(finished, Finished)
    assert isinstance(finished.attempt.outcome, Failure)
    assert finished.attempt.outcome.kind is FailureKind.ENGINE_MISSING
    assert isinstance(finished.decision, Retry)


def test_all_aids_of_a_rung_reach_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    ladder = Ladder(
        overlap=(Aid("plain"), Aid("drop", {"basis_threshold": 1e-5})),
        memory=(Aid("all"), Aid("half", {"ranks_divisor": 2})),
    )
    rung = Rung(overlap="drop", memory="half")
    monkeypatch.setattr(engines.ProgramEngine, "ladder", ladder)
    job = job_of(claim(), engines.ENGINE, rung, PARTITION)
    assert job.overlap == {"basis_threshold": 1e-5}
    assert job.memory == {"ranks_divisor": 2}


@pytest.mark.parametrize(
    ("command", "peak_mb"),
    [
        (("srun", "-n", "4", "aims.x"), 0.0),
        (("/usr/bin/srun", "aims.x"), 0.0),
        (("mpirun", "-n", "4", "srun"), 12.0),
        ((), 12.0),
    ],
)
def test_memory_of_a_launcher_alone_is_no_measurement(
    command: tuple[str, ...], peak_mb: float
) -> None:
    """Ranks of srun are children of Slurm's daemon; 0 teaches the cost model nothing."""
    prepared = prepare(bench(places=lambda *_: Place(Site(ranks=4, command=command))))
    assert isinstance(prepared, Prepared)
    ended = Ended(0, wall_seconds=7.0, peak_memory_mb=12.0)
    made = Made(build.failure(FailureKind.SCF_NOT_CONVERGED), ended=ended)
    cost = finish(prepared, made, datetime.now(UTC)).attempt.cost
    assert (cost.wall_seconds, cost.peak_memory_mb) == (7.0, peak_mb)


def test_the_job_knows_how_the_last_attempt_failed() -> None:
    prepared = prepare()
    assert isinstance(prepared, Prepared)
    assert prepared.job.after is None
    kinds = (FailureKind.SCF_NOT_CONVERGED, FailureKind.LOST_WORKER)
    prepared = prepare(history=build.history(*kinds))
    assert isinstance(prepared, Prepared)
    assert prepared.job.after is FailureKind.SCF_NOT_CONVERGED


def test_the_place_is_asked_for_the_level_that_is_computed(tmp_path: Path) -> None:
    asked: list[LevelOfTheory] = []

    def place(engine: Engine, fragment: Fragment, level: LevelOfTheory) -> Place:
        asked.append(level)
        return Place(Site(ranks=8), tmp_path)

    history = build.history(FailureKind.SCF_NOT_CONVERGED)
    prepared = prepare(bench(places=place), submitted=LARGE, start=LARGE, history=history)
    assert isinstance(prepared, Prepared)
    assert asked == [prepared.job.level]
    assert prepared.job.site.ranks == 8
    assert prepared.linked == tmp_path


def broken(*_: object) -> Place:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("place", "kind", "says"),
    [
        (lambda *_: Missing("no 08_O", "Get it."), FailureKind.ENGINE_MISSING, "no 08_O"),
        (broken, FailureKind.CRASHED, "a bug"),
    ],
)
def test_a_place_that_lacks_something(place: Any, kind: FailureKind, says: str) -> None:
    finished = prepare(bench(places=place))
    assert isinstance(finished, Finished)
    failure = finished.attempt.outcome
    assert isinstance(failure, Failure)
    assert failure.kind is kind
    assert says in failure.cause
    assert failure.remedy
    assert isinstance(finished.decision, Retry)
    assert finished.attempt.rung == Rung(scf="plain")


def saved(root: Path, key: str, level_id: str, number: int = 1) -> Restarts:
    """Restart files of an attempt."""
    folder = root / "scratch"
    folder.mkdir()
    (folder / "a.state").write_text("7")
    (folder / "note").write_text("so far")
    restarts = Restarts(root / "restart")
    restarts.save(Spot(key, level_id, number), folder, steps.ENGINE.restart)
    return restarts


def test_restart_files_reach_the_job(tmp_path: Path) -> None:
    stage = steps.stage(3)
    surroundings = bench(restarts=saved(tmp_path, "w1.single_point", stage.level.id))
    history = build.history(FailureKind.WALLTIME)
    prepared = prepare(surroundings, stage=stage, history=history, number=2)
    assert isinstance(prepared, Prepared)
    assert prepared.job.restart == {"note": "so far", "a.state": ""}
    crashes = build.history(FailureKind.CRASHED, FailureKind.CRASHED)
    prepared = prepare(surroundings, stage=stage, history=crashes, number=3)
    assert isinstance(prepared, Prepared)
    assert prepared.job.restart == {}


def test_a_basis_fallback_never_sees_the_density_of_another_basis(tmp_path: Path) -> None:
    stage = steps.stage(3)
    surroundings = bench(restarts=saved(tmp_path, "w1.single_point", stage.level.id))
    history = build.history(FailureKind.SCF_NOT_CONVERGED)
    small = prepare(surroundings, stage=stage, history=history, number=2)
    large = {"submitted": LARGE, "start": LARGE}
    fallen = prepare(surroundings, stage=stage, history=history, number=2, **large)
    assert isinstance(small, Prepared)
    assert isinstance(fallen, Prepared)
    assert small.job.restart
    assert fallen.job.level.basis is BasisTier.INTERMEDIATE
    assert fallen.job.restart == {}
    assert fallen.spot.level_id == fallen.job.level.id != stage.level.id


def test_checks_of_the_engine_stand_in_the_attempt_alone() -> None:
    prepared = prepare()
    assert isinstance(prepared, Prepared)
    check = Check(name="end", required="nice day", found="nice day", passed=True)
    result = build.result(checks=(check,))
    made = Made(Success(), result, (check,))
    finished = finish(prepared, made, build.NOW)
    assert finished.attempt.checks == (check,)
    assert finished.record is not None
    assert finished.record.result.checks == ()
    assert finished.record.result.energy == result.energy


def test_the_record_states_what_its_rung_departs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    aid = Aid("plain", deviation="basis functions dropped")
    monkeypatch.setattr(engines.ProgramEngine, "ladder", Ladder(overlap=(aid,)))
    prepared = prepare()
    assert isinstance(prepared, Prepared)
    finished = finish(prepared, Made(Success(), build.result()), build.NOW)
    assert finished.record is not None
    assert finished.record.deviations == ("basis functions dropped",)


def test_a_stage_without_budget_left_is_taken_out() -> None:
    stage = engines.stage("good", policy=Policy(node=1))
    finished = prepare(stage=stage, history=build.history(FailureKind.CRASHED))
    assert isinstance(finished, Finished)
    assert isinstance(finished.decision, GiveUp)
    assert finished.record is None


def test_a_stage_that_was_accepted_before_is_taken_out() -> None:
    finished = prepare(history=(build.attempt(),))
    assert isinstance(finished, Finished)
    assert isinstance(finished.decision, GiveUp)


def test_a_lost_attempt_is_written_in_the_name_of_the_lost() -> None:
    claimed = claim(history=build.history(FailureKind.SCF_NOT_CONVERGED), number=2)
    lost = build.WORKER.model_copy(update={"name": "lost", "pid": 99})
    failure = failures.lost_worker(lost.host, lost.pid)
    finished = attempt.unfinished(claimed, lost, failure, engines.ENGINE.ladder)
    made = finished.attempt
    assert made.worker == lost
    assert made.rung == Rung(scf="damped")
    assert (made.number, made.key, made.outcome) == (2, claimed.key, failure)
    assert made.started == claimed.claimed
    assert made.finished > build.NOW
    assert finished.decision == Retry(Rung(scf="damped"))


def test_a_lost_attempt_never_ends_before_it_starts() -> None:
    future = datetime(2999, 1, 1, tzinfo=UTC)
    failure = failures.lost_worker("h", 1)
    made = attempt.unfinished(claim(claimed=future), build.WORKER, failure, Ladder()).attempt
    assert made.started <= made.finished


def test_losing_workers_ends_with_the_infrastructure_budget() -> None:
    stage = engines.stage("good", policy=Policy(infrastructure=2))
    claimed = claim(stage=stage, history=build.history(FailureKind.LOST_WORKER), number=2)
    failure = failures.lost_worker("h", 1)
    finished = attempt.unfinished(claimed, build.WORKER, failure, engines.ENGINE.ladder)
    assert isinstance(finished.decision, GiveUp)
    assert not isinstance(finished.decision, Done)


def test_an_attempt_says_where_it_was_made_but_not_one_that_was_lost() -> None:
    here = Environment(cpu="EPYC", scheduler_job="4711")
    prepared = prepare()
    assert isinstance(prepared, Prepared)
    made = finish(prepared, Made(Success(), build.result()), build.NOW, here)
    assert made.attempt.environment == here
    stillborn = prepare(bench(environment=here), stage=build.stage())
    assert isinstance(stillborn, Finished)
    assert stillborn.attempt.environment == here
    failure = failures.lost_worker("h", 1)
    lost = attempt.unfinished(claim(), build.WORKER, failure, Ladder())
    assert lost.attempt.environment is None


def test_an_attempt_without_a_scratch_folder_says_where(tmp_path: Path) -> None:
    here = Environment(cpu="EPYC")
    (tmp_path / "file").write_text("no folder")
    prepared = prepare()
    assert isinstance(prepared, Prepared)
    place = replace(bench(environment=here), scratch=Scratch(tmp_path / "file"))
    made = attempt.run(prepared, place, Event())
    assert made is not None
    assert made.attempt.environment == here
    assert isinstance(made.attempt.outcome, Failure)
    assert "file system of the node" in made.attempt.outcome.cause
