"""Claims with a wish: who cannot do everything takes what it can do, in the order of the queue."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from pymongo.database import Database

from qfarm.ladder import ROOM, GiveUp, Retry
from qfarm.plan import Plan
from qfarm.store.protocol import Claim, Refusal, Selection, Store
from qfarm.store.wish import ANYTHING, SIGHT, Ahead, Wish
from qfarm_schemas.attempt import Rung, Worker
from qfarm_schemas.failure import FailureKind
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
    give_up,
    keys_of,
    plan_of,
    plans,
    states,
    take,
    water,
    worker,
)

__all__ = ["raw"]

Raw = Database[dict[str, Any]]

NODE = FailureKind.CRASHED
CHEMISTRY = FailureKind.SCF_NOT_CONVERGED


def one(store: Store, who: Worker, wish: Wish) -> Sequence[Claim | Refusal]:
    claimed = store.claim(who, LEASE, wish)
    return () if claimed is None else (claimed,)


def two(store: Store, who: Worker, wish: Wish) -> Sequence[Claim | Refusal]:
    return store.claim_many(who, LEASE, 2, wish)


Ways = Callable[[Store, Worker, Wish], Sequence[Claim | Refusal]]
EACH_WAY = pytest.mark.parametrize("way", [one, two])


def taken(
    store: Store, wish: Wish, way: Ways = one, who: Worker | None = None, release: bool = False
) -> list[str]:
    """Keys of all that is claimed with a wish, in order."""
    claims: list[Claim] = []
    while found := way(store, who or worker(), wish):
        for item in found:
            assert isinstance(item, Claim), item
            claims.append(item)
    if release:
        store.release(claims)
    return [claim.key for claim in claims]


def mixed(store: Store) -> tuple[list[Plan], list[Plan]]:
    """Two single points, then two optimisations, all ready."""
    points, optimisations = plans(2, SINGLE_POINT), plans(2, PREOPT, first=10)
    store.add(points)
    store.add(optimisations)
    return points, optimisations


@EACH_WAY
def test_stages_by_name(store: Store, way: Ways) -> None:
    points, optimisations = mixed(store)
    assert taken(store, Wish(stages=("other",)), way) == []
    assert taken(store, Wish(stages=("preopt",)), way) == keys_of(optimisations, "preopt")
    both = Wish(stages=("other", "single_point"))
    assert taken(store, both, way) == keys_of(points, "single_point")


@EACH_WAY
def test_levels_by_id(store: Store, way: Ways) -> None:
    points, optimisations = mixed(store)
    assert taken(store, Wish(levels=frozenset()), way) == []
    assert taken(store, Wish(levels=frozenset({"l0"})), way) == []
    wish = Wish(levels=frozenset({GFN2.id, "l0"}))
    assert taken(store, wish, way) == keys_of(optimisations, "preopt")
    none = Wish(levels=frozenset({SINGLE_POINT.level.id}), stages=("preopt",))
    assert taken(store, none, way) == []
    wish = Wish(levels=frozenset({SINGLE_POINT.level.id}))
    assert taken(store, wish, way) == keys_of(points, "single_point")


def test_stages_of_one_name_at_several_levels(store: Store) -> None:
    other = stage(level=SINGLE_POINT.level.model_copy(update={"mbd_beta": 0.8}))
    plain, changed = plan_of(water(1)), plan_of(water(2), other)
    store.add([plain, changed])
    wish = Wish(levels=frozenset({other.level.id}))
    assert taken(store, wish) == keys_of([changed], "single_point")


@EACH_WAY
def test_partitions_that_it_stands_in_for(store: Store, way: Ways) -> None:
    free, gpu, cpu, big = (
        plan_of(water(index), stage(partition=name))
        for index, name in enumerate([None, "gpu", "cpu", "big"])
    )
    store.add([big, cpu, free, gpu])
    wish = Wish(partitions=("cpu", "gpu"))
    expected = keys_of([cpu, free, gpu], "single_point")
    assert taken(store, wish, way, worker(partition="cpu"), release=True) == expected
    own = taken(store, ANYTHING, way, worker(partition="cpu"))
    assert own == keys_of([cpu, free], "single_point")


def test_priority_goes_before_age_among_what_fits(store: Store) -> None:
    first, second, urgent, strange = plans(4, SINGLE_POINT)
    store.add([first, second])
    store.add([urgent], priority=5)
    store.add([plan_of(strange.fragment, PREOPT)], priority=9)
    wish = Wish(stages=("single_point",), fits=lambda _: True)
    assert taken(store, wish) == keys_of([urgent, first, second], "single_point")


def commit_failure(store: Store, claim: Claim, kind: FailureKind) -> None:
    """A failure that is tried again."""
    failure = attempt_of(claim, failed(kind))
    store.commit(claim, failure, Retry(Rung(scf="damping")))


HERE, THERE = worker("here"), worker("there").model_copy(update={"host": "node2"})
NOT_AGAIN = {who: Wish(elsewhere=who.host) for who in (HERE, THERE)}


SMALL, BIG = (worker(name, partition=name) for name in ("small", "big"))
NOT_THERE = {one: Wish(outgrown=one.partition) for one in (SMALL, BIG)}


def too_narrow(store: Store, claim: Claim) -> None:
    """A failure that met a limit of the worker's partition, where another has more."""
    failure = failed(FailureKind.OUT_OF_MEMORY)
    told = failure.model_copy(update={"evidence": {ROOM: "big"}})
    store.commit(claim, attempt_of(claim, told), Retry(Rung()))


