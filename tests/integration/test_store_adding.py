"""Adding many workflows: in large transactions, each whole or not at all, and once each."""

from typing import Any

import pytest
from pymongo.collection import Collection
from pymongo.database import Database

from qfarm.errors import StoreError
from qfarm.store import adding
from qfarm.store.protocol import Added, Selection, Store
from support.lpad import raw
from support.work import PREOPT, SINGLE_POINT, give_up, plan_of, plans, states, take, water

__all__ = ["raw"]

Raw = Database[dict[str, Any]]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "_BATCH", 4)


def whole(raw: Raw) -> set[str]:
    """Keys of the workflows; each has its fireworks, its fragment and its stages."""
    fragments, stages = (set(raw[name].distinct("_id")) for name in ("fragments", "stages"))
    fireworks = {item["fw_id"]: item for item in raw["fireworks"].find()}
    workflows = list(raw["workflows"].find())
    nodes = [number for workflow in workflows for number in workflow["nodes"]]
    assert sorted(nodes) == sorted(fireworks)
    for item in fireworks.values():
        assert item["spec"]["qfarm"]["fragment_id"] in fragments
        assert set(item["spec"]["qfarm"]["stage_ids"]) <= stages
    assert fragments == {workflow["metadata"]["fragment_id"] for workflow in workflows}
    return {workflow["metadata"]["key"] for workflow in workflows}


def test_every_batch_is_written_in_order(store: Store, raw: Raw) -> None:
    submitted = plans(11)
    assert store.add([*submitted, *submitted[:3]], priority=2) == Added(11, 3)
    assert whole(raw) == {plan.key for plan in submitted}
    rows = list(store.rows(Selection()))
    assert [row.workflow for row in rows[::2]] == [plan.key for plan in submitted]
    assert store.add(submitted) == Added(0, 11)


def test_large_fragments_make_small_batches(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "_ATOMS", 5)  # a water has three
    monkeypatch.setattr(adding, "_WRITERS", 1)  # two may meet in the stages, and begin again
    sizes: list[int] = []
    real = Collection.insert_many

    def insert_many(self: Any, documents: list[Any], **options: Any) -> Any:
        sizes.append(len(documents)) if self.name == "workflows" else None
        return real(self, documents, **options)

    monkeypatch.setattr(Collection, "insert_many", insert_many)
    store.add(plans(5))
    assert sizes == [2, 2, 1]
    assert len(whole(raw)) == 5


@pytest.mark.parametrize("collection", ["fragments", "workflows", "fireworks"])
def test_a_batch_that_fails_leaves_nothing_of_itself(
    store: Store, raw: Raw, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = plans(8)
    store.add(submitted[:4])
    real = Collection.insert_many

    def insert_many(self: Any, documents: list[Any], **options: Any) -> Any:
        made = real(self, documents, **options)
        if self.name == collection:
            raise KeyboardInterrupt
        return made

    with monkeypatch.context() as patched:
        patched.setattr(Collection, "insert_many", insert_many)
        with pytest.raises(KeyboardInterrupt):
            store.add(submitted)
    assert whole(raw) == {plan.key for plan in submitted[:4]}
    assert store.add(submitted) == Added(4, 4)
    assert len(whole(raw)) == 8


def test_the_same_fragment_with_other_stages_is_stored_once(store: Store, raw: Raw) -> None:
    one = water(1)
    assert store.add([plan_of(one), plan_of(one, SINGLE_POINT)]) == Added(2, 0)
    assert store.add([plan_of(one, PREOPT)]) == Added(1, 0)
    assert len(whole(raw)) == 3
    assert raw["fragments"].count_documents({}) == 1


def test_known_ones_whose_stages_differ_are_found(store: Store) -> None:
    longer = SINGLE_POINT.model_copy(update={"time_limit": 7.0})
    fragments = [water(index) for index in range(6)]
    store.add([plan_of(one, PREOPT, SINGLE_POINT) for one in fragments])
    give_up(store, take(store))
    changed = [
        plan_of(one, PREOPT, longer if n % 2 else SINGLE_POINT) for n, one in enumerate(fragments)
    ]
    assert store.add(changed) == Added(0, 6, updated=3)
    assert store.add(changed) == Added(0, 6)
    assert states(store)["preopt", "failed"] == 1


def test_a_counter_that_was_set_back_is_explained(store: Store, raw: Raw) -> None:
    store.add(plans(2))
    raw["fw_id_assigner"].update_one({}, {"$set": {"next_fw_id": 1}})
    with pytest.raises(StoreError, match="fw_id_assigner") as caught:
        store.add(plans(2, first=10))
    assert "qfarm fsck --repair" in caught.value.remedy
    assert raw["workflows"].count_documents({}) == 2
