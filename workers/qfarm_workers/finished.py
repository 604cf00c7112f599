"""Finished: what is committed of an attempt, namely its account, the decision and the record."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Final

from qfarm.engines.launch import out_of_sight
from qfarm.ladder import (
    Decision,
    Done,
    GiveUp,
    Ladder,
    Retry,
    decide,
    deviations,
    effective_level,
)
from qfarm.store.protocol import Claim
from qfarm_schemas.attempt import Attempt, Cost, Environment, Failure, Outcome, Rung, Worker
from qfarm_schemas.check import Check
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.record import Provenance, Record
from qfarm_schemas.result import Result
from qfarm_workers.prepare import Prepared
from qfarm_workers.process import Ended


@dataclass(frozen=True)
class Finished:
    """What is committed.

    Attributes
    ----------
    attempt : Attempt
        How the attempt went.
    decision : Done, Retry or GiveUp
        What follows from it.
    record : Record or None
        What it gave.
    trouble : str
        What the log has to say besides; empty as a rule.
    """

    attempt: Attempt
    decision: Decision
    record: Record | None = None
    trouble: str = ""


_NOTHING: Final = Ended(None)
"""What a process that never ran used."""


@dataclass(frozen=True)
class Made:
    """How the calculation went."""

    outcome: Outcome
    result: Result | None = None
    checks: tuple[Check, ...] = ()
    ended: Ended = _NOTHING


@dataclass(frozen=True)
class _Run:
    """Who made the attempt, where on the ladder, and when."""

    rung: Rung
    worker: Worker
    started: datetime
    finished: datetime
    threads: int = 1
    environment: Environment | None = None


def finish(
    prepared: Prepared, made: Made, started: datetime, environment: Environment | None = None
) -> Finished:
    """What is committed of an attempt that this worker made, in its environment."""
    claim, now = prepared.claim, datetime.now(UTC)
    threads = prepared.job.threads
    made_by = _Run(prepared.rung, claim.worker, started, now, threads, environment)
    attempt = _attempt(claim, made_by, _measured(made, prepared))
    if prepared.engine.goes_on(prepared.job):
        attempt = attempt.model_copy(update={"continued_from": prepared.kept.number})
    decision = _decide(claim, attempt, prepared.engine.ladder)
    if isinstance(decision, Done) and made.result is not None:
        return Finished(attempt, decision, _record(prepared, attempt, made.result))
    return Finished(attempt, decision)


def unfinished(claim: Claim, by: Worker, failure: Failure, ladder: Ladder) -> Finished:
    """What is committed in the name of a worker that can no longer do it.

    Parameters
    ----------
    claim : Claim
        The claim as taken over.
    by : Worker
        Who held it.
    failure : Failure
        What happened.
    ladder : Ladder
        Of the stage's engine.
    """
    rung, now = rung_of(claim, ladder), datetime.now(UTC)
    attempt = _attempt(claim, _Run(rung, by, min(claim.claimed, now), now), Made(failure))
    return Finished(attempt, _decide(claim, attempt, ladder))


def rung_of(claim: Claim, ladder: Ladder) -> Rung:
    """Where the attempt of a claim stood, of which nothing else is known."""
    before = decide(claim.history, claim.stage, ladder, claim.submitted.n_atoms)
    return before.rung if isinstance(before, Retry) else Rung()


def stillborn(
    claim: Claim, failure: Failure, ladder: Ladder, environment: Environment | None = None
) -> Finished:
    """What is committed of an attempt that cannot start in its environment."""
    lost = unfinished(claim, claim.worker, failure, ladder)
    return replace(lost, attempt=lost.attempt.model_copy(update={"environment": environment}))


def exhausted(claim: Claim, decision: Done | GiveUp) -> Finished:
    """A stage that should not be in the queue; committing a failure takes it out."""
    reason = decision.reason if isinstance(decision, GiveUp) else "it was accepted before"
    failure = Failure(
        kind=FailureKind.BAD_OUTPUT,
        cause=f"the queue offered a stage that has ended: {reason}",
        remedy="`qfarm retry` starts it again with fresh budgets.",
    )
    finished = stillborn(claim, failure, Ladder())
    return Finished(finished.attempt, GiveUp(failure.cause, failure.remedy))


def _measured(made: Made, prepared: Prepared) -> Made:
    """Memory 0, which is no measurement, where that of the launcher alone was seen."""
    if not out_of_sight(prepared.job):
        return made
    return replace(made, ended=replace(made.ended, peak_memory_mb=0.0))


def _decide(claim: Claim, attempt: Attempt, ladder: Ladder) -> Decision:
    return decide((*claim.history, attempt), claim.stage, ladder, claim.submitted.n_atoms)


def _attempt(claim: Claim, run: _Run, made: Made) -> Attempt:
    result = made.result
    return Attempt(
        key=claim.key,
        number=claim.number,
        fragment_id=claim.submitted.id,
        stage=claim.stage.name,
        level_id=effective_level(claim.stage.level, run.rung).id,
        rung=run.rung,
        worker=run.worker,
        started=run.started,
        finished=run.finished,
        cost=_cost(made.ended, run.threads),
        outcome=made.outcome,
        checks=made.checks,
        scf_trace=result.scf_trace if result else (),
        optimisation_trace=result.optimisation_trace if result else (),
        engine_version=result.engine_version if result else "",
        environment=run.environment,
    )


def _cost(ended: Ended, threads: int) -> Cost:
    return Cost(
        wall_seconds=ended.wall_seconds,
        cpu_seconds=ended.cpu_seconds,
        peak_memory_mb=ended.peak_memory_mb,
        threads=threads,
    )


def _record(prepared: Prepared, attempt: Attempt, result: Result) -> Record:
    claim, submitted = prepared.claim, prepared.claim.submitted
    return Record(
        key=claim.key,
        fragment_id=submitted.id,
        fragment_class=submitted.fragment_class,
        tags=submitted.tags,
        source=submitted.source,
        stage=claim.stage.name,
        level=prepared.job.level,
        charge=submitted.charge,
        multiplicity=submitted.multiplicity,
        result=result.model_copy(update={"checks": ()}),  # the attempt has them
        deviations=deviations(claim.stage.level, prepared.rung, prepared.engine.ladder),
        provenance=_provenance(attempt),
    )


def _provenance(attempt: Attempt) -> Provenance:
    return Provenance(
        attempt=attempt.number,
        rung=attempt.rung,
        host=attempt.worker.host,
        partition=attempt.worker.partition,
        qfarm_version=_version(),
        finished=attempt.finished,
        cost=attempt.cost,
    )


@cache
def _version() -> str:
    return version("qfarm")
