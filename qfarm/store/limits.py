"""Limits: give stages that are not done the limits, budgets and partitions of a new submission.

They do not count for the workflow key, so the stages may be exchanged for others of the same key.
All entries of a workflow name the same stages afterwards; a stage that is done keeps its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from pymongo import UpdateOne

from qfarm.plan import Plan
from qfarm.store import contents
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.entry import Entry, of
from qfarm.store.transitions import Transition

_PAGE: Final = 50
"""Workflows changed in one transaction; few, because workers commit to them meanwhile."""


class _Stood(NamedTuple):
    """One stage of a workflow as it stands in the queue."""

    head: Document
    entry: Entry

    @property
    def done(self) -> bool:
        return bool(self.head["state"] == "COMPLETED")


def update(connection: Connection, plans: Sequence[Plan]) -> int:
    """Exchange the stages of known workflows where a plan's differ; in how many workflows."""
    if not plans:
        return 0
    query = _of([plan.key for plan in plans])
    heads = connection.retry(lambda: list(connection["fireworks"].find(query, _FIELDS)))
    standing = _by_workflow(heads)
    differ = iter([plan for plan in plans if _changes(plan, standing.get(plan.key, ()))])
    updated = 0
    while page := list(islice(differ, _PAGE)):
        updated += connection.transact(partial(_update, connection, plans=page))
    return updated


def _update(connection: Connection, transaction: Transaction, plans: Sequence[Plan]) -> int:
    session = transaction.session
    query = _of([plan.key for plan in plans])
    heads = list(connection["fireworks"].find(query, _FIELDS, session=session))
    standing = _by_workflow(heads)
    changes = {plan.key: _changes(plan, standing.get(plan.key, ())) for plan in plans}
    moved = [plan for plan in plans if changes[plan.key]]
    if moved:
        contents.write(connection, transaction, moved)
        updates = [update for plan in moved for update in changes[plan.key]]
        connection["fireworks"].bulk_write(updates, session=session)
        numbers = [stood.head["fw_id"] for plan in moved for stood in standing[plan.key]]
        Transition(connection, transaction).refresh(numbers, heads[0]["now"])  # minds lpad's lock
    return len(moved)


def _changes(plan: Plan, standing: Sequence[_Stood]) -> list[UpdateOne]:
    """Updates of a workflow's fireworks; none when all is as planned or not as we wrote it."""
    if [stood.entry.position for stood in standing] != list(range(len(plan.stages))):
        return []
    wanted = [
        stood.entry.stage_ids[stood.entry.position] if stood.done else stage.id
        for stood, stage in zip(standing, plan.stages, strict=True)
    ]
    if all(list(stood.entry.stage_ids) == wanted for stood in standing):
        return []
    return list(_exchanges(plan, standing, wanted))


def _exchanges(
    plan: Plan, standing: Iterable[_Stood], wanted: Sequence[str]
) -> Iterator[UpdateOne]:
    for stood, stage in zip(standing, plan.stages, strict=True):
        change: Document = {"$set": {"spec.qfarm.stage_ids": list(wanted)}}
        if not stood.done and stage.partition is not None:
            change["$set"]["spec._category"] = stage.partition
        elif not stood.done:
            change["$unset"] = {"spec._category": ""}
        yield UpdateOne({"_id": stood.head["_id"]}, change)


def _by_workflow(heads: Iterable[Document]) -> Mapping[str, list[_Stood]]:
    """Stages of each workflow in order; those whose entry cannot be read are left out."""
    found: dict[str, list[_Stood]] = {}
    for head in heads:
        entry = of(head.get("spec"))
        if isinstance(entry, Entry):
            found.setdefault(entry.workflow, []).append(_Stood(head, entry))
    for standing in found.values():
        standing.sort(key=lambda stood: stood.entry.position)
    return found


def _of(keys: Sequence[str]) -> Document:
    return {"spec.qfarm.workflow": {"$in": list(keys)}}


_FIELDS: Final[Document] = {"fw_id": 1, "state": 1, "spec.qfarm": 1, "now": "$$NOW"}
