"""What every store must do for launchers, the batch jobs that they start, and suspect nodes."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pymongo.database import Database

from qfarm.ladder import Done, Retry
from qfarm.store.fleet import (
    Demand,
    Fleet,
    Gate,
    JobNote,
    JobState,
    NodeNote,
    Sample,
    Standing,
)
from qfarm.store.protocol import Claim, Store
from qfarm.store.wish import ANYTHING, Ahead, Wish
from qfarm_schemas.attempt import Cost, Rung, Worker
from qfarm_schemas.failure import Budget, FailureKind
from qfarm_schemas.level import BasisTier
from support.build import stage
from support.lpad import raw
from support.threads import at_once
from support.work import (
    GFN2,
    LEASE,
    PREOPT,
    SINGLE_POINT,
    attempt_of,
    failed,
    finish,
    plan_of,
    plans,
    record_of,
    take,
    water,
    worker,
)

__all__ = ["raw"]

Raw = Database[dict[str, Any]]

MINUTE, BLINK = 60.0, 0.05
HARD: dict[str, Any] = {"a.b": {"$set": "$x", "": [1.5, None, True]}, "$now": "é"}
"""Keys and texts that MongoDB would read as its own."""


@pytest.fixture
def fleet(store: Store) -> Fleet:
    return store.fleet


def near(time: datetime | None, seconds: float = 0.0) -> bool:
    """Whether it is about so many seconds from now, and aware."""
    wanted = datetime.now(UTC) + timedelta(seconds=seconds)
    return time is not None and abs((time - wanted).total_seconds()) < 5


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def kept(fleet: Fleet, token: str, seconds: float = MINUTE) -> Standing:
    found = fleet.keep("cpu", token, seconds, {})
    assert found is not None
    return found


# Leases of partitions.


def test_nobody_ever_launched_it(fleet: Fleet) -> None:
    assert fleet.standing("cpu") == Standing("cpu")
    assert fleet.standings() == ()
    assert fleet.keep("cpu", "", MINUTE, {}) is None
    fleet.leave("cpu", "", Gate.STOPPING)
    assert fleet.standings() == ()


def test_one_launcher_a_partition(fleet: Fleet) -> None:
    first = fleet.take("cpu", worker("a"), MINUTE)
    assert first
    assert fleet.take("cpu", worker("b"), MINUTE) == ""
    assert fleet.take("gpu", worker("b"), MINUTE)
    found = fleet.standing("cpu")
    assert (found.launcher, found.alive, found.gate) == (worker("a"), True, Gate.OPEN)
    assert [standing.name for standing in fleet.standings()] == ["cpu", "gpu"]


def test_of_many_that_take_at_once_one_gets_it(fleet: Fleet) -> None:
    for partition in ("a", "b", "c", "d"):
        takers = [partial(fleet.take, partition, worker(str(n)), MINUTE) for n in range(6)]
        tokens = [token for token in at_once(*takers) if token]
        assert len(tokens) == 1
        assert fleet.keep(partition, tokens[0], MINUTE, {}) is not None


def test_an_ended_lease_is_taken_and_its_holder_fenced(fleet: Fleet) -> None:
    old = fleet.take("cpu", worker("old"), BLINK)
    until(lambda: not fleet.standing("cpu").alive)
    takers = [partial(fleet.take, "cpu", worker(str(n)), MINUTE) for n in range(6)]
    (new,) = [token for token in at_once(*takers) if token]
    assert fleet.keep("cpu", old, MINUTE, {"jobs": 1}) is None
    fleet.leave("cpu", old, Gate.STOPPING)
    found = fleet.standing("cpu")
    assert (found.alive, found.gate, found.look) == (True, Gate.OPEN, {})
    assert kept(fleet, new).alive


def test_a_launcher_that_was_killed_is_told_from_one_that_left(fleet: Fleet) -> None:
    token = fleet.take("cpu", worker("a"), BLINK)
    assert not fleet.standing("cpu").lately  # it has not looked yet
    kept(fleet, token, BLINK)
    until(lambda: not fleet.standing("cpu").alive)
    assert (fleet.standing("cpu").lost, fleet.standing("cpu").lately) == (True, True)
    again = fleet.take("cpu", worker("b"), MINUTE)
    assert not fleet.standing("cpu").lost
    fleet.leave("cpu", again)
    assert (fleet.standing("cpu").lost, fleet.standing("cpu").alive) == (False, False)


def test_who_wakes_up_before_others_came_goes_on(fleet: Fleet) -> None:
    token = fleet.take("cpu", worker("a"), BLINK)
    until(lambda: not fleet.standing("cpu").alive)
    assert kept(fleet, token).alive
    assert fleet.take("cpu", worker("b"), MINUTE) == ""


def test_a_launcher_that_is_known_to_be_dead(fleet: Fleet) -> None:
    old = fleet.take("cpu", worker("a"), MINUTE)
    assert fleet.take("cpu", worker("b"), MINUTE, free=True)
    assert fleet.keep("cpu", old, MINUTE, {}) is None
    assert fleet.standing("cpu").launcher == worker("b")


def test_leaving_gives_the_partition_up(fleet: Fleet) -> None:
    token = fleet.take("cpu", worker("a"), MINUTE)
    fleet.leave("cpu", token)
    found = fleet.standing("cpu")
    assert (found.launcher, found.alive, found.gate) == (worker("a"), False, Gate.OPEN)
    assert fleet.keep("cpu", token, MINUTE, {}) is None
    token = fleet.take("cpu", worker("b"), MINUTE)
    assert token
    fleet.leave("cpu", token, Gate.DRAINING)
    assert fleet.standing("cpu").gate is Gate.DRAINING


def test_word_that_a_launcher_leaves(fleet: Fleet) -> None:
    token = fleet.take("cpu", worker("a"), MINUTE)
    fleet.keep("cpu", token, MINUTE, HARD)
    found = fleet.keep("cpu", token, MINUTE, {"jobs": 2})
    assert found == fleet.standing("cpu")
    assert found is not None
    assert found.look == {"jobs": 2}
    assert near(found.looked)
    fleet.keep("cpu", token, MINUTE, HARD)
    assert fleet.standing("cpu").look == HARD


def test_gates(fleet: Fleet) -> None:
    for gate in (Gate.PAUSED, Gate.DRAINING, Gate.STOPPING, Gate.OPEN):
        fleet.ask("cpu", gate)
        found = fleet.standing("cpu")
        assert (found.gate, found.closed) == (gate, gate is not Gate.OPEN)
        assert near(found.since)
        fleet.ask("cpu", gate)
        assert fleet.standing("cpu") == found, "it was not moved"
    token = fleet.take("cpu", worker("a"), MINUTE)
    fleet.ask("cpu", Gate.PAUSED)
    assert kept(fleet, token).gate is Gate.PAUSED
    assert fleet.standing("gpu").gate is Gate.OPEN


def test_gates_are_moved_by_several_at_once(fleet: Fleet) -> None:
    at_once(*(partial(fleet.ask, f"p{n % 3}", Gate.PAUSED) for n in range(12)))
    assert [found.gate for found in fleet.standings()] == [Gate.PAUSED] * 3


def test_a_scheduler_that_refuses_closes_its_partition(fleet: Fleet) -> None:
    fleet.refuse("cpu", "$sbatch: error: invalid account")
    found = fleet.standing("cpu")
    assert (found.refused, found.closed, found.gate) == (
        "$sbatch: error: invalid account",
        True,
        Gate.OPEN,
    )
    fleet.refuse("cpu", "")
    assert not fleet.standing("cpu").closed


# Jobs.

JOB = JobNote("qfarm-cpu-1", "cpu")


def the_job(fleet: Fleet, partition: str = "cpu", ended: bool = False) -> JobNote:
    (found,) = fleet.jobs(partition, ended)
    return found


def noted(fleet: Fleet) -> None:
    fleet.note(JOB)
    fleet.note(JobNote(JOB.name, "cpu", JobState.PENDING, "4711", slots=2))


def begun(fleet: Fleet) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    fleet.begin(JobNote(JOB.name, "cpu", host="c1", slots=4, scheduler_id="4711", ends=ends))
    assert fleet.beat(JOB.name, 3, 17)


def test_a_job_before_its_scheduler_was_asked(fleet: Fleet) -> None:
    fleet.note(JOB)
    found = the_job(fleet)
    assert (found.name, found.partition, found.state) == (JOB.name, "cpu", JobState.SUBMITTING)
    assert near(found.submitted)
    assert found == JobNote(JOB.name, "cpu", submitted=found.submitted)
    assert fleet.jobs("gpu") == ()


@pytest.mark.parametrize("order", [(noted, begun), (begun, noted), (noted, begun, noted)])
def test_launcher_and_job_tell_in_any_order(
    fleet: Fleet, order: tuple[Callable[[Fleet], None], ...]
) -> None:
    for tells in order:
        tells(fleet)
    found = the_job(fleet)
    assert (found.state, found.scheduler_id, found.host) == (JobState.RUNNING, "4711", "c1")
    assert (found.slots, found.busy, found.attempts) == (4, 3, 17)
    assert near(found.submitted)
    assert near(found.started)
    assert near(found.seen)
    assert near(found.ends, 3600)
    assert (found.ended, found.why, found.drain) == (None, "", False)


def test_launcher_and_job_tell_at_the_same_moment(fleet: Fleet) -> None:
    for number in range(8):
        job = JobNote(f"j{number}", "cpu", JobState.PENDING, "1")
        told = JobNote(f"j{number}", "cpu", host="c1")
        at_once(partial(fleet.note, job), partial(fleet.begin, told), partial(fleet.note, job))
    found = fleet.jobs("cpu")
    assert [(job.state, job.scheduler_id, job.host) for job in found] == [
        (JobState.RUNNING, "1", "c1")
    ] * 8


def test_what_is_known_of_a_job_is_not_forgotten(fleet: Fleet) -> None:
    noted(fleet)
    before = the_job(fleet)
    fleet.note(JobNote(JOB.name, "cpu", JobState.PENDING, slots=2))
    assert the_job(fleet) == before


def test_a_job_that_is_to_drain(fleet: Fleet) -> None:
    noted(fleet)
    begun(fleet)
    fleet.note(JobNote("other", "cpu"))
    fleet.begin(JobNote("other", "cpu"))
    fleet.drain([JOB.name, "unknown"])
    assert not fleet.beat(JOB.name, 1, 18)
    assert fleet.beat("other", 1, 0)
    assert [job.drain for job in fleet.jobs("cpu")] == [True, False]
    fleet.note(JobNote(JOB.name, "cpu", JobState.RUNNING))
    assert not fleet.beat(JOB.name, 1, 18)


def test_the_first_reason_stays(fleet: Fleet) -> None:
    noted(fleet)
    begun(fleet)
    fleet.end(JOB.name)
    first = the_job(fleet, ended=True)
    assert (first.state, first.why) == (JobState.ENDED, "")
    assert near(first.ended)
    fleet.end(JOB.name, "$cancelled by hand")
    fleet.end(JOB.name, "walltime")
    fleet.note(JobNote(JOB.name, "cpu", JobState.ENDED, why="gone"))
    found = the_job(fleet, ended=True)
    assert (found.why, found.ended) == ("$cancelled by hand", first.ended)
    assert fleet.jobs("cpu") == ()
    fleet.end("unknown", "no")
    assert len(fleet.jobs("cpu", ended=True)) == 1


def test_signs_of_life_after_the_end_end_the_job(fleet: Fleet) -> None:
    """Its launcher has counted it out, and may have submitted another in its place."""
    noted(fleet)
    begun(fleet)
    fleet.note(JobNote(JOB.name, "cpu", JobState.ENDED, why="the scheduler lost it"))
    assert not fleet.beat(JOB.name, 2, 20)
    fleet.note(JobNote(JOB.name, "cpu", JobState.RUNNING))
    found = the_job(fleet, ended=True)
    assert (found.state, found.why, found.attempts) == (
        JobState.ENDED,
        "the scheduler lost it",
        20,
    )


def test_a_job_that_its_scheduler_runs_again(fleet: Fleet) -> None:
    noted(fleet)
    begun(fleet)
    fleet.end(JOB.name, "node failed")
    begun(fleet)
    found = the_job(fleet)
    assert (found.state, found.why, found.ended) == (JobState.RUNNING, "", None)


def test_a_job_that_has_begun_to_work(fleet: Fleet) -> None:
    begun(fleet)
    assert not the_job(fleet).worked
    assert fleet.beat(JOB.name, 1, 0, True)
    assert the_job(fleet).worked
    fleet.end(JOB.name, "preempted")
    begun(fleet)  # its scheduler runs it again
    assert not the_job(fleet).worked


def test_jobs_are_found_by_name_whether_they_have_ended_or_not(fleet: Fleet) -> None:
    """More of them than the last hundred that ended, and of any partition."""
    names = [f"job{number:03}" for number in range(120)]
    for name in names:
        fleet.note(JobNote(name, "cpu"))
        fleet.end(name, f"end of {name}")
    fleet.note(JobNote("live", "gpu"))
    fleet.note(JobNote("another", "gpu"))
    found = fleet.named([*names, "live", "unknown", "$live"])
    assert {note.name: note.why for note in found} == {
        **{name: f"end of {name}" for name in names},
        "live": "",
    }
    assert fleet.named([]) == ()


def test_a_sign_of_life_of_nobody(fleet: Fleet) -> None:
    assert fleet.beat("unknown", 1, 1)
    assert fleet.jobs("cpu", ended=True) == ()


def test_jobs_come_oldest_first_and_the_last_hundred_that_ended(fleet: Fleet) -> None:
    for number in range(105):
        fleet.note(JobNote(f"old{number:03}", "cpu"))
        fleet.end(f"old{number:03}")
    for name in ("z", "y", "x"):
        fleet.note(JobNote(name, "cpu"))
        time.sleep(0.002)
    assert [job.name for job in fleet.jobs("cpu")] == ["z", "y", "x"]
    every = [job.name for job in fleet.jobs("cpu", ended=True)]
    assert len(every) == 103
    assert every[-3:] == ["z", "y", "x"]
    assert {"old104", "old010"} < set(every)
    assert "old000" not in every


# Nodes.


def later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_suspects_are_left_alone_for_a_while(fleet: Fleet) -> None:
    fleet.suspect(NodeNote("c1", later(BLINK), "self-test"))
    fleet.suspect(NodeNote("c2", later(MINUTE), "$three failures", ("f1", "f2", "f3")))
    until(lambda: len(fleet.suspects()) == 1)
    (found,) = fleet.suspects()
    assert (found.host, found.why, found.fragments) == (
        "c2",
        "$three failures",
        ("f1", "f2", "f3"),
    )
    assert near(found.until, MINUTE)


def test_a_later_time_stays(fleet: Fleet) -> None:
    fleet.suspect(NodeNote("c1", later(MINUTE), "first"))
    fleet.suspect(NodeNote("c1", later(BLINK), "second"))
    assert [note.why for note in fleet.suspects()] == ["first"]
    fleet.suspect(NodeNote("c1", later(10 * MINUTE), "third"))
    (found,) = fleet.suspects()
    assert found.why == "third"
    assert near(found.until, 10 * MINUTE)


def test_a_node_that_is_used_again(fleet: Fleet) -> None:
    fleet.suspect(NodeNote("c1", later(MINUTE), "self-test"))
    fleet.clear("c1")
    fleet.clear("unknown")
    assert fleet.suspects() == ()
    fleet.suspect(NodeNote("c1", later(MINUTE), "again"))
    assert [note.why for note in fleet.suspects()] == ["again"]


def on(host: str, name: str = "w") -> Worker:
    return worker(name).model_copy(update={"host": host})


def fails(store: Store, host: str, kind: FailureKind, ago: float = 0.0) -> Claim:
    """An attempt that fails on a host and is tried again; when it is over, so many hours ago."""
    claim = take(store, on(host))
    end = datetime.now(UTC) - timedelta(hours=ago)
    attempt = attempt_of(claim, failed(kind), started=end, finished=end)
    store.commit(claim, attempt, Retry(Rung()))
    return claim


def test_failures_of_nodes_with_who_succeeded_later(store: Store) -> None:
    store.add(plans(2, SINGLE_POINT))
    old = fails(store, "bad", FailureKind.CRASHED, ago=2.0)
    fails(store, "bad", FailureKind.SCF_NOT_CONVERGED)
    fails(store, "bad", FailureKind.LOST_WORKER)
    new = fails(store, "worse", FailureKind.OUT_OF_MEMORY)
    assert old.key == new.key
    finish(store, take(store, on("good")))
    other = fails(store, "worse", FailureKind.SCRATCH_FULL)
    first, second, third = store.fleet.node_failures(3.0)
    assert (first.host, first.kind, first.key) == ("bad", "crashed", old.key)
    assert first.fragment_id == old.submitted.id
    assert near(first.finished, -7200)
    assert (second.host, second.kind, second.succeeded_on) == ("worse", "out-of-memory", "good")
    assert first.succeeded_on == "good"
    assert (third.key, third.succeeded_on) == (other.key, "")
    assert store.fleet.node_failures(1.0) == (second, third)
    store.fleet.clear("worse")
    assert store.fleet.node_failures(3.0) == (first,), "what was before it was cleared is over"


@pytest.mark.parametrize("kind", list(FailureKind))
def test_failures_of_the_node_budget_and_no_others(store: Store, kind: FailureKind) -> None:
    store.add(plans(1))
    fails(store, "c1", kind)
    found = [failure.kind for failure in store.fleet.node_failures(1.0)]
    assert found == ([kind.value] if kind.budget is Budget.NODE else [])


# What waits, and what it costs.


def test_demand_of_a_partition(store: Store) -> None:
    store.add([plan_of(water(1), stage(partition="gpu"))])
    store.add([plan_of(water(2), stage(partition="cpu"))], priority=3)
    store.add(plans(5, PREOPT, first=10))
    point = Ahead("single_point", SINGLE_POINT.level.id, "H2O", 3, "cpu")
    free = Ahead("preopt", GFN2.id, "H2O", 3)
    demand = store.fleet.demand
    assert demand("cpu", ANYTHING, 100, 3) == Demand(6, (point, free, free))
    assert demand("local", ANYTHING, 4, 0) == Demand(4, ())
    assert demand("local", Wish(stages=("single_point",)), 100, 5) == Demand(0, ())
    assert demand("local", Wish(partitions=("cpu", "gpu")), 100, 5).ready == 7
    assert demand("cpu", Wish(levels=frozenset({GFN2.id})), 100, 1) == Demand(5, (free,))
    fits = Wish(fits=lambda ahead: ahead.partition is not None)
    assert demand("cpu", fits, 100, 5) == Demand(1, (point,))
    take(store, worker("a", "cpu"))
    take(store, worker("b", "local"))
    assert demand("cpu", ANYTHING, 100, 0) == Demand(4, (), 1)
    assert demand("cpu", ANYTHING, 0, 0) == Demand(0, (), 1)
    assert demand("none", Wish(stages=("single_point",)), 100, 9) == Demand(0, ())


def test_demand_of_what_is_behind_the_head_of_the_queue(store: Store) -> None:
    """Forty at one level, then 40 at another, of which ten are counted."""
    store.add(plans(40, PREOPT))
    store.add(plans(40, SINGLE_POINT, first=100))
    demand = store.fleet.demand
    point = Ahead("single_point", SINGLE_POINT.level.id, "H2O", 3)
    assert point not in demand("local", ANYTHING, 50, 40).sample
    drawn = demand("local", ANYTHING, 50, 40, spread=True)
    assert (drawn.ready, len(drawn.sample)) == (50, 40)
    assert 0 < drawn.sample.count(point) <= 10, "none of the ten: one case in 10^10"
    whole = demand("local", ANYTHING, 50, 400, spread=True)
    assert (len(whole.sample), whole.sample.count(point)) == (50, 10)
    points = Wish(fits=lambda ahead: ahead == point)
    assert demand("local", points, 50, 4, spread=True) == Demand(10, (point,) * 4)
    assert demand("local", ANYTHING, 0, 40, spread=True) == Demand(0, ())
    assert demand("local", ANYTHING, 50, 0, spread=True) == Demand(50, ())


def test_levels_and_their_engines(store: Store) -> None:
    assert store.fleet.levels() == {}


def test_levels_of_what_was_submitted(store: Store) -> None:
    store.add(plans(2))
    assert store.fleet.levels() == {GFN2.id: "tblite", SINGLE_POINT.level.id: "pyscf"}


def test_samples_of_what_was_accepted(store: Store) -> None:
    assert store.fleet.samples(10) == ()
    store.add(plans(30))
    claims = store.claim_many(worker(partition="cpu"), LEASE, 30)
    assert len(claims) == 30
    cost = Cost(wall_seconds=12.5, cpu_seconds=20.0, peak_memory_mb=512.0, threads=2)
    for claim in claims:
        assert isinstance(claim, Claim)
        record = record_of(claim)
        provenance = record.provenance.model_copy(update={"cost": cost})
        attempt = attempt_of(claim)
        store.commit(claim, attempt, Done(), record.model_copy(update={"provenance": provenance}))
    found = store.fleet.samples(100)
    assert found == (Sample("cpu", "preopt", GFN2.id, "H2O", 3, 12.5, 512.0),) * 30
    assert len(store.fleet.samples(7)) == 7


def test_a_smaller_basis_teaches_nothing_of_the_level_asked_for(store: Store) -> None:
    store.add(plans(3))
    for basis in (BasisTier.INTERMEDIATE, None, BasisTier.LIGHT):
        claim = take(store)
        rung, cost = Rung(basis=basis), Cost(wall_seconds=9.0 if basis is None else 1.0)
        record = record_of(claim)
        provenance = record.provenance.model_copy(update={"cost": cost, "rung": rung})
        record = record.model_copy(update={"provenance": provenance})
        store.commit(claim, attempt_of(claim, rung=rung), Done(), record)
    assert [one.wall_seconds for one in store.fleet.samples(10)] == [9.0]


def test_costs_are_kept(fleet: Fleet) -> None:
    assert fleet.costs() == {}
    fleet.keep_costs({"tblite": 1.0})
    fleet.keep_costs(HARD)
    assert fleet.costs() == HARD


# Other hands.


def test_what_others_spoilt_reads_as_missing(store: Store, raw: Raw) -> None:
    strange: list[object] = [None, 3, "x", [], {"token": 3, "worker": {}, "expires": "never"}]
    for number, value in enumerate(strange):
        names = ("gate", "since", "refused", "launcher", "look", "looked")
        raw["partitions"].insert_one({"_id": f"p{number}"} | dict.fromkeys(names, value))
        names = ("noted", "told", "submitted", "drain", "why")
        job = {"_id": f"j{number}", "partition": "cpu"} | dict.fromkeys(names, value)
        raw["jobs"].insert_one(job)
        raw["nodes"].insert_one({"_id": f"n{number}", "until": value, "fragments": value})
        raw["costs"].replace_one({"_id": "last"}, {"content": value}, upsert=True)
    raw["partitions"].insert_one({"_id": 7})
    raw["jobs"].insert_one({"_id": 7, "partition": "cpu"})
    raw["records"].insert_one({"_id": "r", "result": {"numbers": 3}})
    raw["stages"].insert_one({"_id": "s"})
    raw["attempts"].insert_one(
        {"_id": "a", "key": 1, "outcome": {"kind": "crashed"}, "finished": "9999"}
    )
    fleet = store.fleet
    assert {(found.gate, found.alive) for found in fleet.standings()} == {(Gate.OPEN, False)}
    assert {job.state for job in fleet.jobs("cpu", ended=True)} == {JobState.SUBMITTING}
    assert fleet.suspects() == ()
    assert isinstance(fleet.costs(), dict)
    assert fleet.samples(10) == ()
    assert fleet.levels() == {}
    assert fleet.node_failures(1.0) == ()
    for number in range(len(strange)):
        assert fleet.take(f"p{number}", worker(), MINUTE)
