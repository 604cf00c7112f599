"""State changes inside one transaction that keep FireWorks' collections in step."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from pymongo import UpdateOne

from qfarm.store import documents, launches
from qfarm.store.connection import Connection, Document, Transaction, WorkflowLockedError
from qfarm.store.entry import Foreign, workflow_of
from qfarm.store.lease import read_lease
from qfarm.store.ready import PASSING

LOCK_PATIENCE: Final = 10.0
"""s: how long FireWorks' lock on a workflow is respected. An `lpad` command holds it for some
milliseconds, but one that is killed leaves it for ever."""

HEAD: Final[Document] = {
    "fw_id": 1,
    "state": 1,
    "launches": 1,
    "archived_launches": 1,
    "lease": 1,
    "spec.qfarm.workflow": 1,
    "spec.qfarm.position": 1,
    "spec.qfarm.attempts": 1,
    "now": "$$NOW",
}
"""What a transition must know of a firework; `now` is the database's clock."""


class Transition:
    """Changes of state within a transaction; `breaks_locks`: without waiting for lpad."""

    def __init__(
        self, connection: Connection, transaction: Transaction, breaks_locks: bool = False
    ) -> None:
        self._connection = connection
        self._patient = transaction.waited < LOCK_PATIENCE and not breaks_locks
        self.session = transaction.session

    def heads(self, query: Document) -> list[Document]:
        """Fireworks as `HEAD` shows them."""
        return list(self._connection["fireworks"].find(query, HEAD, session=self.session))

    def head(self, query: Document) -> Document | None:
        """The first of `heads`."""
        return next(iter(self.heads(query)), None)

    def done_positions(self, workflows: Sequence[str]) -> set[tuple[str, int]]:
        """Workflow key and position of the stages of these workflows that are done."""
        query = {"spec.qfarm.workflow": {"$in": list(workflows)}, "state": "COMPLETED"}
        own = (head for head in self.heads(query) if workflow_of(head.get("spec")) is not None)
        entries = (head["spec"]["qfarm"] for head in own)
        return {(entry["workflow"], entry.get("position")) for entry in entries}

    def move(self, *updates: UpdateOne) -> None:
        """Carry out what `moved` gave."""
        self._connection["fireworks"].bulk_write(list(updates), session=self.session)

    def release_next(self, head: Document) -> None:
        """Make the stage after this one ready."""
        entry = head["spec"]["qfarm"]
        following = {
            "spec.qfarm.workflow": entry["workflow"],
            "spec.qfarm.position": entry["position"] + 1,
            "state": "WAITING",
        }
        changes = {"$set": {"state": "READY", "updated_on": documents.iso(head["now"])}}
        self._connection["fireworks"].update_many(following, changes, session=self.session)

    def end_launch(self, head: Document, state: str, data: Document) -> bool:
        """Write how the launch of the lease ended; False if the lease cannot be read."""
        lease = read_lease(head.get("lease"))
        if isinstance(lease, Foreign) or not isinstance(head.get("fw_id"), int):
            return False
        launch = launches.ended(head["fw_id"], lease, state, head["now"], data)
        query = {"launch_id": lease.launch}
        collection = self._connection[launches.LAUNCHES]
        collection.replace_one(query, launch, upsert=True, session=self.session)
        return True

    def fizzle_launches(self, head: Document) -> None:
        """End what runs of a firework whose lease cannot be read, as far as it is known."""
        query = {"launch_id": {"$in": archived(head)["archived_launches"]}, "state": "RUNNING"}
        end = documents.iso(head["now"])
        changes = {
            "$set": {"state": "FIZZLED", "time_end": end},
            "$push": {"state_history": {"state": "FIZZLED", "created_on": end}},
        }
        self._connection[launches.LAUNCHES].update_many(query, changes, session=self.session)

    def refresh(self, fw_ids: Sequence[object], now: datetime) -> None:
        """Write the states of the workflows of these fireworks by FireWorks' rule.

        Raises
        ------
        WorkflowLockedError
            An lpad command is at work on one of them.
        """
        query = {"nodes": {"$in": [fw_id for fw_id in fw_ids if isinstance(fw_id, int)]}}
        workflows = list(self._connection["workflows"].find(query, session=self.session))
        if self._patient and any(item.get("locked") for item in workflows):
            raise WorkflowLockedError("an lpad command holds the lock of the workflow")
        states = self._states([node for item in workflows for node in _nodes(item)])
        updates = [_refreshed(item, states, now) for item in workflows]
        if updates:
            self._connection["workflows"].bulk_write(updates, session=self.session)

    def _states(self, fw_ids: Sequence[int]) -> dict[int, str]:
        found = self._connection["fireworks"].find(
            {"fw_id": {"$in": fw_ids}}, {"fw_id": 1, "state": 1}, session=self.session
        )
        return {item["fw_id"]: str(item.get("state")) for item in found}


def moved(head: Document, state: str, unset: Sequence[str] = (), **fields: Any) -> UpdateOne:
    """Update that puts a firework into a state and changes fields (``__`` stands for a dot).

    Where earlier attempts failed is kept only while it waits for its next one.
    """
    named = {name.replace("__", "."): value for name, value in fields.items()}
    over = () if state == "READY" else PASSING
    changes: Document = {
        "$set": {"state": state, "updated_on": documents.iso(head["now"])} | named,
        "$unset": dict.fromkeys({"hold", *over, *unset} - set(named), ""),
    }
    return UpdateOne({"_id": head["_id"]}, changes)


def archived(head: Document) -> Document:
    """Fields that put all launches of a firework aside, so that FireWorks finds it unstarted."""
    lists = (head.get(name) for name in ("archived_launches", "launches"))
    every = (item for found in lists if isinstance(found, list) for item in found)
    return {"launches": [], "archived_launches": sorted({i for i in every if isinstance(i, int)})}


def _nodes(workflow: Document) -> list[int]:
    nodes = workflow["nodes"]
    every = nodes if isinstance(nodes, list) else [nodes]
    return [node for node in every if isinstance(node, int)]


def _refreshed(workflow: Document, states: dict[int, str], now: datetime) -> UpdateOne:
    own = {node: states[node] for node in _nodes(workflow) if node in states}
    changes: Document = {
        "$set": {
            "state": documents.workflow_state(workflow.get("links", {}), own),
            "fw_states": {str(node): state for node, state in own.items()},
            "updated_on": documents.iso(now),
        },
        "$unset": {"locked": ""},
    }
    return UpdateOne({"_id": workflow["_id"]}, changes)
