"""Scaling: how many jobs, and the sentence that says why."""

from dataclasses import replace
from math import inf

import pytest

from qfarm.store.fleet import Gate
from qfarm_launchers.scaling import (
    Cost,
    Died,
    Idled,
    Job,
    Limits,
    Lived,
    Memory,
    Refused,
    Situation,
    Submitted,
    after,
    decide,
    still,
)
from qfarm_launchers.scaling.demand import fitting, most_ready, spare_slots
from qfarm_launchers.scaling.words import about
from qfarm_schemas.config import Partition

TWO = Limits(slots=2, max_jobs=10, submit_per_minute=100)
HOURS = 3600.0


def situation(ready: int, seconds: float = 60.0, **others: object) -> Situation:
    """Stages that all cost the same, at noon of the monotonic clock."""
    sample = (Cost(seconds, 1.5 * seconds),) * min(ready, 3)
    return Situation(others.pop("now", 1000.0), ready, sample, **others)


def submitted(seen: Situation, limits: Limits = TWO, memory: Memory | None = None) -> int:
    return decide(seen, limits, memory or Memory())[0].submit


def why(seen: Situation, limits: Limits = TWO, memory: Memory | None = None) -> str:
    return decide(seen, limits, memory or Memory())[0].why


def learnt(*events: object, before: Memory | None = None, now: float = 1000.0) -> Memory:
    return after(before or Memory(), events, now)


@pytest.mark.parametrize(
    ("ready", "seconds", "jobs"),
    [
        (0, 60, 0),
        (1, 1, 1),
        (40, 1, 1),  # one job does them in 20 s
        (40, 60, 2),  # 2,400 s of work: two slots do 1,200 in the horizon
        (3, 10 * HOURS, 2),  # never more slots than stages, but for rounding
        (4, 10 * HOURS, 2),
        (100_000, 60, 10),
    ],
)
def test_jobs_of_an_idle_partition(ready: int, seconds: float, jobs: int) -> None:
    assert submitted(situation(ready, seconds)) == jobs


