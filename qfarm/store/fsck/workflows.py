"""A fragment's workflow: one document, all stages, in order, in FireWorks' own state."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from qfarm.store import documents, planned
from qfarm.store.connection import Document
from qfarm.store.fsck.changes import Aside, Change, Insert, Update
from qfarm.store.fsck.model import (
    SETTLE,
    Facts,
    Finding,
    Found,
    Group,
    Stage,
    moment,
    nodes,
)
from qfarm.store.fsck.tools import Tools, new_id

_RANK = ("COMPLETED", "RUNNING", "FIZZLED", "READY")


def entries(group: Group, _: Facts) -> Iterator[Found]:
    """Fireworks whose entry cannot be read, unless they were refused or cancelled already."""
    for document in group.broken:
        if document.get("state") not in ("FIZZLED", "DEFUSED", "ARCHIVED"):
            yield Found(group.key, f"the entry of firework {document.get('fw_id')} cannot be read")


def one_workflow(group: Group, _: Facts) -> Iterator[Found]:
    """Not exactly one workflow document, or one without a single stage."""
    count = len(group.workflows)
    if count != 1:
        yield Found(group.key, f"{count} workflow documents")
    elif not group.stages and not group.broken:
        yield Found(group.key, "a workflow without a single firework")


def one_workflow_again(group: Group, _: Finding, tools: Tools) -> list[Change]:
    """Keep the document of most stages; write one where there is none."""
    if not group.workflows:
        return _rebuilt_workflow(group, tools)
    there = {stage.fw_id for stage in group.stages}
    ranked = sorted(group.workflows, key=lambda item: -len(there & set(nodes(item))))
    extra = ranked[1:] if there else ranked
    return [Aside("workflows", item["_id"], "a workflow without stages") for item in extra]


def all_stages(group: Group, facts: Facts) -> Iterator[Found]:
    """Stages that are missing, there twice, or of another plan."""
    stages = group.stages
    if not stages:
        return
    ids = stages[0].entry["stage_ids"]
    fragment = stages[0].entry["fragment_id"]
    if len(stages) != len(ids) or any(
        stage.entry["position"] != place for place, stage in enumerate(stages)
    ):
        places = [stage.entry["position"] for stage in stages]
        if not group.broken:
            yield Found(group.key, f"has stages {places} of {len(ids)}, counted from 0")
    for stage in stages[1:]:
        if stage.entry["stage_ids"] != ids or stage.entry["fragment_id"] != fragment:
            yield Found(group.key, "its stages are not of one plan")
            return


def all_stages_again(group: Group, _: Finding, tools: Tools) -> list[Change]:
    """Put twins aside, and make what is missing; stages of two plans need the user."""
    first = group.stages[0].entry
    same = all(
        s.entry["stage_ids"] == first["stage_ids"]
        and s.entry["fragment_id"] == first["fragment_id"]
        for s in group.stages
    )
    if not same:
        return []
    return _twins(group) or _missing(group, tools)


def _twins(group: Group) -> list[Change]:
    best: dict[int, Stage] = {}
    for stage in sorted(group.stages, key=_worth):
        best.setdefault(stage.entry["position"], stage)
    extra = [s for s in group.stages if best[s.entry["position"]] is not s]
    return [Aside("fireworks", s.document["_id"], "a second firework of a stage") for s in extra]


def _worth(stage: Stage) -> tuple[int, int]:
    rank = _RANK.index(stage.state) if stage.state in _RANK else len(_RANK)
    return rank, stage.fw_id


def _missing(group: Group, tools: Tools) -> list[Change]:
    sibling = group.stages[0]
    plan = tools.plan(group.key, sibling.entry["fragment_id"], sibling.entry["stage_ids"])
    if plan is None:
        return []
    priority = sibling.document["spec"].get("_priority", 0)
    fresh = planned.by_fireworks(plan, priority, 0).fireworks
    there = {stage.entry["position"] for stage in group.stages}
    known = [node for item in group.workflows for node in nodes(item)]
    taken = {stage.fw_id for stage in group.stages}
    free = iter(sorted(set(known) - taken))
    labels = {name: sibling.entry[name] for name in _LABELS if name in sibling.entry}
    changes: list[Change] = []
    for document in fresh:
        entry = document["spec"]["qfarm"]
        if entry["position"] not in there:
            entry |= labels
            fw_id = next(free, None)
            fw_id = next(tools.fw_ids) if fw_id is None else fw_id
            state = {"state": "WAITING", "_id": new_id(), "fw_id": fw_id}
            changes.append(Insert("fireworks", dict(document) | state))
    return changes


_LABELS = ("fragment_class", "tags", "source", "stage_ids")


def _rebuilt_workflow(group: Group, tools: Tools) -> list[Change]:
    if not group.stages:
        return []
    entry = group.stages[0].entry
    plan = tools.plan(group.key, entry["fragment_id"], entry["stage_ids"])
    if plan is None or len(plan.stages) != len(group.stages):
        return []
    made = planned.by_fireworks(plan, 0, 0).workflow
    labels = {"class": entry.get("fragment_class"), "tags": entry.get("tags", [])}
    made["metadata"] = made["metadata"] | labels
    return [Insert("workflows", made | _chain(group) | {"_id": new_id()})]


def links(group: Group, _: Facts) -> Iterator[Found]:
    """A workflow document that does not hold its stages one after the other."""
    if len(group.workflows) != 1 or not group.stages or group.broken:
        return
    workflow, stages = group.workflows[0], group.stages
    found = nodes(workflow)
    same = len(found) == len(stages) and all(stage.fw_id in found for stage in stages)
    if not same or not _is_chain(workflow.get("links"), stages):
        yield Found(group.key, "its document does not list its stages one after the other")


def links_again(group: Group, _: Finding, tools: Tools) -> list[Change]:
    """Write the stages and their order anew."""
    return [Update("workflows", group.workflows[0]["_id"], _chain(group))]


def state(group: Group, facts: Facts) -> Iterator[Found]:
    """A workflow state that is not that of its stages by FireWorks' rule."""
    if len(group.workflows) != 1 or not group.stages or group.broken:
        return
    workflow, stages = group.workflows[0], group.stages
    states = [str(stage.state) for stage in stages]
    if _agrees(workflow, stages, states) or _settling(workflow, stages, states, facts):
        return
    said = workflow.get("state")
    yield Found(group.key, f"says {said}, its stages are {', '.join(states)}")


