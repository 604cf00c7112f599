"""What happened to jobs, each thing told once; how a partition stands, in the scaling's terms."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.costs.model import CostModel
from qfarm.store.fleet import Demand, JobNote, JobState, NodeFailure
from qfarm.store.protocol import Running
from qfarm.store.wish import Ahead
from qfarm_launchers.outlook import EARLY_SECONDS, UNKNOWN, accepted, events, outlook
from qfarm_launchers.scaling import Died, Event, Idled, Lived
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_schemas.failure import FailureKind
from qfarm_workers.appraisal import Foresight
from support import build
from support.engines import look_up

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

PENDING = JobNote("cpu-1", "cpu", JobState.PENDING, "1", submitted=NOW)
BEGUN = replace(PENDING, state=JobState.RUNNING, started=NOW, host="n1")
AT_WORK = replace(BEGUN, attempts=3)


def ended(note: JobNote, after: float = 0.0, why: str = "") -> JobNote:
    return replace(note, state=JobState.ENDED, ended=NOW + timedelta(seconds=after), why=why)


def happened(before: JobNote | None, after: JobNote, *ours: str) -> tuple[Event, ...]:
    return events({before.name: before} if before else {}, {after.name: after}, ours)


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (PENDING, BEGUN, None),
        (BEGUN, AT_WORK, Lived()),
        (None, AT_WORK, Lived()),
        (AT_WORK, replace(AT_WORK, attempts=9), None),
        (AT_WORK, ended(AT_WORK, 999, "its lifetime is over"), None),
        (BEGUN, ended(AT_WORK, 2), Lived()),
        (PENDING, ended(PENDING, why="Unknown account"), Died(1, "Unknown account")),
        (PENDING, ended(PENDING), Died(1, UNKNOWN)),
        (BEGUN, ended(BEGUN, 2, "self-test failed"), Died(1, "self-test failed")),
        (BEGUN, ended(BEGUN, EARLY_SECONDS, "its lifetime is over"), Idled(1, EARLY_SECONDS)),
        (BEGUN, ended(BEGUN, 30), Idled(1, 30.0)),
        (ended(BEGUN, 30), ended(BEGUN, 30), None),
        (BEGUN, replace(BEGUN, worked=True), Lived()),
        (replace(BEGUN, worked=True), AT_WORK, None),
        (
            replace(BEGUN, worked=True),
            ended(replace(BEGUN, worked=True), 5 * 3600, "its scheduler says: PREEMPTED"),
            None,
        ),
        (BEGUN, ended(replace(BEGUN, worked=True), 600, "OUT_OF_MEMORY"), Lived()),
    ],
)
def test_what_happened(before: JobNote | None, after: JobNote, event: Event | None) -> None:
    assert happened(before, after) == (() if event is None else (event,))


def test_what_was_cancelled_on_purpose_speaks_for_nothing() -> None:
    assert happened(PENDING, ended(PENDING, why="nothing waits for it"), "cpu-1") == ()
    assert happened(BEGUN, ended(BEGUN, 3, "told to end"), "cpu-1") == ()


STEPS = st.lists(st.sampled_from(["begin", "work", "look", "end"]), max_size=12)


@given(steps=STEPS, why=st.sampled_from(["", "killed"]))
def test_one_job_lives_at_most_once_and_ends_in_vain_or_lived(steps: list[str], why: str) -> None:
    """Whenever somebody looks: each event comes once, and a job that worked never died."""
    note, seen = PENDING, PENDING
    told: list[Event] = []
    for step in [*steps, "end", "look"]:
        if step == "begin" and note.started is None and note.ended is None:
            note = replace(note, state=JobState.RUNNING, started=NOW)
        elif step == "work" and note.started and note.ended is None:
            note = replace(note, attempts=note.attempts + 1)
        elif step == "end" and note.ended is None:
            note = ended(note, 5, why)
        elif step == "look":
            told += happened(seen, note)
            seen = note
    assert len(told) == 1
    assert isinstance(told[0], Lived) is bool(note.attempts)


def test_attempts_that_went_well_on_a_node() -> None:
    """100 in 100 minutes, of which 10 lie in the window; two failed in it, one before."""
    job = replace(AT_WORK, started=NOW - 100 * MINUTE, attempts=100)
    others = replace(job, name="cpu-2", host="n2")
    over = replace(job, name="cpu-3", ended=NOW - 20 * MINUTE)
    failures = [failure(5), failure(8), failure(60), failure(5, host="n2")]
    since = NOW - 10 * MINUTE
    assert accepted([job, others, over], failures, NOW, "n1", since) == 8
    assert accepted([job], [failure(1)] * 20, NOW, "n1", since) == 0
    assert accepted([replace(job, started=None)], [], NOW, "n1", since) == 0


def test_a_job_that_failed_everything_and_then_idled_did_nothing_well() -> None:
    job = replace(AT_WORK, started=NOW - 20 * MINUTE, ended=NOW, attempts=65)
    failures = [failure(20 - 0.1 * number) for number in range(60)]  # then it waited for 14 min
    assert accepted([job], failures, NOW, "n1", failures[-3].finished) == 0
    assert accepted([job], failures[-3:], NOW, "n1", failures[-3].finished) > 40


@given(attempts=st.integers(0, 1000), began=st.integers(0, 500), window=st.integers(0, 500))
def test_never_more_than_were_made(attempts: int, began: int, window: int) -> None:
    job = replace(AT_WORK, started=NOW - began * MINUTE, attempts=attempts)
    assert 0 <= accepted([job], [], NOW, "n1", NOW - window * MINUTE) <= attempts


def failure(minutes_ago: float, host: str = "n1") -> NodeFailure:
    finished = NOW - minutes_ago * MINUTE
    return NodeFailure(host, "w.preopt", "f", FailureKind.CRASHED.value, finished)


def running(job: str, since: datetime) -> Running:
    worker = build.WORKER.model_copy(update={"job": job, "partition": "cpu"})
    return Running("f", "w.preopt", "preopt", 1, None, worker, since, NOW)


def test_a_partition_as_the_decision_sees_it() -> None:
    cpu = Partition(name="cpu", slots=2, walltime=3600)
    foresight = Foresight(CostModel(), look_up, FarmConfig(partitions=(cpu,)))
    ahead = Ahead("single_point", "no level that is known", "H2O", 3)
    began, ends = NOW - 10 * MINUTE, NOW + 50 * MINUTE
    at_work = replace(AT_WORK, started=began, ends=ends, slots=2)
    old = replace(at_work, name="cpu-4", drain=True)
    endless = replace(at_work, name="cpu-5", ends=None)
    waits = replace(PENDING, name="cpu-2", submitted=NOW - MINUTE)
    noted = replace(PENDING, name="cpu-3", state=JobState.SUBMITTING, submitted=None)
    under_way = [running("cpu-1", NOW - 7 * MINUTE), running("elsewhere", NOW)]
    demand = Demand(5, (ahead, ahead))
    notes = [at_work, waits, noted, old, endless]
    seen = outlook(demand, notes, under_way, foresight, cpu, NOW)
    assert seen.pending == (60.0, 0.0)
    assert [(job.slots, job.age) for job in seen.jobs] == [(2, 600.0)] * 3
    hand_back = 120.0
    assert [job.left for job in seen.jobs] == [3000.0 - hand_back, 0.0, inf]
    assert [job.under_way for job in seen.jobs] == [(420.0,), (), ()]
    assert len(seen.sample) == 2
    assert 0 < seen.sample[0].seconds <= seen.sample[0].at_most
