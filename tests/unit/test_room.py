"""Room: what a partition proved too narrow for goes where there is more, and nowhere else."""

import pytest

from qfarm.ladder import ROOM, Ladder, Retry, decide
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Partition
from qfarm_schemas.failure import FailureKind
from qfarm_workers.room import outgrown, told
from support.build import attempt, stage

SMALL = Partition(name="small", memory_mb=1000, walltime=3600)
BIG = Partition(name="big", memory_mb=8000, walltime=3600)
LONG = Partition(name="long", memory_mb=1000)
GPU = Partition(name="gpu", memory_mb=8000, gpus=1, walltime=3600)
ALL = (SMALL, BIG, LONG, GPU)

OOM = Failure(kind=FailureKind.OUT_OF_MEMORY, cause="1001 of 1000 MB", remedy="more")
LATE = Failure(kind=FailureKind.TIME_LIMIT, cause="longer than a life", remedy="more")
STAGE = stage(memory_mb=8000)


def room(failure: Failure, own: Partition, *, life: bool = False, **fields: object) -> object:
    changed = STAGE.model_copy(update=fields)
    return told(failure, changed, own, ALL, life).evidence.get(ROOM)


def test_more_memory() -> None:
    assert room(OOM, SMALL) == "big, gpu"
    assert room(OOM, SMALL, memory_mb=1000) is None, "its own limit"
    assert room(OOM, BIG) is None, "nobody has more"
    assert room(OOM, SMALL, partition="small") is None, "it must not go elsewhere"
    assert room(OOM, GPU) == "small, big, long", "a GPU's memory is another one"


def test_more_time() -> None:
    assert room(LATE, SMALL, life=True) == "long"
    assert room(LATE, SMALL) is None, "the stage's own limit"
    assert room(LATE, LONG, life=True) is None


@pytest.mark.parametrize(
    "kind", sorted(set(FailureKind) - {FailureKind.OUT_OF_MEMORY, FailureKind.TIME_LIMIT})
)
def test_nothing_else_is_cured_by_room(kind: FailureKind) -> None:
    failure = Failure(kind=kind, cause="it failed", remedy="cure")
    assert told(failure, STAGE, GPU, ALL, True) == failure


def test_partitions_that_do_not_take_it_have_no_room_for_it() -> None:
    others = BIG.model_copy(update={"takes_stages": ("preopt",)})
    assert told(OOM, STAGE, SMALL, (SMALL, others), False) == OOM


def test_who_leaves_to_others_what_it_is_too_narrow_for() -> None:
    assert outgrown(SMALL, ALL, frozenset()) == "small"
    assert outgrown(SMALL, ALL, frozenset({"big", "gpu", "long"})) == "", "nobody works there"
    assert outgrown(SMALL, (SMALL,), frozenset()) == ""
    assert outgrown(LONG, (LONG, SMALL), frozenset()) == ""
    assert outgrown(BIG, (BIG, SMALL), frozenset()) == ""
    assert outgrown(GPU, (GPU, SMALL), frozenset()) == "gpu"


def test_the_ladder_goes_on_where_there_is_more() -> None:
    """On the same rung, and three times at most."""
    here = told(OOM, STAGE, SMALL, ALL, False)
    made = [attempt(here, number) for number in (1, 2, 3)]
    first = decide((), STAGE, Ladder(), 24)
    assert isinstance(first, Retry)
    assert decide(made[:1], STAGE, Ladder(), 24) == first
    assert decide(made[:1], STAGE, Ladder(), 360) == first, "the basis need not fall"
    assert not isinstance(decide(made, STAGE, Ladder(), 24), Retry)
    assert not isinstance(decide([attempt(OOM)], STAGE, Ladder(), 24), Retry)
