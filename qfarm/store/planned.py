"""Planned: the documents of new workflows, as FireWorks' own classes write them.

Those classes take a third of a millisecond for a workflow, nearly all of it for what is the same
in every workflow of the same stages. So they make the first of a batch, and the others are filled
in after it; a test holds both ways to the same documents.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from ase.formula import Formula
from ase.symbols import Symbols
from fireworks.core.firework import Firework, Workflow

from qfarm.plan import Plan, stage_key
from qfarm.store.connection import Document
from qfarm.store.documents import SHORT
from qfarm.store.entry import RUN_STAGE, Entry
from qfarm_schemas.fragment import Fragment


class WorkflowDocuments(NamedTuple):
    """A plan as it stands in the collections `workflows` and `fireworks`."""

    key: str
    workflow: Document
    fireworks: tuple[Document, ...]


class _Task:
    """Stands for the Firetask, which the store neither needs nor imports."""

    def to_dict(self) -> dict[str, str]:
        return {"_fw_name": RUN_STAGE}


def workflow_documents(
    plans: Sequence[Plan], priority: int, first_id: int
) -> Iterator[WorkflowDocuments]:
    """Documents of plans; their fireworks get the ids from `first_id` on.

    Documents of one call share what is the same in them, so nothing inside one may be changed.
    """
    patterns: dict[tuple[str, ...], WorkflowDocuments] = {}
    for plan in plans:
        alike = tuple(stage.id for stage in plan.stages)
        if alike not in patterns:
            patterns[alike] = by_fireworks(plan, priority, first_id)
        yield _filled(patterns[alike], plan, first_id)
        first_id += len(plan.stages)


def by_fireworks(plan: Plan, priority: int, first_id: int) -> WorkflowDocuments:
    """Documents of a plan, made by FireWorks' own classes."""
    name = formula(plan.fragment)
    ids = range(first_id, first_id + len(plan.stages))
    fireworks = [
        Firework(
            [_Task()],
            spec=_spec(plan, position, priority, name),
            name=_title_of_stage(plan, position, name),
            fw_id=fw_id,
            state="READY" if position == 0 else "WAITING",
        )
        for position, fw_id in enumerate(ids)
    ]
    links = {fw_id: [fw_id + 1] for fw_id in ids[:-1]}
    metadata = _of_fragment(plan, name) | {
        "stages": [stage.name for stage in plan.stages],
        "methods": [stage.level.method for stage in plan.stages],
    }
    workflow = Workflow(fireworks, links, name=_title(plan, name), metadata=metadata)
    return WorkflowDocuments(
        plan.key, workflow.to_db_dict(), tuple(firework.to_db_dict() for firework in fireworks)
    )


def formula(fragment: Fragment) -> str:
    """Chemical formula in Hill order."""
    return hill(tuple(sorted(fragment.numbers.tolist())))


@lru_cache(maxsize=4096)
def hill(numbers: tuple[int, ...]) -> str:
    """Chemical formula in Hill order, of atomic numbers in ascending order."""
    return str(Formula.from_list(list(Symbols(numbers))).format("hill"))


def _filled(pattern: WorkflowDocuments, plan: Plan, first_id: int) -> WorkflowDocuments:
    """Documents of a plan after those of another with the same stages."""
    old, name = pattern.workflow, formula(plan.fragment)
    shift = first_id - min(old["nodes"])  # FireWorks writes them in any order
    workflow = old | {
        "links": _shifted(old["links"], shift),
        "parent_links": _shifted(old["parent_links"], shift),
        "nodes": sorted(number + shift for number in old["nodes"]),  # theirs are in any order
        "metadata": old["metadata"] | _of_fragment(plan, name),
        "name": _title(plan, name),
        "fw_states": {str(int(key) + shift): state for key, state in old["fw_states"].items()},
    }
    shared = _own_fields(plan, name)
    fireworks = tuple(
        old
        | {
            "spec": old["spec"] | {"qfarm": old["spec"]["qfarm"] | shared | _key(plan, position)},
            "fw_id": first_id + position,
            "name": _title_of_stage(plan, position, name),
        }
        for position, old in enumerate(pattern.fireworks)
    )
    return WorkflowDocuments(plan.key, workflow, fireworks)


def _shifted(links: Document, shift: int) -> Document:
    return {
        str(int(parent) + shift): [child + shift for child in children]
        for parent, children in links.items()
    }


def _spec(plan: Plan, position: int, priority: int, name: str) -> Document:
    stage = plan.stages[position]
    spec: Document = {"_priority": priority, "qfarm": _entry(plan, position, name)}
    return spec if stage.partition is None else spec | {"_category": stage.partition}


def _entry(plan: Plan, position: int, name: str) -> Document:
    stage = plan.stages[position]
    of_stage = {
        "stage_ids": tuple(stage.id for stage in plan.stages),
        "position": position,
        "stage": stage.name,
        "level_id": stage.level.id,
    }
    return Entry(**_key(plan, position), **_own_fields(plan, name), **of_stage).model_dump()


def _key(plan: Plan, position: int) -> Document:
    return {"key": stage_key(plan.key, plan.stages[position].name)}


def _own_fields(plan: Plan, name: str) -> Document:
    """What the entries of a workflow say of its fragment."""
    fragment = plan.fragment
    return {
        "workflow": plan.key,
        "fragment_id": fragment.id,
        "fragment_class": fragment.fragment_class,
        "tags": list(fragment.tags),
        "source": fragment.source,
        "formula": name,
        "n_atoms": fragment.n_atoms,
    }


def _of_fragment(plan: Plan, name: str) -> Document:
    """What the metadata of a workflow say of its fragment."""
    fragment = plan.fragment
    return {
        "key": plan.key,
        "fragment_id": fragment.id,
        "class": fragment.fragment_class,
        "tags": list(fragment.tags),
        "formula": name,
        "n_atoms": fragment.n_atoms,
    }


def _title(plan: Plan, name: str) -> str:
    return f"{name} {plan.fragment.id[:SHORT]}"


def _title_of_stage(plan: Plan, position: int, name: str) -> str:
    return f"{name} {plan.stages[position].name}"
