"""Which partition takes which stages, and who stands in for a closed one."""

from hypothesis import given
from hypothesis import strategies as st

from qfarm.routing import Waiting, levels_of, may_take, serves, takers, unserved
from qfarm_schemas.config import Partition

GPU = Partition(name="gpu", gpus=1, takes_stages=("single_point",), spill_to=("cpu",))
CPU = Partition(name="cpu")
SMALL = Partition(name="small", takes_engines=("tblite",))
ALL = (GPU, CPU, SMALL)
POINT = Waiting("single_point", "pyscf", "gpu", 12)


def test_an_open_partition_takes_its_own_alone() -> None:
    assert may_take(CPU, ALL, ()) == ("cpu",)
    assert may_take(GPU, ALL, ()) == ("gpu",)


def test_the_cpu_takes_what_a_closed_gpu_partition_spills() -> None:
    assert may_take(CPU, ALL, {"gpu"}) == ("cpu", "gpu")
    assert may_take(SMALL, ALL, {"gpu"}) == ("small",)


def test_a_closed_partition_takes_nothing() -> None:
    assert may_take(GPU, ALL, {"gpu"}) == ()
    assert may_take(CPU, ALL, {"gpu", "cpu"}) == ()


def test_spilling_goes_one_step() -> None:
    chain = (
        Partition(name="a", spill_to=("b",)),
        Partition(name="b", spill_to=("c",)),
        Partition(name="c"),
    )
    assert may_take(chain[2], chain, {"a", "b"}) == ("c", "b")
    assert may_take(chain[1], chain, {"a"}) == ("b", "a")


def test_stages_and_engines_by_name() -> None:
    assert serves(GPU, "single_point", "pyscf")
    assert not serves(GPU, "preopt", "tblite")
    assert serves(SMALL, "preopt", "tblite")
    assert not serves(SMALL, "single_point", "pyscf")
    assert serves(CPU, "anything", "aims")


def test_levels_are_those_of_the_engines_taken() -> None:
    levels = {"l1": "tblite", "l2": "pyscf", "l3": "tblite"}
    assert levels_of(SMALL, levels) == {"l1", "l3"}
    assert levels_of(SMALL, {"l2": "pyscf"}) == frozenset()
    assert levels_of(CPU, levels) is None


def test_what_nobody_takes_is_said_with_the_remedy() -> None:
    assert unserved([POINT], ALL) == ()
    assert unserved([POINT], ALL, {"gpu"}) == ()
    assert unserved([Waiting("x", "pyscf", None, 0)], (SMALL,)) == ()
    assert unserved([POINT], ALL, {"gpu", "cpu"}) == (
        "12 stages 'single_point' (engine pyscf): wait for 'gpu', closed now; open it again "
        "(`qfarm launcher resume`), or let it spill to another (spill_to) that takes them",
    )
    assert unserved([Waiting("preopt", "tblite", "gpu")], ALL) == (
        "1 stage 'preopt' (engine tblite): must run in partition 'gpu', which leaves them out by "
        "takes_stages; correct that",
    )
    assert unserved([Waiting("preopt", "aims", "big", 2)], ALL) == (
        "2 stages 'preopt' (engine aims): must run in partition 'big', which qfarm.toml does not "
        "have; add it, or correct the protocol and submit the files again",
    )
    assert unserved([Waiting("preopt", "aims")], (SMALL, GPU)) == (
        "1 stage 'preopt' (engine aims): no partition takes them; correct takes_stages and "
        "takes_engines of one in qfarm.toml",
    )


def test_who_closed_a_partition_decides_what_opens_it() -> None:
    """Nobody is told to open what is closed by its scheduler."""
    anywhere, down = Waiting("x", "pyscf"), {"cpu": "partition cpu is down"}
    away = "'cpu', which can do no work now (partition cpu is down) and opens by itself"
    shut = "'gpu', closed now; open it again (`qfarm launcher resume`)"
    assert unserved([anywhere], (CPU,), {"cpu"}, down) == (
        f"1 stage 'x' (engine pyscf): wait for {away}",
    )
    both = (CPU, Partition(name="gpu"))
    assert unserved([anywhere], both, {"cpu", "gpu"}, down) == (
        f"1 stage 'x' (engine pyscf): wait for {shut} or for {away}",
    )
    assert unserved([Waiting("x", "pyscf", "cpu")], (CPU,), {"cpu"}, down) == (
        f"1 stage 'x' (engine pyscf): wait for {away}, or let it spill to another (spill_to) that "
        "takes them",
    )


NAMES = st.sampled_from("abcd")
STAGES = st.sampled_from(("preopt", "point"))
ENGINES = st.sampled_from(("tblite", "pyscf"))


@st.composite
def partitions(draw: st.DrawFn) -> tuple[Partition, ...]:
    names = draw(st.lists(NAMES, min_size=1, unique=True))
    return tuple(
        Partition(
            name=name,
            takes_stages=tuple(draw(st.sets(STAGES))),
            takes_engines=tuple(draw(st.sets(ENGINES))),
            spill_to=tuple(draw(st.sets(st.sampled_from(names))) - {name}),
        )
        for name in names
    )


@given(every=partitions(), closed=st.sets(NAMES))
def test_nothing_is_taken_from_an_open_partition_or_twice(
    every: tuple[Partition, ...], closed: set[str]
) -> None:
    by_name = {one.name: one for one in every}
    for one in every:
        names = may_take(one, every, closed)
        assert bool(names) == (one.name not in closed)
        assert len(set(names)) == len(names)
        if names:
            assert names[0] == one.name
        for other in names[1:]:
            assert other in closed
            assert one.name in by_name[other].spill_to


@given(
    every=partitions(),
    closed=st.sets(NAMES),
    stage=STAGES,
    engine=ENGINES,
    partition=st.none() | NAMES,
)
def test_each_stage_has_a_taker_or_a_line_that_says_why_not(
    every: tuple[Partition, ...], closed: set[str], stage: str, engine: str, partition: str | None
) -> None:
    waiting = Waiting(stage, engine, partition)
    names = takers(waiting, every, closed)
    for one in every:
        takes = serves(one, stage, engine) and one.name not in closed
        mine = partition in (None, *may_take(one, every, closed))
        assert (one.name in names) == (takes and mine)
    lines = unserved([waiting], every, closed)
    assert len(lines) == (not names)
    assert all(stage in line and engine in line for line in lines)