@EACH_WAY
def test_what_a_partition_was_too_narrow_for_is_left_to_others(
    store: Store, raw: Raw, way: Ways
) -> None:
    (plan,) = plans(1, SINGLE_POINT)
    store.add([plan])
    too_narrow(store, take(store, SMALL))
    assert raw["fireworks"].distinct("outgrown") == ["small"]
    assert not store.busy("small", NOT_THERE[SMALL])
    assert taken(store, NOT_THERE[SMALL], way, SMALL) == []
    assert store.fleet.demand("small", NOT_THERE[SMALL], 9, 9).ready == 0
    assert store.fleet.demand("big", NOT_THERE[BIG], 9, 9).ready == 1
    (again,) = way(store, BIG, NOT_THERE[BIG])
    assert isinstance(again, Claim)
    commit_failure(store, again, FailureKind.INTERRUPTED)
    assert raw["fireworks"].distinct("outgrown") == ["small"], "nothing was learnt"
    anywhere = taken(store, ANYTHING, way, SMALL, release=True)
    assert anywhere == [plan_key(plan)], "where no other works, it may"
    finish(store, take(store, BIG))
    assert raw["fireworks"].count_documents({"outgrown": {"$exists": True}}) == 0


def test_a_stage_that_starts_afresh_may_go_anywhere(store: Store, raw: Raw) -> None:
    (plan,) = plans(1, SINGLE_POINT)
    store.add([plan])
    too_narrow(store, take(store, SMALL))
    claim = take(store, BIG)
    store.commit(claim, attempt_of(claim, failed(NODE)), GiveUp("no", "more"))
    assert raw["fireworks"].count_documents({"outgrown": {"$exists": True}}) == 0
    assert store.retry(Selection()) == 1
    assert taken(store, NOT_THERE[SMALL], one, SMALL) == [plan_key(plan)]


@EACH_WAY
def test_what_failed_on_a_node_is_left_for_others(store: Store, raw: Raw, way: Ways) -> None:
    (plan,) = plans(1, SINGLE_POINT)
    store.add([plan])
    claim = take(store, HERE)
    commit_failure(store, claim, NODE)
    assert raw["fireworks"].distinct("failed_on") == [HERE.host]
    assert not store.busy(HERE.partition, NOT_AGAIN[HERE])
    assert store.busy(THERE.partition, NOT_AGAIN[THERE])
    assert taken(store, NOT_AGAIN[HERE], way, HERE) == []
    (again,) = way(store, THERE, NOT_AGAIN[THERE])
    assert isinstance(again, Claim)
    commit_failure(store, again, NODE)
    assert raw["fireworks"].distinct("failed_on") == [THERE.host]
    (third,) = way(store, HERE, NOT_AGAIN[HERE])
    assert isinstance(third, Claim)
    store.release([third])
    assert raw["fireworks"].distinct("failed_on") == [THERE.host], "nothing was tried"
    assert taken(store, NOT_AGAIN[THERE], way, THERE) == []
    assert taken(store, ANYTHING, way, THERE) == [plan_key(plan)]


def plan_key(plan: Plan) -> str:
    return keys_of([plan], "single_point")[0]


@pytest.mark.parametrize("kind", list(FailureKind))
def test_only_what_a_node_may_be_to_blame_for(store: Store, raw: Raw, kind: FailureKind) -> None:
    store.add(plans(1, SINGLE_POINT))
    commit_failure(store, take(store, HERE), NODE)
    commit_failure(store, take(store, THERE), kind)
    expected = [THERE.host] if kind.budget.value == "node" else []
    assert raw["fireworks"].distinct("failed_on") == expected


def done(store: Store, claim: Claim) -> None:
    finish(store, claim)


