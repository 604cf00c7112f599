"""What a job tells its slots, and what a slot makes of it."""

import os
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from queue import Queue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.costs.model import CostModel
from qfarm.store.fleet import Gate, Standing
from qfarm.store.wish import Ahead
from qfarm_schemas.attempt import Attempt
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_schemas.failure import FailureKind
from qfarm_workers import devices
from qfarm_workers.lifetime import Lifetime
from qfarm_workers.orders import JobLine, Orders, Report, renewed, wish_of
from qfarm_workers.slot import BLACK_HOLE, ByJob, Judge, allowed, see_devices
from support import build
from support.engines import look_up
from support.wait import until

CPU = Partition(name="cpu", takes_stages=("preopt",))
GPU = Partition(name="gpu", spill_to=("cpu",))
BOTH = (CPU, GPU)
FULL = Orders(
    partitions=("cpu",),
    levels={"xtb": "tblite", "pbe0": "pyscf", "aims": "aims"},
    closed=frozenset({"gpu"}),
)


class Wire:
    """A slot's end of the line to its job."""

    def __init__(self) -> None:
        self.heard: Queue[Any] = Queue()
        self.said: list[Any] = []
        self.broken = False

    def send(self, message: Any) -> None:
        if self.broken:
            raise BrokenPipeError
        self.said.append(message)

    def recv(self) -> Any:
        message = self.heard.get()
        if message is None:
            raise EOFError
        return message


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.heard.put(None)


def guide(wire: Wire, orders: Orders = FULL, tests: dict[str, str] | None = None) -> ByJob:
    """The guide of a slot on ``n1``; `tests`: what tests of engines say."""
    judge = Judge(FarmConfig(partitions=BOTH), CPU, Lifetime(), look_up)
    found = tests if tests is not None else {}
    return ByJob(JobLine(wire, orders), CPU, "n1", lambda name: found.pop(name, ""), judge)


def crashed(fragment: str) -> Attempt:
    failed = build.failure(FailureKind.CRASHED)
    return build.attempt(failed).model_copy(update={"fragment_id": fragment})


# What the job makes of how partitions stand.


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize("may_claim", [True, False])
def test_a_slot_drains_when_the_user_or_the_launcher_says_so(gate: Gate, may_claim: bool) -> None:
    standings = {"cpu": Standing("cpu", gate, alive=True)}
    orders = renewed(FULL, CPU, BOTH, standings, may_claim)
    assert orders.drain is (gate is not Gate.OPEN or not may_claim)
    for_good = gate in (Gate.DRAINING, Gate.STOPPING) or not may_claim
    assert orders.over is for_good, "the job waits for the end of a pause"


def test_without_anybody_who_launched_it_a_job_works_all_the_same() -> None:
    """Its launcher may be dead, and the database restored from a backup."""
    orders = renewed(FULL, CPU, BOTH, {}, True)
    assert not orders.drain
    assert orders.partitions == ("cpu",)


def test_stages_of_closed_partitions_that_spill_here_are_taken() -> None:
    gpu = Standing("gpu", alive=True)
    assert renewed(FULL, CPU, BOTH, {"gpu": gpu}, True).partitions == ("cpu",)
    for closed in (replace(gpu, gate=Gate.PAUSED), replace(gpu, refused="no GPU is left")):
        assert renewed(FULL, CPU, BOTH, {"gpu": closed}, True).partitions == ("cpu", "gpu")


def test_the_refusal_of_its_own_scheduler_closes_nothing_to_a_job_that_runs() -> None:
    own = Standing("cpu", refused="no more jobs today", alive=True)
    orders = renewed(FULL, CPU, BOTH, {"cpu": own}, True)
    assert orders.partitions == ("cpu",)
    assert not orders.drain


def test_what_it_is_too_narrow_for_is_left_to_a_roomier_one_that_works() -> None:
    big = GPU.model_copy(update={"memory_mb": 10 * CPU.memory_mb})
    alive = {name: Standing(name, alive=True) for name in ("cpu", "gpu")}
    assert renewed(FULL, CPU, (CPU, big), alive, True).outgrown == "cpu"
    assert renewed(FULL, big, (CPU, big), alive, True).outgrown == ""
    assert renewed(FULL, CPU, (CPU, big), alive | {"gpu": Standing("gpu")}, True).outgrown == ""
    assert wish_of(CPU, (CPU, big), iter(alive.values()), {}).outgrown == "cpu"
    assert wish_of(CPU, (CPU, big), iter(()), {}).outgrown == ""


def test_stages_are_left_to_partitions_that_work_only() -> None:
    alive = {name: Standing(name, alive=True) for name in ("cpu", "gpu")}
    assert renewed(FULL, CPU, BOTH, alive, True).closed == frozenset()
    dead = alive | {"gpu": Standing("gpu")}
    assert renewed(FULL, CPU, BOTH, dead, True).closed == {"gpu"}
    killed = alive | {"gpu": Standing("gpu", lost=True, lately=True)}
    assert renewed(FULL, CPU, BOTH, killed, True).closed == frozenset()  # its jobs pull on
    refused = alive | {"gpu": Standing("gpu", refused="down", alive=True)}
    assert renewed(FULL, CPU, BOTH, refused, True).closed == {"gpu"}
    assert renewed(FULL, CPU, BOTH, {}, True).closed == {"cpu", "gpu"}


# Which levels a slot may take.

ENGINES = st.sampled_from(["tblite", "pyscf", "aims"])


