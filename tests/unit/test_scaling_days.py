"""Scaling over days of virtual time: never above limits, no loops, everything drains."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfarm.store.fleet import Gate
from qfarm_launchers.scaling import (
    Cost,
    Died,
    Event,
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
)
from qfarm_launchers.scaling.decide import EMPTY_SECONDS, SETTLED
from qfarm_launchers.scaling.memory import LONGEST_WAIT
from qfarm_launchers.scaling.situation import HORIZON
from support.virtual_cluster import LEASE, Cluster, Stage, Weather, World

HOUR = 3600.0
DAY = 24 * HOUR
TICK = 20.0


# One decision after the other, whatever the world does.

LIMITS = st.builds(
    Limits,
    st.sampled_from([1, 2, 8]),
    st.integers(1, 40),
    st.sampled_from([0.4, 1, 3, 20]),
    st.sampled_from([inf, 600.0, HOUR, DAY]),
)
SECONDS = st.sampled_from([0.0, 1.0, 50.0, 299.0, 300.0, 700.0, 5000.0, DAY])
JOB = st.builds(
    Job,
    st.sampled_from([1, 8]),
    SECONDS,
    SECONDS | st.just(inf),
    st.lists(SECONDS, max_size=8).map(tuple),
)
COST = st.builds(
    lambda seconds, times: Cost(seconds, times * seconds), SECONDS, st.sampled_from([1, 3])
)
EVENT = (
    st.builds(Refused, st.just("no"))
    | st.builds(Died, st.integers(0, 4), st.just("why"))
    | st.builds(Idled, st.integers(0, 4), SECONDS)
    | st.builds(Lived, st.integers(0, 2))
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[float, Situation, list[Event]]:
    """Seconds since the tick before, what is seen then, what happens after it."""
    seen = Situation(
        0.0,
        draw(st.sampled_from([0, 1, 7, 10_000])),
        tuple(draw(st.lists(COST, max_size=3))),
        tuple(draw(st.lists(JOB, max_size=4))),
        tuple(draw(st.lists(SECONDS, max_size=4))),
        draw(st.sampled_from([Gate.OPEN] * 4 + list(Gate))),
    )
    return draw(st.sampled_from([1.0, 20.0, 60.0, 400.0])), seen, draw(st.lists(EVENT, max_size=3))


@given(LIMITS, st.lists(steps(), max_size=25))
@settings(max_examples=120, deadline=None)
def test_whatever_happens_a_decision_keeps_the_rules(
    limits: Limits, history: list[tuple[float, Situation, list[Event]]]
) -> None:
    memory, now, tries, empty_since = Memory(), 0.0, [], None
    for passed, there, events in history:
        now += passed
        seen = replace(there, now=now)
        empty_since = (now if empty_since is None else empty_since) if seen.ready == 0 else None
        decision, memory = decide(seen, limits, memory)
        assert decision.why
        assert decision == decide(seen, limits, memory)[0]  # nothing but its arguments counts
        if decision.submit:
            keeps_submission_rules(seen, limits, decision.submit)
            assert now >= decision.not_before
        if decision.cancel_pending and seen.gate in (Gate.OPEN, Gate.PAUSED):
            assert now - empty_since >= EMPTY_SECONDS
            assert sorted(seen.pending)[-decision.cancel_pending] >= SETTLED
        assert 0 <= decision.cancel_pending <= len(seen.pending)
        tries += [now] * decision.submit
        memory = after(memory, [Submitted(decision.submit), *events], now)
    keeps_the_rate(tries, limits)


def keeps_submission_rules(seen: Situation, limits: Limits, submit: int) -> None:
    assert seen.gate is Gate.OPEN
    assert seen.present + submit <= limits.max_jobs
    assert (len(seen.pending) + submit - 1) * limits.slots < seen.ready


def keeps_the_rate(tries: list[float], limits: Limits) -> None:
    most, seconds = limits.window
    assert seconds >= 60
    assert most <= max(1.0, limits.submit_per_minute * seconds / 60)
    assert all(later - first >= seconds for first, later in zip(tries, tries[most:], strict=False))


# Days of a partition.


def stages(random: Random, number: int, mean: float, sigma: float, wrong: float) -> Iterator[Stage]:
    """Fragments of one or two stages, with long-tailed costs and predictions that are `wrong`."""
    for _ in range(number):
        costs = [
            mean * min(20.0, random.lognormvariate(0, sigma)) for _ in range(random.choice((1, 2)))
        ]
        first, *rest = [Stage(cost, cost * wrong) for cost in costs]
        yield replace(first, rest=tuple(rest))


def work_of(batch: Iterable[Stage]) -> tuple[int, float, float]:
    """Stages; slot-seconds of all; seconds of the longest fragment."""
    fragments = [sum(one.cost for one in (stage, *stage.rest)) for stage in batch]
    return sum(1 + len(stage.rest) for stage in batch), sum(fragments), max(fragments)


WEATHER = st.fixed_dictionaries(
    {
        "wait": st.sampled_from([5.0, 60.0, 2 * HOUR]).map(
            lambda mean: lambda random: random.expovariate(1 / mean)
        ),
        "nodes": st.sampled_from([2, 10, 1000]),
        "most": st.sampled_from([1, 10, 1000]),
        "away": st.sampled_from([(), ((5000.0, 5200.0), (6000.0, 20000.0))]),
        "broken": st.sampled_from([(), ((100.0, 9000.0),)]),
        "preempted": st.sampled_from([inf, HOUR]),
        "walltime": st.sampled_from([inf, DAY, 4 * HOUR]),
        "idle": st.sampled_from([0.0, 60.0, 120.0]),
    }
)


@given(
    seed=st.integers(0, 2**20),
    sky=WEATHER,
    limits=LIMITS,
    bursts=st.lists(
        st.tuples(st.floats(0, 20000), st.sampled_from([1, 5, 40, 150])), min_size=1, max_size=4
    ),
    costs=st.sampled_from([(1.0, 0.3), (20.0, 1.5), (100.0, 1.0)]),
    wrong=st.sampled_from([0.1, 1.0, 1.0, 3.0]),
    killed=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_days_of_a_partition(
    seed: int,
    sky: dict[str, object],
    limits: Limits,
    bursts: list[tuple[float, int]],
    costs: tuple[float, float],
    wrong: float,
    killed: bool,
) -> None:
    world = World(seed)
    weather = Weather(**sky)
    limits = replace(limits, life=weather.walltime)
    cluster = Cluster(world, limits, weather, tick=TICK)
    number = 0
    for begin, size in bursts:
        batch = list(stages(world.random, size, *costs, wrong))
        number += work_of(batch)[0]
        world.arrive(begin, batch)
    if killed:
        world.at(7000.0, cluster.forget)
    while world.now < 30 * DAY and (world.now < 20001 or world.unfinished):
        world.run(world.now + HOUR)
    world.run(world.now + HOUR)
    assert (world.unfinished, world.finished) == (0, number)
    keeps_limits(cluster)
    takes_back_nothing_young(cluster)
    submits_for_work_only(cluster, number)
    comes_to_rest(cluster, world)
    asks_again_soon(cluster)


def keeps_limits(cluster: Cluster) -> None:
    assert max(look.pending + look.running for look in cluster.diary) <= cluster.limits.max_jobs
    keeps_the_rate([time for time, _ in cluster.tries], cluster.limits)


def takes_back_nothing_young(cluster: Cluster) -> None:
    """No job is taken back soon, nor while anything was ready in the minutes before."""
    filled = [look.now for look in cluster.diary if look.ready]
    for job in cluster.past:
        if job.cancelled:
            assert job.ended - job.submitted >= SETTLED
            assert not any(job.ended - EMPTY_SECONDS < time <= job.ended for time in filled)


def submits_for_work_only(cluster: Cluster, number: int) -> None:
    """Jobs are asked for by what is ready, and one idles only if nothing has been since it came."""
    for look in cluster.diary:
        if look.decision.submit and look.pending:
            assert (look.pending - 1) * cluster.limits.slots < look.ready
    assert not any(look.decision.submit and not look.ready for look in cluster.diary)
    filled = [look.now for look in cluster.diary if look.ready]
    for job in cluster.past:
        if job.ready < inf and not job.attempts:
            assert not any(job.ready < time < job.ended for time in filled)
    assert sum(job.attempts for job in cluster.past) >= number


def comes_to_rest(cluster: Cluster, world: World) -> None:
    """Soon after the last stage no job is left."""
    rest = EMPTY_SECONDS + SETTLED + cluster.weather.start + cluster.weather.idle + 3 * TICK
    assert cluster.jobs == []
    assert max(job.ended for job in cluster.past) <= world.last_finished + rest


def asks_again_soon(cluster: Cluster) -> None:
    """After an outage the scheduler is asked within the longest wait, if jobs are wanted."""
    for _, end in cluster.weather.away:
        span = [look for look in cluster.diary if end <= look.now <= end + LONGEST_WAIT + TICK]
        wanting = all(look.ready and not look.pending and not look.running for look in span)
        asked = any(end <= time <= span[-1].now for time, _ in cluster.tries)
        broken = any(begin < end < stop for begin, stop in cluster.weather.broken)
        assert asked or not wanting or broken


@pytest.mark.parametrize("wrong", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("slots", [1, 8])
def test_a_burst_is_done_about_as_fast_as_the_limits_allow(slots: int, wrong: float) -> None:
    """Long tails and wrong predictions included; jobs are used well, and not too many."""
    world, limits = World(3), Limits(slots, 20, 20, inf)
    cluster = Cluster(world, limits, Weather(), tick=TICK)
    batch = list(stages(Random(4), 3000, 60.0, 1.0, wrong))
    number, work, longest = work_of(batch)
    world.arrive(100.0, batch)
    world.run(10 * HOUR)
    assert world.finished == number
    fastest = work / (slots * limits.max_jobs)
    too_few = 10 * HORIZON if wrong < 1 else 0.0  # thought to be done within one horizon
    assert world.last_finished - 100 <= 1.2 * fastest + longest + 300 + too_few
    assert len(cluster.past) <= 1.5 * limits.max_jobs
    assert cluster.useful / cluster.allocated >= {1: 0.95, 8: 0.75}[slots]


@pytest.mark.parametrize(("wrong", "jobs"), [(0.1, 1), (1.0, 1), (10.0, 2)])
def test_forty_quick_stages_do_not_start_forty_jobs(wrong: float, jobs: int) -> None:
    world = World()
    cluster = Cluster(world, Limits(1, 100, 100), Weather(), tick=TICK)
    world.arrive(10.0, [Stage(3.0, 3.0 * wrong) for _ in range(40)])
    world.run(HOUR)
    assert (world.finished, len(cluster.past)) == (40, jobs)


def test_a_trickle_keeps_one_job_busy_and_starts_no_loop() -> None:
    """A stage every 90 s, of about a minute, for two days: a job lives as long as they come."""
    world = World(5)
    cluster = Cluster(world, Limits(1, 50, 20, DAY), Weather(walltime=DAY), tick=TICK)
    for index in range(int(2 * DAY / 90)):
        world.arrive(90.0 * index, [Stage(60.0 * world.random.lognormvariate(0, 0.5), 60.0)])
    world.run(2 * DAY + HOUR)
    assert world.unfinished == 0
    assert max(look.pending + look.running for look in cluster.diary) <= 3
    assert len(cluster.past) <= 60  # 1,920 stages
    assert not any(job.cancelled for job in cluster.past)


def test_a_broken_prologue_burns_few_jobs() -> None:
    world = World()
    weather = Weather(broken=((0.0, 2 * DAY),))
    cluster = Cluster(world, Limits(1, 100, 100), weather, tick=TICK)
    world.arrive(10.0, [Stage(600.0, 600.0) for _ in range(10_000)])
    world.run(2 * DAY)
    first = sum(job.submitted < 600 for job in cluster.past)
    assert len(cluster.past) - first <= 2 * DAY / LONGEST_WAIT
    assert first <= 105
    assert "died before they could work" in cluster.closed
    world.run(2 * DAY + LONGEST_WAIT + 10 * 60)  # it was mended at two days
    assert len(cluster.jobs) == 100
    assert cluster.closed == ""


def test_a_scheduler_with_a_lower_limit_is_kept_full_with_few_refusals() -> None:
    world = World(1)
    weather = Weather(most=10, walltime=HOUR)
    cluster = Cluster(world, Limits(1, 50, 20, HOUR), weather, tick=TICK)
    world.arrive(10.0, [Stage(60.0, 60.0) for _ in range(10_000)])
    world.run(8 * HOUR)
    later = [look.running + look.pending for look in cluster.diary if look.now > HOUR / 2]
    assert sum(later) / len(later) >= 9.5
    refused = sum(not taken for _, taken in cluster.tries)
    assert refused <= len(cluster.tries) / 2


def test_an_outage_of_hours_is_over_for_us_within_the_longest_wait() -> None:
    world = World()
    weather = Weather(away=((0.0, 5 * HOUR),))
    cluster = Cluster(world, Limits(1, 10, 20), weather, tick=TICK)
    world.arrive(10.0, [Stage(600.0, 600.0) for _ in range(100)])
    world.run(5 * HOUR)
    assert len(cluster.tries) <= 5 + 5 * HOUR / LONGEST_WAIT
    assert cluster.closed == "the scheduler took no job: Unable to contact slurm controller"
    world.run(5 * HOUR + LONGEST_WAIT + TICK)
    assert any(taken for _, taken in cluster.tries)


def test_walltimes_are_chained_without_a_gap() -> None:
    """At four-hour walltimes, one slot's work always has a job, and never three."""
    world = World()
    weather = Weather(walltime=4 * HOUR)
    cluster = Cluster(world, Limits(1, 3, 20, 4 * HOUR), weather, tick=TICK)
    for index in range(int(DAY / 300)):
        world.arrive(300.0 * index, [Stage(290.0, 290.0)])
    world.run(DAY)
    running = [look.running for look in cluster.diary if look.now > 600]
    assert sum(number > 0 for number in running) / len(running) >= 0.99
    assert len(cluster.past) + len(cluster.jobs) <= 12