def given_up(store: Store, claim: Claim) -> None:
    store.commit(claim, attempt_of(claim, failed(NODE)), GiveUp("no", "buy memory"))


def cancelled(store: Store, _: Claim) -> None:
    assert store.cancel(Selection()) == 1


@pytest.mark.parametrize("end", [done, given_up, give_up, cancelled])
def test_it_is_forgotten_when_the_stage_ends(
    store: Store, raw: Raw, end: Callable[[Store, Claim], None]
) -> None:
    store.add(plans(1, SINGLE_POINT))
    commit_failure(store, take(store, HERE), NODE)
    end(store, take(store, THERE))
    assert raw["fireworks"].count_documents({"failed_on": {"$exists": True}}) == 0


def test_it_is_forgotten_when_the_user_retries(store: Store, raw: Raw) -> None:
    store.add(plans(1, SINGLE_POINT))
    commit_failure(store, take(store, HERE), NODE)
    raw["fireworks"].update_one({}, {"$set": {"state": "FIZZLED"}})  # by `lpad`
    assert store.retry(Selection()) == 1
    assert len(taken(store, NOT_AGAIN[HERE], one, HERE)) == 1
    assert raw["fireworks"].count_documents({"failed_on": {"$exists": True}}) == 0


def test_what_is_seen_before_a_claim(store: Store) -> None:
    plan = plan_of(water(1), stage(partition="gpu"))
    store.add([plan])
    claim = take(store, worker(partition="gpu"))
    commit_failure(store, claim, CHEMISTRY)
    seen: list[Ahead] = []
    wish = Wish(fits=lambda ahead: seen.append(ahead) is not None)
    assert store.claim(worker(partition="gpu"), LEASE, wish) is None
    assert seen == [
        Ahead("single_point", SINGLE_POINT.level.id, "H2O", 3, partition="gpu", attempts=1)
    ]


LAST = plans(1, SINGLE_POINT, first=10_000)


def nth(store: Store, count: int) -> Wish:
    """Only the last of so many that are looked at in a row fits."""
    store.add(plans(count - 1, PREOPT))
    store.add(LAST)
    return Wish(fits=lambda ahead: ahead.stage == "single_point")


@EACH_WAY
@pytest.mark.parametrize("count", [1, 2, 32, 33, SIGHT])
def test_the_first_that_fits_within_sight(store: Store, way: Ways, count: int) -> None:
    wish = nth(store, count)
    assert store.busy("local", wish)
    assert taken(store, wish, way) == keys_of(LAST, "single_point")


@EACH_WAY
def test_nothing_fits_out_of_sight(store: Store, way: Ways) -> None:
    wish = nth(store, SIGHT + 1)
    assert taken(store, wish, way) == []
    assert not store.busy("local", wish)
    assert store.busy("local")
    (first,) = one(store, worker(), Wish(fits=lambda _: True))
    assert isinstance(first, Claim)
    assert taken(store, wish, way) == keys_of(LAST, "single_point")


@EACH_WAY
@pytest.mark.parametrize("sight", [1000, 1001, 25_600])
def test_a_wish_may_look_farther(store: Store, way: Ways, sight: int) -> None:
    """A thousand that do not fit are before the one that does."""
    wish = replace(nth(store, 1001), sight=sight)
    assert store.busy("local", wish) == (sight > 1000)
    assert taken(store, wish, way) == (keys_of(LAST, "single_point") if sight > 1000 else [])


@EACH_WAY
@pytest.mark.parametrize("skip", [600, 601, 999, 1000, 1001, 5000])
def test_a_wish_may_begin_farther_on(store: Store, way: Ways, skip: int) -> None:
    """The one that fits is the 1001st; what is left out is not asked about."""
    wish = replace(nth(store, 1001), skip=skip)
    found = 600 < skip <= 1000
    assert taken(store, wish, way) == (keys_of(LAST, "single_point") if found else [])


def test_it_looks_no_farther_than_it_must(store: Store, raw: Raw) -> None:
    """Each batch that fits at all is taken, a page of the queue at a time."""
    store.add(plans(500, PREOPT))
    store.add(plans(2000, SINGLE_POINT, first=10_000))
    seen: list[str] = []
    wish = Wish(fits=lambda ahead: seen.append(ahead.stage) or ahead.stage != "preopt", sight=9999)
    (claim,) = one(store, worker(), wish)
    assert isinstance(claim, Claim)
    assert raw["fireworks"].distinct("fw_id", {"state": "RUNNING"}) == [501]
    assert len(seen) == 32 + 2 * SIGHT
    seen.clear()
    assert len(store.claim_many(worker(), LEASE, 350, wish)) == 300
    assert len(seen) == 350 + 2 * SIGHT


