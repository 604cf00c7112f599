"""What is asked of the queue for a wish, and what is seen of an entry, whatever it holds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.store.planned import workflow_documents
from qfarm.store.ready import SEEN, ahead, fitting, ready
from qfarm.store.wish import ANYTHING, Ahead, Wish
from support.build import stage
from support.work import SINGLE_POINT, plan_of, water

DOCUMENT: dict[str, Any] = {
    "_id": 1,
    "spec": {
        "_category": "gpu",
        "_priority": 3,
        "qfarm": {
            "stage": "single_point",
            "level_id": SINGLE_POINT.level.id,
            "formula": "H2O",
            "n_atoms": 3,
            "attempts": 0,
        },
    },
}


def test_an_entry_as_qfarm_writes_it() -> None:
    plan = plan_of(water(1), stage(partition="gpu"))
    (made,) = workflow_documents([plan], 3, 1)
    found = Ahead("single_point", SINGLE_POINT.level.id, "H2O", 3, "gpu", 0)
    assert ahead(made.fireworks[0]) == found
    assert ahead(DOCUMENT) == found


def test_the_projection_holds_all_that_is_seen() -> None:
    paths = [f"spec.{name}" for name in DOCUMENT["spec"] if name != "qfarm"]
    paths += [f"spec.qfarm.{name}" for name in DOCUMENT["spec"]["qfarm"]]
    assert sorted(SEEN) == sorted(paths)


ODD = st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()), st.floats())


@given(st.sampled_from(["stage", "level_id", "formula", "n_atoms", "attempts"]), ODD)
def test_an_entry_of_others_is_taken_as_fitting(name: str, value: object) -> None:
    kind = int if name in ("n_atoms", "attempts") else str
    entry = DOCUMENT["spec"]["qfarm"] | {name: value}
    document = {"_id": 2, "spec": DOCUMENT["spec"] | {"qfarm": entry}}
    nothing = Wish(fits=lambda _: False)
    foreign = not isinstance(value, kind)
    assert (ahead(document) is None) == foreign
    assert fitting([DOCUMENT, document], nothing) == ([document] if foreign else [])


@given(st.recursive(ODD, lambda inner: st.dictionaries(st.sampled_from(["spec", "qfarm"]), inner)))
def test_no_entry_is_too_strange(spec: object) -> None:
    assert ahead({"_id": 1, "spec": spec}) is None


@pytest.mark.parametrize(
    ("wish", "conditions"),
    [
        (ANYTHING, {}),
        (Wish(partitions=("a", "b")), {"spec._category": {"$in": [None, "a", "b"]}}),
        (Wish(stages=("x",)), {"spec.qfarm.stage": {"$in": ["x"]}}),
        (Wish(levels=frozenset("ba")), {"spec.qfarm.level_id": {"$in": ["a", "b"]}}),
        (Wish(levels=frozenset()), {"spec.qfarm.level_id": {"$in": []}}),
        (Wish(elsewhere="c1"), {"failed_on": {"$ne": "c1"}}),
        (Wish(outgrown="local"), {"outgrown": {"$ne": "local"}}),
        (Wish(fits=lambda _: False), {}),
    ],
)
def test_the_query_of_a_wish(wish: Wish, conditions: dict[str, Any]) -> None:
    usual = {"state": "READY", "spec._category": {"$in": [None, "local"]}}
    assert ready("local", wish) == usual | conditions
