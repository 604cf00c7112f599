"""What every store must know of the work that is not done: levels and combinations of elements."""

import numpy as np

from qfarm.store.protocol import Need, Selection, Store
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from support.build import PBE0
from support.work import GFN2, PREOPT, SINGLE_POINT, finish, give_up, plan_of, plans, take, water

WATER = frozenset({1, 8})
SALT = frozenset({11, 17})


def salt(count: int = 1) -> Fragment:
    numbers = [11, 17] * count
    return Fragment(numbers=numbers, positions=np.arange(6.0 * count).reshape(-1, 3) * 2)


def needs(store: Store) -> dict[tuple[str, str | None], Need]:
    found = store.needs()
    by_name = {(need.level.method, need.partition): need for need in found}
    assert len(by_name) == len(found)
    return by_name


def test_nothing_is_needed_of_an_empty_store(store: Store) -> None:
    assert store.needs() == ()


def test_each_level_has_each_combination_of_elements_once(store: Store) -> None:
    store.add([*plans(4), plan_of(salt()), plan_of(salt(2))])
    both = frozenset({WATER, SALT})
    assert needs(store) == {
        ("GFN2-xTB", None): Need(GFN2, TaskKind.OPTIMISATION, None, both, 6),
        ("PBE0", None): Need(PBE0, TaskKind.SINGLE_POINT, None, both, 6),
    }


def test_limits_do_not_count_but_partitions_do(store: Store) -> None:
    longer = PREOPT.model_copy(update={"time_limit": 7.0})
    elsewhere = PREOPT.model_copy(update={"partition": "gpu"})
    single = [*plans(1, PREOPT), *plans(1, longer, first=1), *plans(1, elsewhere, first=2)]
    store.add(single)
    found = needs(store)
    assert {name: need.stages for name, need in found.items()} == {
        ("GFN2-xTB", None): 2,
        ("GFN2-xTB", "gpu"): 1,
    }


def test_done_stages_need_nothing(store: Store) -> None:
    store.add(plans(1))
    finish(store, take(store))
    assert needs(store).keys() == {("PBE0", None)}
    finish(store, take(store))
    assert store.needs() == ()


def test_failed_and_running_stages_count_cancelled_ones_do_not(store: Store) -> None:
    store.add([plan_of(water(0), SINGLE_POINT), plan_of(salt(), SINGLE_POINT)])
    give_up(store, take(store))
    take(store)
    assert needs(store)["PBE0", None].stages == 2
    store.cancel(Selection(fragment_ids=(salt().id,)))
    assert needs(store)["PBE0", None].elements == {WATER}
