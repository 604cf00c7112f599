"""What every store must do when a known fragment is submitted with other limits."""

from typing import Any

from qfarm.plan import Plan
from qfarm.store.protocol import Added, Selection, Store
from support.work import LEASE, PREOPT, fail, finish, give_up, plans, states, take, worker

EVERYTHING = Selection()


def longer(plan: Plan, **limits: Any) -> Plan:
    """The plan with other limits on all stages."""
    return plan._replace(stages=tuple(one.model_copy(update=limits) for one in plan.stages))


def test_add_gives_known_workflows_the_new_limits(store: Store) -> None:
    submitted = plans(3)
    store.add(submitted)
    limits = {"time_limit": 7.0, "memory_mb": 123, "policy": {"node": 9}, "max_steps": 3}
    changed = [longer(plan, **limits) for plan in submitted[:2]]
    assert [plan.key for plan in changed] == [plan.key for plan in submitted[:2]]
    assert store.add(changed) == Added(new=0, known=2, updated=2)
    assert store.add(changed) == Added(new=0, known=2, updated=0)
    claims = [take(store) for _ in range(3)]
    assert [claim.stage for claim in claims] == [*[changed[0].stages[0]] * 2, PREOPT]
    finish(store, claims[0])
    assert take(store).stage == changed[0].stages[1]
    assert store.refusals() == ()


def test_new_limits_are_for_what_is_not_done(store: Store) -> None:
    (plan,) = plans(1)
    store.add([plan])
    first = take(store)
    finish(store, first)
    running = take(store)
    assert store.add([longer(plan, time_limit=7.0)]) == Added(new=0, known=1, updated=1)
    stages = store.view(plan.fragment.id).stages
    assert stages == {first.key: PREOPT, running.key: longer(plan, time_limit=7.0).stages[1]}
    fail(store, running)
    again = take(store)
    assert again.stage.time_limit == 7.0
    assert len(again.history) == 1
    finish(store, again)
    assert store.add([longer(plan, time_limit=8.0)]) == Added(new=0, known=1, updated=0)


def test_a_failed_stage_takes_new_limits_at_its_retry(store: Store) -> None:
    (plan,) = plans(1)
    store.add([plan])
    give_up(store, take(store))
    store.add([longer(plan, time_limit=7.0)])
    assert states(store) == {("preopt", "failed"): 1, ("single_point", "waiting"): 1}
    assert store.claim(worker(), LEASE) is None
    assert store.retry(EVERYTHING) == 1
    claim = take(store)
    assert (claim.stage.time_limit, claim.history) == (7.0, ())


def test_a_new_partition_moves_the_stages_that_wait(store: Store) -> None:
    (plan,) = plans(1)
    store.add([plan])
    assert store.add([longer(plan, partition="gpu")]).updated == 1
    assert store.claim(worker(), LEASE) is None
    assert not store.busy("local")
    finish(store, take(store, worker(partition="gpu")))
    assert store.add([plan]).updated == 1
    finish(store, take(store))
    assert store.refusals() == ()