def test_what_runs_keeps_it_busy_whatever_fits(store: Store) -> None:
    store.add(plans(1))
    claim = take(store)  # its sign of life makes it durable
    nothing = Wish(fits=lambda _: False)
    assert store.busy("local", nothing)
    assert store.busy("gpu", Wish(stages=("other",)))
    finish(store, claim)
    assert not store.busy("local", nothing)
    assert store.busy("local", Wish(stages=("single_point",)))
    assert not store.busy("local", Wish(stages=("preopt",)))
    assert not store.busy("local", Wish(levels=frozenset({GFN2.id})))


FOREIGN: list[dict[str, Any]] = [
    {"_tasks": [{"_fw_name": "ScriptTask", "script": ["true"]}], "_priority": 9},
    {"_priority": 9, "qfarm": "nothing"},
    {"_priority": 9, "qfarm": {"stage": 3}},
]


@EACH_WAY
@pytest.mark.parametrize("spec", FOREIGN)
def test_what_is_not_ours_is_refused_although_nothing_fits(
    store: Store, raw: Raw, way: Ways, spec: dict[str, Any]
) -> None:
    store.add(plans(1))
    raw["fireworks"].insert_one({"fw_id": 10**6, "state": "READY", "spec": spec})
    wish = Wish(fits=lambda _: False)
    assert store.busy("local", wish)
    (refusal,) = way(store, worker(), wish)
    assert isinstance(refusal, Refusal)
    assert refusal.fw_id == 10**6
    assert taken(store, wish, way) == []
    assert [item.fw_id for item in store.refusals()] == [10**6]


def test_many_that_pick_get_each_stage_once(store: Store) -> None:
    """Sizes in turn: each of four takes only its own half, and none gets what another has."""
    made = plans(60, SINGLE_POINT)
    store.add(made)
    store.add(plans(20, PREOPT, first=1000))
    fits = Wish(fits=lambda ahead: ahead.stage == "single_point")
    ways = [
        partial(taken, store, fits, way, worker(f"w{n}")) for n, way in enumerate([one, two] * 2)
    ]
    found = at_once(*ways)
    assert sorted(key for keys in found for key in keys) == sorted(keys_of(made, "single_point"))
    assert states(store)["preopt", "ready"] == 20


@EACH_WAY
def test_others_may_be_faster(store: Store, way: Ways) -> None:
    """Between the look and the claim another takes the first ten."""
    made = plans(20, SINGLE_POINT)
    store.add(made)
    fast: list[Claim | Refusal] = []

    def fits(_: Ahead) -> bool:
        if not fast:
            fast.extend(store.claim_many(worker("fast"), LEASE, 10))
        return True

    found = taken(store, Wish(fits=fits), way)
    assert len(fast) == 10
    assert sorted(found) == sorted(keys_of(made[10:], "single_point"))


def examined(raw: Raw, work: Callable[[], object]) -> list[tuple[int, int]]:
    """Keys and documents that each query of the queue looked at."""
    raw.command("profile", 2)
    work()
    raw.command("profile", 0)
    query = {"ns": f"{raw.name}.fireworks", "op": {"$in": ["query", "command", "update"]}}
    found = list(raw["system.profile"].find(query).sort("ts"))
    raw["system.profile"].drop()
    return [(item.get("keysExamined", 0), item.get("docsExamined", 0)) for item in found]


def test_a_claim_does_not_read_what_it_may_not_take(store: Store, raw: Raw) -> None:
    points = plans(60, SINGLE_POINT)
    store.add(points)
    wishes = [
        Wish(stages=("single_point",)),
        Wish(stages=("single_point", "other"), partitions=("a", "b", "c")),
        Wish(levels=frozenset({SINGLE_POINT.level.id})),
    ]
    for wish in wishes * 3:  # as long as they come first any index will do, and is remembered
        assert isinstance(store.claim(worker(), LEASE, wish), Claim)
    store.add(plans(2000, PREOPT, first=10_000), priority=5)
    for wish in wishes * 2:
        assert examined(raw, lambda wish=wish: store.claim(worker(), LEASE, wish)) == [(1, 1)]
    for none in (Wish(stages=("nothing",)), Wish(levels=frozenset({"l0"}))):
        assert examined(raw, lambda none=none: store.claim(worker(), LEASE, none)) == [(0, 0)]
    assert examined(raw, lambda: store.claim(worker(), LEASE)) == [(1, 1)]
    fits = Wish(stages=("single_point",), fits=lambda _: True)
    seen, chosen = examined(raw, lambda: store.claim(worker(), LEASE, fits))
    assert seen == (32, 32)
    assert chosen[1] == 8
