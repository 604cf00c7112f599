"""What the user does to stages: retry, cancel."""

from collections.abc import Callable, Container, Sequence
from typing import Final

from pymongo import UpdateOne

from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.documents import failure_data, in_states
from qfarm.store.entry import workflow_of
from qfarm.store.protocol import Selection, StageState
from qfarm.store.ready import PASSING
from qfarm.store.selection import fragment_query, pages, stage_query, state_query
from qfarm.store.transitions import Transition, archived, moved

_PAGE: Final = 50
"""Workflows changed in one transaction; few, because workers commit to them meanwhile."""

_REVIVED: Final = (StageState.FAILED, StageState.CANCELLED)
_STOPPED: Final = (StageState.WAITING, StageState.READY, StageState.RUNNING)


def retry(connection: Connection, selection: Selection) -> int:
    """See `Store.retry`."""
    return _change(connection, selection, _REVIVED, _revive)


def cancel(connection: Connection, selection: Selection) -> int:
    """See `Store.cancel`."""
    return _change(connection, selection, _STOPPED, _stop)


def _change(
    connection: Connection,
    selection: Selection,
    states: Sequence[StageState],
    apply: Callable[[Transition, Sequence[Document]], int],
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
            done = apply(change, heads) if heads else 0
            if done:
                change.refresh([head.get("fw_id") for head in heads], heads[0]["now"])
            return done

        changed += connection.transact(work)
    return changed


def _revive(change: Transition, heads: Sequence[Document]) -> int:
    """Make these ready or waiting; what only looks like a stage is left alone."""
    named = [head for head in heads if workflow_of(head.get("spec")) is not None]
    own = [head for head in named if isinstance(head["spec"]["qfarm"].get("position"), int)]
    if own:
        done = change.done_positions([head["spec"]["qfarm"]["workflow"] for head in own])
        change.move(*(_revived(head, done) for head in own))
    return len(own)


def _revived(head: Document, done: Container[tuple[str, int]]) -> UpdateOne:
    entry = head["spec"]["qfarm"]
    ready = entry["position"] == 0 or (entry["workflow"], entry["position"] - 1) in done
    fields = {"spec__qfarm__since": entry.get("attempts", 0)} | archived(head)
    return moved(
        head, "READY" if ready else "WAITING", unset=["failure", "lease", *PASSING], **fields
    )


def _stop(change: Transition, heads: Sequence[Document]) -> int:
    for head in heads:
        if "lease" in head:
            change.end_launch(head, "FIZZLED", failure_data(_cancelled(head)["reason"]))
    change.move(
        *(
            moved(head, "DEFUSED", unset=["lease"], failure=_cancelled(head), **archived(head))
            for head in heads
        )
    )
    return len(heads)


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