@pytest.mark.parametrize("seconds", [0.1, 1.0, 7.0, 60.0, 10 * HOURS])
def test_of_more_stages_than_are_counted_it_makes_no_difference_how_many(seconds: float) -> None:
    most = most_ready(situation(3, seconds).sample, TWO)
    assert submitted(situation(most, seconds)) == TWO.max_jobs == 10
    assert submitted(situation(most - 3 * most // 20, seconds)) == 9
    assert most_ready((), TWO) == 10 * 2 * 600


def test_a_few_long_stages_among_quick_ones_do_not_count_for_the_quick_ones() -> None:
    sample = (*[Cost(1, 2)] * 99, Cost(10 * HOURS, 20 * HOURS))
    assert submitted(Situation(0, 100, sample)) == 1
    assert submitted(Situation(0, 1000, sample)) == 6  # ten slots for long ones, one or two more


@pytest.mark.parametrize(
    ("jobs", "pending", "more"),
    [
        ((), (), 2),
        ((), (5.0,), 1),
        ((), (5.0, 5.0), 0),
        ((Job(2, 900),), (), 1),
        ((Job(2, 900), Job(2, 900)), (), 0),
        ((Job(2, 900, under_way=(HOURS, HOURS)),), (), 2),  # its slots are taken for long
        ((Job(2, 900, under_way=(1.0, 1.0)),), (), 1),  # its slots are free in a second
        ((Job(2, 900, left=0.0),), (), 2),  # it drains
        ((Job(2, 900, left=HOURS),), (), 2),  # too short a life for any of these stages
        ((Job(2, 900, left=9 * HOURS),), (), 1),
    ],
)
def test_jobs_that_are_there_count_as_far_as_they_will_help(
    jobs: tuple[Job, ...], pending: tuple[float, ...], more: int
) -> None:
    assert submitted(situation(4, 3 * HOURS, jobs=jobs, pending=pending)) == more


def test_a_successor_is_wanted_before_a_job_reaches_its_walltime() -> None:
    limits = replace(TWO, life=24 * HOURS)
    steady = situation(20, 60, jobs=(Job(2, 5000, 700.0, (30.0, 30.0)),))
    waiting = [
        submitted(replace(steady, jobs=(replace(steady.jobs[0], left=left),)), limits)
        for left in (700.0, 450.0, 100.0)
    ]
    assert waiting == [1, 1, 1]  # 2 slots of work, some of which the job itself will do
    few = replace(steady, ready=10)
    assert submitted(few, limits) == 0
    assert submitted(replace(few, jobs=(replace(few.jobs[0], left=300.0),)), limits) == 1


def test_a_successor_counts_to_max_jobs() -> None:
    near_its_end = tuple(Job(2, 5000, 100.0, (50.0, 50.0)) for _ in range(10))
    seen = situation(100, 60, jobs=near_its_end)
    assert submitted(seen) == 0
    assert why(seen) == (
        "100 stages are ready; 10 running and 0 pending jobs are as many as max_jobs = 10 allows"
    )


def test_stages_that_no_job_takes_ask_for_nothing() -> None:
    limits = replace(TWO, life=HOURS)
    assert submitted(situation(7, HOURS), limits) == 0
    assert why(situation(7, HOURS), limits) == (
        "7 stages are ready, left to partitions with more memory or a longer walltime: "
        "`qfarm launcher status` shows whether they get jobs; where one has no launcher, `qfarm "
        "launch NAME`"
    )
    endless = replace(TWO, life=inf)
    assert submitted(replace(situation(7, HOURS), sample=(Cost(5.0, inf),)), endless) == 0


def test_slots_that_do_not_take_what_is_ready_do_not_count() -> None:
    """Stages that wait for another node, beside a job that is kept alive by one attempt."""
    seen = situation(3, HOURS, jobs=(Job(8, 5000, under_way=(9 * HOURS,)),))
    limits, memory = replace(TWO, slots=8), Memory()
    for now, jobs in ((0.0, 0), (30.0, 0), (59.0, 0), (60.0, 1)):
        decision, memory = decide(replace(seen, now=now), limits, memory)
        assert decision.submit == jobs
    begun = Job(8, 100)  # it tests its engines
    assert submitted(replace(seen, now=70.0, jobs=(*seen.jobs, begun)), limits, memory) == 0


def test_quick_stages_that_come_and_go_beside_idle_slots_start_no_jobs() -> None:
    memory = Memory()
    for now in range(0, 4000, 20):
        seen = situation(5, 1.0, now=now, jobs=(Job(8, 5000.0 + now),))
        decision, memory = decide(seen, replace(TWO, slots=8), memory)
        assert decision.submit == 0


def test_what_fits() -> None:
    sample = (Cost(60, 100), Cost(300, 500), Cost(600, 1000))
    weights = [fitting(sample, left, TWO) for left in (0, 99, 100, 500, 1000)]
    assert weights == pytest.approx([0, 0, 0.0625, 0.375, 1])
    seen = Situation(0, 3, sample)
    assert spare_slots(Job(2, 900, 500, (100.0,)), seen, TWO) == pytest.approx(1.5 * 0.375)


def test_what_is_expected_of_an_attempt() -> None:
    assert still(100, 30) == 70
    assert still(100, 100) == 100
    assert still(100, 5000) == 5000


@pytest.mark.parametrize(
    ("rate", "after_seconds", "jobs"),
    [(20, 0, 20), (20, 59.9, 0), (20, 60, 20), (2.9, 60, 2), (0.5, 60, 0), (0.5, 120, 1)],
)
def test_submission_rate(rate: float, after_seconds: float, jobs: int) -> None:
    limits = Limits(1, 1000, rate)
    before = Memory()
    if after_seconds:
        before = learnt(Submitted(submitted(situation(9999), limits)))
    now = 1000.0 + after_seconds
    assert submitted(situation(9999, now=now), limits, before) == jobs


def test_rate_in_words() -> None:
    limits = Limits(1, 1000, 20)
    assert why(situation(9999, 600), limits) == (
        "9,999 stages are ready: 20 of 1000 jobs submitted, for submit_per_minute = 20"
    )
    assert why(situation(1)) == "1 stage is ready: 1 job submitted"
    assert why(situation(1, jobs=(Job(2, 900),))) == (
        "1 stage is ready; 1 running and 0 pending jobs will do"
    )


def test_pending_jobs_are_kept_for_a_while_when_nothing_is_ready() -> None:
    pending, memory, done = (290.0, 10.0), Memory(), []
    for now in (0.0, 100.0, 299.0, 300.0, 600.0):
        seen = Situation(now, 0, pending=tuple(age + now for age in pending))
        decision, memory = decide(seen, TWO, memory)
        done.append((decision.cancel_pending, decision.why))
    assert done == [
        (0, "nothing is ready"),
        (0, "nothing is ready"),
        (0, "nothing is ready"),
        (2, "nothing has been ready for 5 min; 2 pending jobs are cancelled"),
        (2, "nothing has been ready for 10 min; 2 pending jobs are cancelled"),
    ]


def test_a_job_submitted_a_moment_ago_is_not_cancelled() -> None:
    _, memory = decide(Situation(0, 0), TWO, Memory())
    decision, _ = decide(Situation(3600, 0, pending=(299.0, 300.0)), TWO, memory)
    assert decision.cancel_pending == 1


def test_the_queue_must_be_empty_all_the_time() -> None:
    _, memory = decide(Situation(0, 0), TWO, Memory())
    _, memory = decide(situation(1, now=200), TWO, memory)
    decision, memory = decide(Situation(400, 0, pending=(1000.0,)), TWO, memory)
    assert decision.cancel_pending == 0


@pytest.mark.parametrize(
    ("gate", "cancelled", "sentence"),
    [
        (Gate.PAUSED, 0, "paused: no new jobs; `qfarm launcher resume` goes on"),
        (
            Gate.DRAINING,
            2,
            "draining: no new jobs; 1 job to finish; 2 pending jobs are cancelled",
        ),
        (Gate.STOPPING, 2, "stopping: 1 job to end; 2 pending jobs are cancelled"),
    ],
)
def test_closed_by_the_user(gate: Gate, cancelled: int, sentence: str) -> None:
    seen = situation(5000, jobs=(Job(2, 900),), pending=(1.0, 2.0), gate=gate)
    decision, _ = decide(seen, TWO, Memory())
    assert (decision.submit, decision.cancel_pending, decision.why) == (0, cancelled, sentence)


def test_refusals_double_the_wait() -> None:
    memory, waits, now = Memory(), [], 1000.0
    for _ in range(7):
        memory = learnt(Submitted(0), Refused("QOSMaxSubmit"), before=memory, now=now)
        waits.append(memory.try_again - now)
        assert submitted(situation(9999, now=memory.try_again - 1), memory=memory) == 0
        assert submitted(situation(9999, now=memory.try_again), memory=memory) == 1
        now = memory.try_again
    assert waits == [30, 60, 120, 240, 480, 900, 900]
    assert why(situation(9999, now=now - 30), memory=memory) == (
        "the scheduler took no job: QOSMaxSubmit; next try in 30 s"
    )


def test_success_forgets_refusals_one_by_one() -> None:
    memory = learnt(*[Refused("no")] * 4)
    assert memory.try_again == 1000 + 240
    for left in (3, 2, 1, 0):
        memory = learnt(Submitted(5), before=memory)
        assert memory.refusals == left
    assert memory.try_again == -inf


def test_a_job_that_ends_makes_room_for_another() -> None:
    """At the scheduler's own limit of jobs the waits grow, but an ended job is replaced soon."""
    ten = tuple(Job(2, 900, under_way=(HOURS, HOURS)) for _ in range(10))
    limits = replace(TWO, max_jobs=50)
    _, memory = decide(situation(9999, jobs=ten), limits, Memory())
    memory = learnt(*[Refused("QOSMaxSubmit")] * 6, before=memory)
    later = situation(9999, jobs=ten, now=1100)
    assert submitted(later, limits, memory) == 0
    assert submitted(replace(later, jobs=ten[:7]), limits, memory) == 3  # and no further


def test_refused_without_any_job_is_closed() -> None:
    memory = learnt(*[Refused("partition down")] * 3)
    assert decide(situation(5), TWO, memory)[0].closed == (
        "the scheduler took no job: partition down"
    )
    assert decide(situation(5, pending=(9.0,)), TWO, memory)[0].closed == ""
    assert decide(situation(5), TWO, learnt(*[Refused("")] * 2))[0].closed == ""


def test_jobs_that_die_at_once_are_tried_one_by_one() -> None:
    memory = learnt(Died(20, "module: command not found"))
    sentence = (
        "20 jobs in a row died before they could work, the last: module: command not found; read "
        "`qfarm launcher logs`, and mend `modules`, `prologue` or `python` in qfarm.toml"
    )
    decision, _ = decide(situation(9999), TWO, memory)
    assert (decision.submit, decision.not_before) == (0, 1030)
    assert (decision.why, decision.closed) == (f"{sentence}; next try in 30 s", sentence)
    decision, _ = decide(situation(9999, now=1030), TWO, memory)
    assert (decision.submit, decision.why) == (1, f"{sentence}; one job is tried")
    for there in (
        situation(9999, now=1030, pending=(3.0,)),
        situation(9999, now=1030, jobs=(Job(2, 9),)),
    ):
        decision, _ = decide(there, TWO, memory)
        assert (decision.submit, decision.why) == (0, f"{sentence}; one job is being tried")


def test_a_partition_whose_older_jobs_work_is_not_closed_by_new_ones_that_die() -> None:
    memory = learnt(Died(5, "no"))
    idle, works = Job(2, 900), Job(2, 900, under_way=(60.0,))
    assert decide(situation(9999, jobs=(idle,)), TWO, memory)[0].closed != ""
    assert decide(situation(9999, jobs=(idle, works)), TWO, memory)[0].closed == ""


def test_waits_for_dying_jobs_double_and_end_when_one_lives() -> None:
    memory, now, waits = Memory(), 0.0, []
    for _ in range(8):
        memory = learnt(Died(3, "no"), Died(9, "no"), before=memory, now=now)
        waits.append(memory.quiet_until - now)
        now = memory.quiet_until
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    assert submitted(situation(9999), memory=learnt(Lived(), before=memory)) == 10


def test_two_that_die_are_no_pattern() -> None:
    assert submitted(situation(9999), memory=learnt(Died(2, "node failure"))) == 10
    assert submitted(situation(9999), memory=learnt(Died(2, ""), Lived(), Died(2, ""))) == 10


def test_idle_jobs_count_only_where_there_was_work_all_the_time() -> None:
    _, memory = decide(situation(5, now=1000), TWO, Memory())
    idled = Idled(3, 120)
    assert learnt(idled, before=memory, now=1119).vain == 0
    memory = learnt(idled, before=memory, now=1120)
    assert why(situation(5, now=1120), memory=memory) == (
        "3 jobs in a row found nothing that they could do, though stages were ready; read `qfarm "
        "launcher logs`: engines that fail their test, or nodes that are left alone; next try in "
        "30 s"
    )
    _, empty = decide(Situation(1200, 0), TWO, memory)
    assert learnt(idled, before=replace(empty, vain=0), now=9999).vain == 0


def test_limits_of_a_partition() -> None:
    partition = Partition(slots=8, max_jobs=3, submit_per_minute=0.5, walltime="0:10:00")
    assert Limits.of(partition) == Limits(8, 3, 0.5, 600)
    assert Limits.of(partition, life=480) == Limits(8, 3, 0.5, 480)
    assert Limits.of(Partition()).life == inf
    assert (Limits.of(partition).horizon, Limits(life=inf).horizon) == (300, 600)
    assert (Limits.of(partition).window, Limits().window) == ((1, 120), (20, 60))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (60, "60 s"),
        (60.1, "2 min"),
        (3600, "60 min"),
        (3601, "2 h"),
        (172800, "48 h"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert about(seconds) == words
