"""One attempt: from a claim to what is committed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Final

from qfarm import verdict
from qfarm.engines.base import Engine, Exit, Job
from qfarm.errors import NotFoundError
from qfarm.ladder import (
    LARGE,
    Decision,
    Done,
    GiveUp,
    Ladder,
    Retry,
    decide,
    effective_level,
    settings,
)
from qfarm.store.protocol import Claim
from qfarm_schemas.attempt import Attempt, Check, Cost, Failure, FailureKind, Outcome, Rung, Worker
from qfarm_schemas.config import Partition
from qfarm_schemas.record import Provenance, Record
from qfarm_schemas.result import Result
from qfarm_workers import failures, scratch
from qfarm_workers.process import Ended, EngineProcess, Limits, Stopped
from qfarm_workers.scratch import Scratch

Engines = Callable[[str], Engine]
"""How an engine is looked up by name."""


@dataclass(frozen=True)
class Bench:
    """What an attempt needs besides its claim."""

    process: EngineProcess
    scratch: Scratch
    partition: Partition
    engines: Engines


@dataclass(frozen=True)
class Prepared:
    """An attempt that can start."""

    claim: Claim
    engine: Engine
    rung: Rung
    job: Job

    @property
    def limits(self) -> Limits:
        """Time and memory that the attempt may use."""
        return Limits(self.job.stage.time_limit, self.job.memory_mb)


@dataclass(frozen=True)
class Finished:
    """What is committed."""

    attempt: Attempt
    decision: Decision
    record: Record | None = None


_NOTHING: Final = Ended(None)
"""What a process that never ran used."""


@dataclass(frozen=True)
class _Made:
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


def prepare(claim: Claim, partition: Partition, engines: Engines) -> Prepared | Finished:
    """Find the rung to stand on; Finished when the attempt cannot even start."""
    try:
        engine = engines(claim.stage.level.engine)
    except NotFoundError as error:
        return _stillborn(claim, failures.no_engine(error.what, error.remedy), Ladder())
    decision = decide(claim.history, claim.stage, engine.ladder, claim.submitted.n_atoms)
    if not isinstance(decision, Retry):
        return _exhausted(claim, decision)
    return Prepared(claim, engine, decision.rung, job_of(claim, engine, decision.rung, partition))


def job_of(claim: Claim, engine: Engine, rung: Rung, partition: Partition) -> Job:
    """The calculation on a rung, at its effective level, within the smaller of the limits."""
    level = effective_level(claim.stage.level, rung)
    return Job(
        fragment=claim.start,
        stage=claim.stage.model_copy(update={"level": level}),
        scf=dict(settings(engine.ladder.scf, rung.scf)),
        geometry=dict(settings(engine.ladder.geometry, rung.geometry)),
        threads=partition.threads,
        memory_mb=min(claim.stage.memory_mb, partition.memory_mb),
    )


def run(prepared: Prepared, bench: Bench, stop: Event) -> Finished | None:
    """Make the attempt; None when `stop` was set, because nothing may be committed then."""
    started = datetime.now(UTC)
    try:
        folder = bench.scratch.open(prepared.claim)
    except OSError as error:
        outcome = failures.of_our_code(error, "making the scratch folder")
        return _finish(prepared, _Made(outcome), started)
    made = _made(prepared, bench, folder, stop)
    if made is None:
        bench.scratch.close(folder, failed=False)
        return None
    finished = _finish(prepared, _located(made, bench.scratch, folder), started)
    bench.scratch.close(folder, failed=finished.record is None)
    return finished


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
    before = decide(claim.history, claim.stage, ladder, claim.submitted.n_atoms)
    rung = before.rung if isinstance(before, Retry) else Rung()
    now = datetime.now(UTC)
    attempt = _attempt(claim, _Run(rung, by, min(claim.claimed, now), now), _Made(failure))
    return Finished(attempt, _decide(claim, attempt, ladder))


def _made(prepared: Prepared, bench: Bench, folder: Path, stop: Event) -> _Made | None:
    """Run the engine; an exception of our own code costs this attempt and nothing else."""
    try:
        return _compute(prepared, bench, folder, stop)
    except Exception as error:  # noqa: BLE001 - the loop must outlive a poisonous fragment
        return _Made(failures.of_our_code(error, "handling the engine's files"))


def _compute(prepared: Prepared, bench: Bench, folder: Path, stop: Event) -> _Made | None:
    job, engine = prepared.job, prepared.engine
    scratch.fill(folder, engine.write(job))
    program = engine.run(job)
    ended = bench.process.run(program, folder, prepared.limits, stop)
    if ended.stopped is Stopped.ASKED:
        return None
    files = scratch.texts(folder)
    failure = failures.of_process(ended, prepared.limits, program, files)
    if failure is not None:
        return _Made(failure, ended=ended)
    parsed = engine.parse(job, files, Exit(ended.exit_code))
    if isinstance(parsed, Failure):
        return _Made(failures.refined(parsed, ended, files), ended=ended)
    checks = verdict.judge(verdict.Subject(parsed, job.stage, job.fragment))
    return _Made(verdict.outcome(checks), parsed, checks, ended)


def _located(made: _Made, kept: Scratch, folder: Path) -> _Made:
    """Say in the evidence where the scratch folder of a failure stays."""
    if not isinstance(made.outcome, Failure) or not kept.keeps(failed=True):
        return made
    evidence = made.outcome.evidence | {"scratch folder": str(folder)}
    outcome = made.outcome.model_copy(update={"evidence": evidence})
    return replace(made, outcome=outcome)


def _finish(prepared: Prepared, made: _Made, started: datetime) -> Finished:
    claim, now = prepared.claim, datetime.now(UTC)
    made_by = _Run(prepared.rung, claim.worker, started, now, prepared.job.threads)
    attempt = _attempt(claim, made_by, made)
    decision = _decide(claim, attempt, prepared.engine.ladder)
    if isinstance(decision, Done) and made.result is not None:
        return Finished(attempt, decision, _record(prepared, attempt, made.result))
    return Finished(attempt, decision)


def _decide(claim: Claim, attempt: Attempt, ladder: Ladder) -> Decision:
    return decide((*claim.history, attempt), claim.stage, ladder, claim.submitted.n_atoms)


def _attempt(claim: Claim, run: _Run, made: _Made) -> Attempt:
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
        result=result,
        deviations=deviations(claim, prepared.rung),
        provenance=_provenance(attempt),
    )


def deviations(claim: Claim, rung: Rung) -> tuple[str, ...]:
    """Departures from the protocol that a reader of the record must know."""
    planned = claim.stage.level.basis
    if rung.basis is None or rung.basis is planned:
        return ()
    above = f"rung fallback above {LARGE} atoms"
    return (f"basis {rung.basis.value} instead of {planned.value} ({above})",)


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


def _stillborn(claim: Claim, failure: Failure, ladder: Ladder) -> Finished:
    return unfinished(claim, claim.worker, failure, ladder)


def _exhausted(claim: Claim, decision: Done | GiveUp) -> Finished:
    """A stage that should not be in the queue; committing a failure takes it out."""
    reason = decision.reason if isinstance(decision, GiveUp) else "it was accepted before"
    failure = Failure(
        kind=FailureKind.BAD_OUTPUT,
        cause=f"the queue offered a stage that has ended: {reason}",
        remedy="`qfarm retry` starts it again with fresh budgets.",
    )
    finished = _stillborn(claim, failure, Ladder())
    return Finished(finished.attempt, GiveUp(failure.cause, failure.remedy))