def test_what_a_dead_job_held_is_done_by_another() -> None:
    world = World(2)
    cluster = Cluster(world, Limits(2, 4, 20), Weather(preempted=600.0), tick=TICK)
    world.arrive(0.0, [Stage(300.0, 300.0) for _ in range(50)])
    world.run(DAY)
    assert (world.unfinished, cluster.jobs) == (0, [])
    assert world.last_finished < 4 * 50 * 300.0 / 8 + LEASE + HOUR


@pytest.mark.parametrize("gate", [Gate.DRAINING, Gate.PAUSED])
def test_a_partition_that_is_closed_in_the_midst_of_its_work_empties(gate: Gate) -> None:
    world = World()
    weather = Weather(wait=lambda random: random.uniform(0, HOUR))
    cluster = Cluster(world, Limits(2, 10, 20), weather, tick=TICK)
    world.arrive(0.0, [Stage(300.0, 300.0) for _ in range(5000)])

    def close() -> None:
        cluster.gate = gate

    world.at(1000.0, close)
    world.run(1000.0 + 2 * HOUR)
    assert cluster.jobs == []
    assert max(job.submitted for job in cluster.past) < 1000
    assert any(job.cancelled for job in cluster.past) == (gate is Gate.DRAINING)


def test_a_partition_whose_jobs_die_leaves_its_stages_to_the_one_it_spills_to() -> None:
    world = World()
    gpu = Cluster(
        world,
        Limits(1, 10, 20),
        Weather(broken=((0.0, DAY),)),
        tick=TICK,
        takes=lambda: ("gpu",),
    )
    cpu = Cluster(
        world,
        Limits(4, 10, 20),
        Weather(),
        tick=TICK,
        takes=lambda: ("cpu", "gpu") if gpu.closed else ("cpu",),
    )
    world.arrive(0.0, [Stage(60.0, 60.0, "gpu") for _ in range(500)])
    world.run(2 * HOUR)
    assert (world.unfinished, cpu.jobs, gpu.jobs) == (0, [], [])
    assert sum(job.attempts for job in cpu.past) == 500
    assert len(gpu.past) <= 20
