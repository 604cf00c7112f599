"""One attempt: from a claim to what is committed."""

from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Final

from qfarm import verdict
from qfarm.engines.base import Engine, Exit, Restart
from qfarm.engines.launch import ranks
from qfarm.errors import NotFoundError
from qfarm.ladder import Ladder, Retry, decide, effective_level
from qfarm.sites import Missing
from qfarm.store.protocol import Claim
from qfarm_schemas.attempt import Failure, Outcome
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_workers import failures, restart, room, scratch
from qfarm_workers.bench import Bench, Engines, Place
from qfarm_workers.finished import Finished, Made, exhausted, finish, stillborn, unfinished
from qfarm_workers.lifetime import limits
from qfarm_workers.prepare import Prepared, prepared
from qfarm_workers.process import Ended, Limits, Stopped
from qfarm_workers.scratch import Scratch

__all__ = ["Bench", "Engines", "Finished", "Prepared", "prepare", "run", "unfinished"]


_CUT_SHORT: Final = frozenset({FailureKind.INTERRUPTED, FailureKind.WALLTIME})
"""How attempts end that go on in the next job; their restart files lie elsewhere."""


def prepare(claim: Claim, bench: Bench) -> Prepared | Finished:
    """Find the rung to stand on; Finished when the attempt cannot even start."""
    try:
        engine = bench.engines(claim.stage.level.engine)
    except NotFoundError as error:
        lack = failures.no_engine(error.what, error.remedy)
        return stillborn(claim, lack, Ladder(), bench.environment)
    decision = decide(claim.history, claim.stage, engine.ladder, claim.submitted.n_atoms)
    if not isinstance(decision, Retry):
        return exhausted(claim, decision)
    level = effective_level(claim.stage.level, decision.rung)
    place = _place(bench, engine, claim.start, level)
    if isinstance(place, Failure):
        return stillborn(claim, place, engine.ladder, bench.environment)
    return prepared(claim, engine, decision.rung, place, bench)


def _place(
    bench: Bench, engine: Engine, fragment: Fragment, level: LevelOfTheory
) -> Place | Failure:
    try:
        place = bench.places(engine, fragment, level)
    except Exception as error:  # noqa: BLE001 - the loop must outlive it
        return failures.of_our_code(error, "looking for what the engine needs")
    return failures.no_engine(place.what, place.remedy) if isinstance(place, Missing) else place


def run(prepared: Prepared, bench: Bench, stop: Event) -> Finished | None:
    """Make the attempt; None when `stop` was set, because nothing may be committed then."""
    started = datetime.now(UTC)
    try:
        folder = bench.scratch.open(prepared.claim)
    except OSError as error:
        outcome = failures.of_our_code(error, "making the scratch folder")
        return finish(prepared, Made(outcome), started, bench.environment)
    made = _made(prepared, bench, folder, stop)
    if made is None:
        bench.scratch.close(folder, failed=False)
        return None
    trouble = "" if stop.is_set() else _keep(prepared, made.outcome, bench, folder)
    located = _located(made, bench.scratch, folder)
    finished = finish(prepared, located, started, bench.environment)
    bench.scratch.close(folder, failed=finished.record is None and _telling(made.outcome))
    return replace(finished, trouble=trouble)


def _made(prepared: Prepared, bench: Bench, folder: Path, stop: Event) -> Made | None:
    """Run the engine; an exception of our own code costs this attempt and nothing else."""
    try:
        return _compute(prepared, bench, folder, stop)
    except Exception as error:  # noqa: BLE001 - the loop must outlive a poisonous fragment
        return Made(failures.of_our_code(error, "handling the engine's files"))


def _compute(prepared: Prepared, bench: Bench, folder: Path, stop: Event) -> Made | None:
    prepared, stale = _filled(prepared, folder)
    program, allowed = prepared.engine.run(prepared.job), _limits(prepared, bench)
    ended = bench.process.run(program, folder, allowed, stop)
    if ended.stopped is Stopped.ASKED:
        return None
    told = _told(prepared, bench)
    if ended.stopped is Stopped.JOB and told is not None:
        return Made(told, ended=ended)
    files = scratch.texts(folder)
    failure = failures.of_process(ended, allowed, program, files)
    made = Made(failure, ended=ended) if failure else _judged(prepared, files, ended, stale)
    return _explained(made, prepared, bench, allowed, told)


