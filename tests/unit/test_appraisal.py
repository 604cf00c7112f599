"""Whether a stage fits into the time and memory of a worker, or is left to another partition."""

from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.costs.fit import Guess
from qfarm.costs.model import CostModel, Key, Observation, Start, learn, works
from qfarm.engines import engine
from qfarm.store.wish import SIGHT, Ahead
from qfarm_schemas.config import EngineConfig, FarmConfig, Partition, Stage
from qfarm_schemas.level import LevelOfTheory
from qfarm_workers.appraisal import Appraisal, Foreseen, Foresight
from qfarm_workers.lifetime import Lifetime, hand_back, margin
from support import build

HOUR = 3600.0
WATER = Ahead("single_point", build.PBE0.id, "H2O", 3)
START = Start(
    seconds=Guess(size=43, value=1000, exponent=2),
    memory_mb=Guess(size=43, value=3000, exponent=1),
    parallel=1.0,
)
UPPER = (
    CostModel(works([(build.stage(), START)]))
    .seconds(Key("cpu", build.PBE0.id, "single_point"), 43)
    .upper95
)
"""s, of water at 43 functions on one core; about 6 times its median of 1000 s."""

CPU = Partition(name="cpu", walltime=24 * HOUR)
FAT = Partition(name="fat", memory_mb=64000, walltime=24 * HOUR)
LONG = Partition(name="long", walltime=96 * HOUR)


