"""Documents that are filled in after others equal those that FireWorks' own classes make."""

from datetime import datetime
from typing import Any

import pytest
from fireworks import Workflow

from qfarm.plan import Plan
from qfarm.store.entry import Entry, read
from qfarm.store.planned import WorkflowDocuments, by_fireworks, formula, workflow_documents
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from support.build import stage
from support.work import PREOPT, SINGLE_POINT, plan_of, water

THIRD = stage(TaskKind.SINGLE_POINT, name="third", partition="gpu", max_steps=7)
PLANS = [
    plan_of(water(1, tags=("a", "b"), source="x.xyz#1", fragment_class="dimer")),
    plan_of(water(2)),
    plan_of(water(3), SINGLE_POINT),
    plan_of(water(4), THIRD),
    plan_of(water(5, source="é"), PREOPT, SINGLE_POINT, THIRD),
    plan_of(Fragment(numbers=[6, 8, 1, 1], positions=[[0, 0, i] for i in range(4)], charge=1)),
    plan_of(water(6), SINGLE_POINT),
    plan_of(water(7), PREOPT, SINGLE_POINT, THIRD),
]


def timeless(found: Any) -> Any:
    """Documents with times only where they belong, of the right type."""
    if isinstance(found, dict):
        for name in ("created_on", "updated_on"):
            if isinstance(found.get(name), str):
                assert datetime.fromisoformat(found[name]).utcoffset() is not None
                found = found | {name: "text"}
            elif name in found:
                assert isinstance(found[name], datetime)
                found = found | {name: "time"}
        return {key: timeless(value) for key, value in found.items()}
    return [timeless(item) for item in found] if isinstance(found, list) else found


def one_by_one(plans: list[Plan], priority: int, first_id: int) -> list[WorkflowDocuments]:
    made = []
    for plan in plans:
        made.append(by_fireworks(plan, priority, first_id))
        first_id += len(plan.stages)
    return made


@pytest.mark.parametrize(("priority", "first_id"), [(0, 1), (-3, 99_999)])
def test_filled_in_documents_are_those_of_fireworks(priority: int, first_id: int) -> None:
    expected = one_by_one(PLANS, priority, first_id)
    for mine, theirs in zip(workflow_documents(PLANS, priority, first_id), expected, strict=True):
        assert mine.key == theirs.key
        theirs.workflow["nodes"].sort()
        # as text, because the order of fields is part of a BSON document
        assert str(timeless(mine.workflow)) == str(timeless(theirs.workflow))
        for own, other in zip(mine.fireworks, theirs.fireworks, strict=True):
            assert str(timeless(own)) == str(timeless(other))


def test_fireworks_and_the_store_read_them() -> None:
    for made in workflow_documents(PLANS, 0, 10):
        whole = Workflow.from_dict(made.workflow | {"fws": list(made.fireworks)})
        assert whole.state == "READY"
        entries = [read(firework["spec"]) for firework in made.fireworks]
        assert all(isinstance(entry, Entry) for entry in entries), entries


def test_documents_do_not_change_those_before_them() -> None:
    first, *_ = made = list(workflow_documents(PLANS[:2], 0, 1))
    before = str(first)
    made[1].workflow["_id"] = made[1].fireworks[0]["_id"] = 1
    assert str(first) == before


@pytest.mark.parametrize(
    ("numbers", "name"), [([8, 1, 1], "H2O"), ([1, 6, 1, 17], "CH2Cl"), ([11, 17], "ClNa")]
)
def test_formula_is_in_hill_order(numbers: list[int], name: str) -> None:
    positions = [[0, 0, index] for index in range(len(numbers))]
    assert formula(Fragment(numbers=numbers, positions=positions)) == name