def _told(prepared: Prepared, bench: Bench) -> Failure | None:
    """What it means that the batch system ends the job; None where it does not."""
    if not bench.process.leaving:
        return None
    worker, left = prepared.claim.worker, bench.lifetime.left(monotonic())
    known = left < inf or bench.partition.scheduler == "local"  # which ends no job by itself
    return failures.job_ended(worker.host, worker.pid, left if known else None)


def _filled(prepared: Prepared, folder: Path) -> tuple[Prepared, tuple[str, ...]]:
    """Put all that the engine needs into its folder; what lay there besides is stale."""
    prepared = _placed(prepared, folder)
    job, engine = prepared.job, prepared.engine
    files, names = engine.write(job), {*prepared.kept.files}
    scratch.fill(folder, files)
    linked = engine.parameters(job.fragment, job.level).linked
    if linked and prepared.linked is not None:
        scratch.link(folder, linked, prepared.linked)
        names.add(linked)
    return prepared, scratch.others(folder, names | files.keys())


def _placed(prepared: Prepared, folder: Path) -> Prepared:
    """Place the restart files; when one is lost, the attempt starts without any."""
    try:
        restart.place(prepared.kept, folder)
    except OSError as error:
        if error.errno in failures.FULL:
            raise
        restart.clear(prepared.kept, folder)
        job = prepared.job.model_copy(update={"restart": {}})
        return replace(prepared, job=job, kept=restart.NOTHING)
    return prepared


def _limits(prepared: Prepared, bench: Bench) -> Limits:
    job, engine, now = prepared.job, prepared.engine, monotonic()
    left = bench.lifetime.left(now)
    allowed = limits(job.stage.time_limit, left, job.memory_mb, engine.soft_stop)
    return replace(allowed, final=engine.restart == Restart() and bench.lifetime.fresh(now))


def _judged(
    prepared: Prepared, files: dict[str, str], ended: Ended, stale: tuple[str, ...]
) -> Made:
    """What the engine makes of the output, and the verdict of that."""
    job = prepared.job
    parsed = prepared.engine.parse(job, files, Exit(ended.exit_code, stale))
    if isinstance(parsed, Failure):
        return Made(failures.refined(parsed, ended, files), ended=ended)
    checks = verdict.judge(verdict.Subject(parsed, job.stage, job.fragment))
    return Made(verdict.outcome(checks), parsed, checks, ended)


def _explained(
    made: Made, prepared: Prepared, bench: Bench, allowed: Limits, told: Failure | None
) -> Made:
    """Add to a failure what the worker knows; its checks go into the attempt."""
    if not isinstance(made.outcome, Failure):
        return made
    failure = failures.ended_with_job(made.outcome, made.ended, told)
    failure = failures.asked_to_stop(failure, made.ended, allowed)
    failure = failures.with_ranks(failure, ranks(prepared.job))
    stage, own = prepared.claim.stage, bench.partition
    failure = room.told(failure, stage, own, bench.partitions, allowed.walltime)
    outcome = failure.model_copy(update={"checks": ()})
    return replace(made, outcome=outcome, checks=made.checks or failure.checks)


def _keep(prepared: Prepared, outcome: Outcome, bench: Bench, folder: Path) -> str:
    """Save restart files while the claim holds; what went wrong with that costs time only."""
    if bench.restarts is None or not restart.worth_keeping(outcome):
        return ""
    try:
        bench.restarts.save(prepared.spot, folder, prepared.engine.restart)
    except OSError as error:
        return f"the restart files could not be saved, the next attempt starts anew: {error}"
    return ""


def _telling(outcome: Outcome) -> bool:
    """Whether the scratch folder may tell what went wrong: nothing did where the job ended."""
    return not (isinstance(outcome, Failure) and outcome.kind in _CUT_SHORT)


def _located(made: Made, kept: Scratch, folder: Path) -> Made:
    """Say in the evidence where the scratch folder of a failure stays."""
    if not isinstance(made.outcome, Failure) or not kept.keeps(_telling(made.outcome)):
        return made
    evidence = made.outcome.evidence | {"scratch folder": str(folder)}
    outcome = made.outcome.model_copy(update={"evidence": evidence})
    return replace(made, outcome=outcome)