class Clock:
    """Time that stands still until it is set."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def appraisal(
    stage: Stage | None = None,
    left: float = inf,
    partition: Partition = CPU,
    others: Sequence[Partition] = (),
    closed: frozenset[str] = frozenset(),
    start: Start = START,
    **engines: EngineConfig,
) -> Appraisal:
    """Of a worker whose life of 24 h has `left` seconds for an engine."""
    config = FarmConfig(partitions=(partition, *others), engines=engines)
    model = CostModel(works([(stage or build.stage(memory_mb=64000), start)]))
    life = Lifetime() if left == inf else Lifetime(24 * HOUR, 0.0)
    now = 0.0 if left == inf else 24 * HOUR - hand_back(24 * HOUR) - left
    return Appraisal(Foresight(model, engine, config), partition, life, closed, Clock(now))


def test_the_start_value_is_what_the_tests_count_on() -> None:
    foreseen = appraisal().foresight.cost(WATER, CPU)
    assert foreseen.seconds == pytest.approx(1000)
    assert foreseen.memory_mb == pytest.approx(3000)
    assert foreseen.at_most == pytest.approx(UPPER)
    assert 5000 < UPPER < 7000


def test_what_ends_in_time_at_95_percent_fits_and_no_more() -> None:
    assert appraisal(left=UPPER + 1).fits(WATER)
    assert not appraisal(left=UPPER - 1).fits(WATER)


def test_larger_fragments_need_more_time() -> None:
    dimer = Ahead("single_point", build.PBE0.id, "H4O2", 6)
    upper = appraisal().foresight.cost(dimer, CPU).at_most
    assert 4 * UPPER < upper < 6 * UPPER, "size^2, and some more for what was never seen"
    assert not appraisal(left=0.99 * upper).fits(dimer)
    assert appraisal(left=1.01 * upper).fits(dimer)


def test_a_worker_without_end_takes_everything() -> None:
    assert appraisal().fits(Ahead("single_point", build.PBE0.id, "C400H600", 1000))


def test_a_fresh_worker_takes_what_no_worker_has_time_for() -> None:
    huge = Ahead("single_point", build.PBE0.id, "C400H600", 1000)
    assert appraisal(left=23 * HOUR).fits(huge)
    assert not appraisal(left=20 * HOUR).fits(huge)


def test_the_stages_own_limit_is_all_it_can_take() -> None:
    short = build.stage(time_limit=300.0)
    assert appraisal(short, left=301).fits(WATER)
    assert not appraisal(short, left=299).fits(WATER)
    assert appraisal(short).foresight.cost(WATER, CPU).at_most == 300


def test_a_program_that_is_asked_to_stop_must_end_before_that() -> None:
    """It is asked `margin` before the end of its time."""
    level = LevelOfTheory(engine="aims", method="PBE0", basis="tight")
    stage, water = build.stage(level=level), Ahead("single_point", level.id, "H2O", 3)
    start = START.model_copy(update={"seconds": Guess(size=69, value=1000, exponent=2)})
    upper = appraisal(stage, start=start).foresight.cost(water, CPU).at_most
    assert upper == pytest.approx(UPPER)
    assert not appraisal(stage, upper + 1, start=start).fits(water)
    just = upper / 0.9
    assert just - margin(just) == pytest.approx(upper)
    assert appraisal(stage, just + 1, start=start).fits(water)


def test_a_program_that_stops_at_its_own_limit_needs_no_more_than_that() -> None:
    level = LevelOfTheory(engine="aims", method="PBE0", basis="tight")
    water = Ahead("single_point", level.id, "H2O", 3)
    assert appraisal(build.stage(level=level, time_limit=300.0), left=301).fits(water)
    assert not appraisal(build.stage(level=level, time_limit=300.0), left=299).fits(water)


def test_threads_and_ranks_count_for_start_values() -> None:
    wide = CPU.model_copy(update={"threads": 4})
    ranks = EngineConfig(ranks=2)
    foreseen = appraisal(partition=wide, pyscf=ranks).foresight.cost(WATER, wide)
    assert foreseen.seconds == pytest.approx(1000 / 8)


def test_what_was_learnt_counts() -> None:
    key = Key("cpu", build.PBE0.id, "single_point")
    records = [Observation(key, 43.0, seconds, 500.0) for seconds in (9.0, 10.0, 11.0) * 10]
    model = learn(records, works([(build.stage(), START)]))
    config = FarmConfig(partitions=(CPU,))
    now = 24 * HOUR - hand_back(24 * HOUR) - 60
    worker = Appraisal(
        Foresight(model, engine, config), CPU, Lifetime(24 * HOUR), clock=lambda: now
    )
    assert worker.fits(WATER)
    assert not appraisal(left=60).fits(WATER)


def test_a_level_that_nobody_told_of_is_judged_by_its_atoms() -> None:
    small, large = (Ahead("new", "l0", "", n) for n in (10, 100))
    worker = appraisal(left=2 * HOUR)
    assert worker.fits(small)
    assert not worker.fits(large)


def needs(megabytes: float) -> Start:
    guess = Guess(size=43, value=megabytes, exponent=1)
    return START.model_copy(update={"memory_mb": guess})


def test_what_needs_more_memory_is_left_to_a_partition_that_has_it() -> None:
    assert not appraisal(start=needs(6000), others=[FAT]).fits(WATER)
    assert appraisal(start=needs(6000), partition=FAT, others=[CPU]).fits(WATER)
    assert appraisal(start=needs(3000), others=[FAT]).fits(WATER)


@pytest.mark.parametrize(
    ("others", "closed", "stage"),
    [
        ([], frozenset(), build.stage(memory_mb=64000)),
        ([FAT], frozenset({"fat"}), build.stage(memory_mb=64000)),
        ([FAT], frozenset(), build.stage(memory_mb=4000)),
        ([FAT.model_copy(update={"memory_mb": 3000})], frozenset(), build.stage(memory_mb=64000)),
        ([FAT.model_copy(update={"takes_stages": ("preopt",)})], frozenset(), None),
        ([FAT.model_copy(update={"takes_engines": ("aims",)})], frozenset(), None),
    ],
    ids=["none", "closed", "stage's own limit", "less", "other stages", "other engines"],
)
def test_it_is_tried_where_no_other_partition_would_do_better(
    others: Sequence[Partition], closed: frozenset[str], stage: Stage | None
) -> None:
    assert appraisal(stage, start=needs(6000), others=others, closed=closed).fits(WATER)


def test_a_stage_that_must_run_here_is_left_to_nobody() -> None:
    own = Ahead("single_point", build.PBE0.id, "H2O", 3, partition="cpu")
    assert appraisal(start=needs(6000), others=[FAT]).fits(own)


def test_what_outlasts_a_whole_life_is_left_to_longer_ones() -> None:
    huge = Ahead("single_point", build.PBE0.id, "C50H100", 150)
    stage = build.stage(memory_mb=4000, time_limit=1e7)
    assert appraisal(stage, left=23 * HOUR).fits(huge)
    assert not appraisal(stage, left=23 * HOUR, others=[LONG]).fits(huge)
    assert appraisal(stage, left=23 * HOUR, others=[LONG]).fits(WATER)


def test_the_cheapest_of_what_was_seen_is_known() -> None:
    worker = appraisal(left=HOUR, others=[FAT])
    assert worker.least is None
    worker.fits(Ahead("single_point", build.PBE0.id, "H4O2", 6))
    assert worker.least is None, "it needs 6 GB, and is left to another partition"
    worker.fits(WATER)
    assert worker.least == pytest.approx(UPPER)


def test_each_formula_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a look through the queue takes milliseconds: it has thousands of stages alike."""
    asked: list[Ahead] = []
    cost = Foresight.cost

    def counted(foresight: Foresight, ahead: Ahead, partition: Partition) -> Foreseen:
        asked.append(ahead)
        return cost(foresight, ahead, partition)

    monkeypatch.setattr(Foresight, "cost", counted)
    queue = [
        Ahead("single_point", build.PBE0.id, f"C{n}H{n}", 2 * n, attempts=attempts)
        for n in range(1, SIGHT + 1)
        for attempts in (0, 1, 2)
    ]
    worker = appraisal(left=HOUR)
    first = [worker.fits(ahead) for ahead in queue]
    assert [worker.fits(ahead) for ahead in queue] == first
    assert len(asked) == SIGHT