def state_again(group: Group, _: Finding, tools: Tools) -> list[Change]:
    """Write the state that FireWorks computes."""
    fields = _chain(group) | {"updated_on": documents.iso(tools.now)}
    return [Update("workflows", group.workflows[0]["_id"], fields)]


def lock(group: Group, _: Facts) -> Iterator[Found]:
    """FireWorks' lock."""
    for workflow in group.workflows:
        if workflow.get("locked"):
            yield Found(group.key, "locked by an lpad command", str(workflow.get("updated_on")))


def unlock(group: Group, _: Finding, tools: Tools) -> list[Change]:
    """Lift the lock."""
    return [
        Update("workflows", item["_id"], unset=("locked",))
        for item in group.workflows
        if item.get("locked")
    ]


def contents(group: Group, facts: Facts) -> Iterator[Found]:
    """Entries whose fragment or stages are not in the store."""
    for stage in group.stages:
        if facts.stages is not None:
            for identity in stage.entry["stage_ids"]:
                if identity not in facts.stages:
                    yield Found(stage.key, f"stage {identity} is not in the store")
        identity = stage.entry["fragment_id"]
        if facts.fragments is not None and identity not in facts.fragments:
            yield Found(stage.key, f"fragment {identity} is not in the store")


def _agrees(workflow: Document, stages: Sequence[Stage], states: Sequence[str]) -> bool:
    if workflow.get("state") != documents.chain_state(tuple(states)):
        return False
    said = workflow.get("fw_states")
    if not isinstance(said, dict) or len(said) != len(states):
        return False
    return all(said.get(str(stage.fw_id)) == own for stage, own in zip(stages, states, strict=True))


def _settling(
    workflow: Document, stages: Sequence[Stage], states: Sequence[str], facts: Facts
) -> bool:
    """Whether a stage was claimed so lately that the workflow may still call it ready."""
    before = [
        "READY" if stage.fresh and just_claimed(stage, facts) else own
        for stage, own in zip(stages, states, strict=True)
    ]
    return before != list(states) and _agrees(workflow, stages, before)


def just_claimed(stage: Stage, facts: Facts) -> bool:
    """Whether the writes that follow a claim may still be under way."""
    claimed = moment(stage.document["lease"].get("claimed"))
    return claimed is not None and facts.now - claimed < SETTLE


def _is_chain(found: object, stages: Sequence[Stage]) -> bool:
    if not isinstance(found, dict):
        return False
    last = len(stages) - 1
    for place, stage in enumerate(stages):
        children = found.get(str(stage.fw_id), [])
        if children != ([stages[place + 1].fw_id] if place < last else []):
            return False
    return set(found) <= {str(stage.fw_id) for stage in stages}


def _chain(group: Group) -> Document:
    """Fields of a workflow document that follow from its stages."""
    ids = [stage.fw_id for stage in group.stages]
    states = [str(stage.state) for stage in group.stages]
    after = dict(pairwise(ids))
    return {
        "nodes": ids,
        "links": {str(one): [after[one]] if one in after else [] for one in ids},
        "parent_links": {str(child): [parent] for parent, child in after.items()},
        "fw_states": dict(zip(map(str, ids), states, strict=True)),
        "state": documents.chain_state(tuple(states)),
    }