@given(
    levels=st.dictionaries(st.text("abc", min_size=1), ENGINES),
    engines=st.none() | st.frozensets(ENGINES),
    broken=st.frozensets(ENGINES),
)
def test_levels_of_engines_that_work(
    levels: dict[str, str], engines: frozenset[str] | None, broken: frozenset[str]
) -> None:
    found = allowed(Orders(levels=levels, engines=engines), broken)
    if found is None:
        assert engines is None
        assert not broken
        return
    good = {id_ for id_, engine in levels.items() if engines is None or engine in engines}
    assert found == {id_ for id_ in good if levels[id_] not in broken}


# The line between a job and its slot.


def test_a_slot_hears_its_job_and_drains_without_it(wire: Wire) -> None:
    line = JobLine(wire, FULL)
    assert not line.drain
    drained = replace(FULL, drain=True)
    wire.heard.put(drained)
    until(lambda: line.orders is drained)
    assert line.drain
    wire.heard.put(FULL)
    until(lambda: not line.drain)
    wire.heard.put(None)
    until(lambda: line.drain)


def test_a_slot_that_cannot_tell_drains(wire: Wire) -> None:
    line = JobLine(wire, FULL)
    line.say(Report(attempt=True))
    assert wire.said == [Report(attempt=True)]
    assert not line.drain
    wire.broken = True
    line.say(Report(attempt=True))
    assert line.drain


# The guide of a slot's loop.


def test_what_a_slot_asks_the_queue_for(wire: Wire) -> None:
    wish = guide(wire).wish()
    assert (wish.partitions, wish.stages, wish.levels) == (("cpu",), ("preopt",), None)
    assert wish.elsewhere == "n1", "what failed here is left to others"
    assert wish.fits is None


def test_every_attempt_is_reported(wire: Wire) -> None:
    asked = guide(wire)
    asked.note(build.attempt(), "tblite")
    asked.note(crashed("a"), "pyscf")
    assert wire.said == [Report(attempt=True)] * 2


def test_the_first_claim_is_reported(wire: Wire) -> None:
    asked = guide(wire)
    asked.begun()
    asked.begun()
    assert wire.said == [Report(began=True)]


def test_an_engine_that_fails_in_a_row_is_tested_and_goes_on(wire: Wire) -> None:
    asked = guide(wire)
    for fragment in "abc":
        asked.note(crashed(fragment), "pyscf")
    assert asked.wish().levels is None
    assert [said for said in wire.said if said.broken] == []


def test_an_engine_that_fails_its_test_is_given_up(wire: Wire) -> None:
    asked = guide(wire, tests={"pyscf": "libxc is not there"})
    for fragment in "abc":
        asked.note(crashed(fragment), "pyscf")
    assert asked.wish().levels == frozenset({"xtb", "aims"})
    assert wire.said[-1] == Report(broken="pyscf", why="libxc is not there")
    assert not asked.drained()


def test_water_goes_well_and_all_else_fails(wire: Wire) -> None:
    """One test is chance; the second time, the node is a black hole for what is in the queue."""
    asked = guide(wire)
    for fragment in "abc":
        asked.note(crashed(fragment), "pyscf")
    asked.wish()
    for fragment in "def":
        asked.note(crashed(fragment), "pyscf")
    assert asked.wish().levels == frozenset({"xtb", "aims"})
    assert wire.said[-1] == Report(broken="pyscf", why=BLACK_HOLE)


def test_a_success_in_between_clears_an_engine(wire: Wire) -> None:
    asked = guide(wire)
    for row in ("abc", "def", "ghi"):
        for fragment in row:
            asked.note(crashed(fragment), "pyscf")
        assert asked.wish().levels is None
        asked.note(build.attempt(), "pyscf")


def test_another_engine_s_success_clears_nothing(wire: Wire) -> None:
    asked = guide(wire)
    for fragment in "abcdef":
        asked.note(crashed(fragment), "pyscf")
        asked.note(build.attempt(), "tblite")
        asked.wish()
    assert asked.wish().levels == frozenset({"xtb", "aims"})


def test_nothing_is_left_to_do_where_every_engine_is_broken(wire: Wire) -> None:
    one = replace(FULL, engines=frozenset({"pyscf"}))
    asked = guide(wire, one, tests={"pyscf": "libxc is not there"})
    assert not asked.drained()
    for fragment in "abc":
        asked.note(crashed(fragment), "pyscf")
    asked.wish()
    assert asked.drained()


def test_drained_as_the_job_says(wire: Wire) -> None:
    assert guide(wire, replace(FULL, drain=True)).drained()


# What fits.


def judge(seconds: float = inf, *others: Partition) -> Judge:
    return Judge(FarmConfig(partitions=(CPU, *others)), CPU, Lifetime(seconds), look_up)


WATER = Ahead("single_point", "no level that is known", "H2O", 3)


def test_where_time_has_no_end_nothing_is_looked_at() -> None:
    assert judge().fits(FULL) is None
    assert judge().least is None
    larger = Partition(name="large", memory_mb=2 * CPU.memory_mb)
    assert judge(inf, larger).fits(FULL) is not None, "memory may not do"


def test_judgements_are_kept_until_something_changes() -> None:
    judging = judge(3600.0)
    fits = judging.fits(FULL)
    assert fits is not None
    fits(WATER)
    least = judging.least
    assert least is not None
    judging.fits(replace(FULL, drain=True, levels={}))
    assert judging.least == least
    judging.fits(replace(FULL, closed=frozenset()))
    assert judging.least is None
    judging.fits(replace(FULL, closed=frozenset(), costs=CostModel().as_document() | {"x": 1}))
    assert judging.least is None


def test_each_slot_sees_its_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Partition(name="gpu", gpus=2, slots=2)
    monkeypatch.setenv(devices.VARIABLE, "GPU-a,GPU-b")
    see_devices(CPU, 1)
    assert os.environ[devices.VARIABLE] == "GPU-a,GPU-b"
    see_devices(two, 1)
    assert os.environ[devices.VARIABLE] == "GPU-b"