@given(st.floats(0, 24 * HOUR), st.floats(0, 24 * HOUR), st.integers(1, 100))
def test_with_more_time_left_no_less_fits(one: float, other: float, n: int) -> None:
    ahead = Ahead("single_point", build.PBE0.id, f"C{n}", n)
    less, more = sorted((one, other))
    assert appraisal(left=more).fits(ahead) >= appraisal(left=less).fits(ahead)


PARTITIONS = st.lists(
    st.builds(
        Partition,
        memory_mb=st.sampled_from([2000, 4000, 8000]),
        walltime=st.sampled_from([None, HOUR, 24 * HOUR, 96 * HOUR]),
    ),
    min_size=1,
    max_size=4,
).map(lambda found: [one.model_copy(update={"name": f"p{n}"}) for n, one in enumerate(found)])


@given(PARTITIONS, st.floats(500, 20_000), st.integers(1, 300), st.integers(1000, 9000), st.data())
def test_no_stage_is_left_by_each_partition_to_another(
    partitions: list[Partition], megabytes: float, n: int, own: int, data: st.DataObject
) -> None:
    """However fast each is: some fresh worker takes it."""
    ahead = Ahead("single_point", build.PBE0.id, f"H{n}", n)
    key = Key("", build.PBE0.id, "single_point")
    records = [
        Observation(key._replace(partition=one.name), 43.0, data.draw(st.floats(1, 1e6)), megabytes)
        for one in partitions
    ]
    model = learn(records, works([(build.stage(memory_mb=own, time_limit=1e8), START)]))
    foresight = Foresight(model, engine, FarmConfig(partitions=tuple(partitions)))
    lives = [
        (one, Lifetime() if one.walltime is None else Lifetime(one.walltime)) for one in partitions
    ]
    assert any(Appraisal(foresight, one, life, clock=Clock()).fits(ahead) for one, life in lives)
