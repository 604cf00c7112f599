"""What is decided and written around an attempt, without running one."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from qfarm.ladder import Done, GiveUp, Ladder, Retry
from qfarm_schemas.attempt import Failure, FailureKind, Rung
from qfarm_schemas.config import Partition, Policy
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier
from qfarm_workers import attempt, failures
from qfarm_workers.attempt import Finished, Prepared
from support import build, engines
from support.claims import PARTITION, claim

LARGE = Fragment(numbers=[1] * 351, positions=np.arange(351 * 3).reshape(351, 3))


def prepare(**fields: Any) -> Prepared | Finished:
    return attempt.prepare(claim(**fields), PARTITION, engines.look_up)


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
    claimed = claim(stage=engines.stage("good", memory_mb=stage_mb, time_limit=7.0))
    partition = Partition(memory_mb=partition_mb, threads=4)
    prepared = attempt.prepare(claimed, partition, engines.look_up)
    assert isinstance(prepared, Prepared)
    assert prepared.limits.memory_mb == prepared.job.memory_mb == 1000
    assert prepared.limits.seconds == 7.0
    assert prepared.job.threads == 4


def test_above_350_atoms_the_fallback_basis_is_computed() -> None:
    history = build.history(FailureKind.SCF_NOT_CONVERGED)
    claimed = claim(submitted=LARGE, start=LARGE, history=history)
    prepared = attempt.prepare(claimed, PARTITION, engines.look_up)
    assert isinstance(prepared, Prepared)
    assert prepared.job.level.basis is BasisTier.INTERMEDIATE
    assert prepared.job.level.id != claimed.stage.level.id
    assert attempt.deviations(claimed, prepared.rung) == (
        "basis intermediate instead of tight (rung fallback above 350 atoms)",
    )
    assert attempt.deviations(claimed, Rung()) == ()


def test_an_unknown_engine_is_a_failure_of_the_node() -> None:
    finished = attempt.prepare(
        claim(stage=build.stage()), PARTITION, engines.look_up
    )  # pyscf is not in the table
    assert isinstance(finished, Finished)
    assert isinstance(finished.attempt.outcome, Failure)
    assert finished.attempt.outcome.kind is FailureKind.ENGINE_MISSING
    assert isinstance(finished.decision, Retry)


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
