"""What the user does to stages: submit, retry, cancel."""

from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from qfarm.plan import Plan
from qfarm.store import contents
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.documents import (
    WorkflowDocuments,
    failure_data,
    in_states,
    workflow_documents,
)
from qfarm.store.limits import update
from qfarm.store.protocol import Added, Selection, StageState
from qfarm.store.selection import fragment_query, pages, stage_query, state_query
from qfarm.store.transitions import Transition, archived, moved

_BATCH: Final = 500
"""Workflows written in one transaction."""

_KEYS: Final = 10_000
"""Keys in one query, which may hold 16 MB."""

_PAGE: Final = 50
"""Workflows changed in one transaction; few, because workers commit to them meanwhile."""

_ROUNDS: Final = 10

_REVIVED: Final = (StageState.FAILED, StageState.CANCELLED)
_STOPPED: Final = (StageState.WAITING, StageState.READY, StageState.RUNNING)


def add(connection: Connection, plans: Sequence[Plan], priority: int) -> Added:
    """See `Store.add`."""
    unique = iter({plan.key: plan for plan in plans}.values())
    new = updated = 0
    while batch := list(islice(unique, _BATCH)):
        there = known(connection, [plan.key for plan in batch])
        new += _add_batch(connection, [plan for plan in batch if plan.key not in there], priority)
        updated += update(connection, [plan for plan in batch if plan.key in there])
    return Added(new, len(plans) - new, updated)


def known(connection: Connection, keys: Sequence[str]) -> frozenset[str]:
    """See `Store.known`."""
    rest = iter(keys)
    found: set[str] = set()
    while batch := list(islice(rest, _KEYS)):
        found |= connection.retry(partial(_known, connection, batch))
    return frozenset(found)


def retry(connection: Connection, selection: Selection) -> int:
    """See `Store.retry`."""
    return _change(connection, selection, _REVIVED, _revive)


def cancel(connection: Connection, selection: Selection) -> int:
    """See `Store.cancel`."""
    return _change(connection, selection, _STOPPED, _stop)


def _known(connection: Connection, keys: Sequence[str]) -> set[str]:
    query = {"metadata.key": {"$in": keys}}
    fields = {"_id": 0, "metadata.key": 1}
    return {item["metadata"]["key"] for item in connection["workflows"].find(query, fields)}


def _add_batch(connection: Connection, fresh: Sequence[Plan], priority: int) -> int:
    if not fresh:
        return 0
    made = list(_documents(connection, fresh, priority))
    for _ in range(_ROUNDS):
        try:
            return connection.transact(lambda t: _write(connection, t, fresh, made))
        except DuplicateKeyError:  # someone adds the same at this moment; now it is known
            continue
    raise RuntimeError(f"duplicate keys remain after {_ROUNDS} rounds of adding workflows")


def _documents(
    connection: Connection, plans: Sequence[Plan], priority: int
) -> Iterator[WorkflowDocuments]:
    total = sum(len(plan.stages) for plan in plans)
    next_id = connection.retry(lambda: _take_ids(connection, total))
    for plan in plans:
        yield workflow_documents(plan, priority, next_id)
        next_id += len(plan.stages)


def _take_ids(connection: Connection, count: int) -> int:
    """First of `count` new firework ids; when a call is repeated, ids are skipped, not reused."""
    counters = connection["fw_id_assigner"]
    before = counters.find_one_and_update({}, {"$inc": {"next_fw_id": count}})
    if before is None:
        raise RuntimeError("fw_id_assigner holds no counters")
    return int(before["next_fw_id"])


def _write(
    connection: Connection,
    transaction: Transaction,
    plans: Sequence[Plan],
    made: Sequence[WorkflowDocuments],
) -> int:
    """Write what is not there; the number of workflows that are there by this call."""
    session = transaction.session
    query = {"metadata.key": {"$in": [item.key for item in made]}}
    there = {
        item["metadata"]["key"]: item["nodes"]
        for item in connection["workflows"].find(query, session=session)
    }
    missing = [item for item in made if item.key not in there]
    if missing:
        contents.write(connection, transaction, plans)
        connection["workflows"].insert_many([_copy(i.workflow) for i in missing], session=session)
        fireworks = [_copy(firework) for item in missing for firework in item.fireworks]
        connection["fireworks"].insert_many(fireworks, session=session)
    mine = (item for item in made if there.get(item.key) == item.workflow["nodes"])
    return len(missing) + sum(1 for _ in mine)


def _copy(document: Document) -> Document:
    """A document that pymongo may put an `_id` into, without touching the one to be retried."""
    return dict(document)


def _change(
    connection: Connection,
    selection: Selection,
    states: Sequence[StageState],
    apply: Callable[[Transition, Sequence[Document]], None],
) -> int:
    """Apply a change to the selected stages in these states; how many there were."""
    changed = 0
    extra = in_states(*states)
    single = {"$and": [fragment_query(selection), stage_query(selection), state_query(selection)]}
    for page in pages(connection, selection, _PAGE, extra):
        query = {"$and": [single, extra, {"spec.qfarm.workflow": {"$in": page}}]}

        def work(transaction: Transaction, query: Document = query) -> int:
            change = Transition(connection, transaction)
            heads = change.heads(query)
            if heads:
                apply(change, heads)
                change.refresh([head["fw_id"] for head in heads], heads[0]["now"])
            return len(heads)

        changed += connection.transact(work)
    return changed


def _revive(change: Transition, heads: Sequence[Document]) -> None:
    done = change.done_positions([head["spec"]["qfarm"]["workflow"] for head in heads])
    change.move(*(_revived(head, done) for head in heads))


def _revived(head: Document, done: Container[tuple[str, int]]) -> UpdateOne:
    entry = head["spec"]["qfarm"]
    ready = entry["position"] == 0 or (entry["workflow"], entry["position"] - 1) in done
    fields = {"spec__qfarm__since": entry.get("attempts", 0)} | archived(head)
    return moved(head, "READY" if ready else "WAITING", unset=["failure", "lease"], **fields)


def _stop(change: Transition, heads: Sequence[Document]) -> None:
    for head in heads:
        if "lease" in head:
            change.end_launch(head, "FIZZLED", failure_data(_cancelled(head)["reason"]))
    change.move(
        *(
            moved(head, "DEFUSED", unset=["lease"], failure=_cancelled(head), **archived(head))
            for head in heads
        )
    )


def _cancelled(head: Document) -> Document:
    """Why a cancelled stage will not go on, for those who look at it later."""
    when = "in the middle of an attempt" if "lease" in head else "before its next attempt"
    return {
        "reason": f"cancelled by the user, {when}",
        "remedy": "`qfarm retry` makes it ready again.",
    }


def ask_drain(connection: Connection, launcher: str) -> None:
    """See `Store.ask_drain`."""
    changes = {"$set": {"drain": True}, "$currentDate": {"asked": True}}
    connection.retry(
        lambda: connection["launchers"].update_one({"_id": launcher}, changes, upsert=True)
    )


def draining(connection: Connection, launcher: str) -> bool:
    """See `Store.draining`."""
    query = {"_id": launcher, "drain": True}
    return connection.retry(lambda: connection["launchers"].find_one(query)) is not None
