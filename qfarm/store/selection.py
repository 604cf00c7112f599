"""From a Selection to MongoDB queries and to pages of workflows."""

from collections.abc import Iterator
from functools import partial
from itertools import groupby, islice
from typing import Final

from qfarm.store.connection import Connection, Document
from qfarm.store.documents import in_states
from qfarm.store.entry import workflow_of
from qfarm.store.protocol import Selection

_SCAN: Final = 1000
"""Fireworks read at a time. Each page is a query of its own, which goes on after the last
`fw_id`: no cursor stays open while the caller works, so none can time out."""


def fragment_query(selection: Selection) -> Document:
    """Conditions on the fragment."""
    query: Document = {"spec.qfarm.workflow": {"$exists": True}}
    if selection.fragment_ids:
        query["spec.qfarm.fragment_id"] = {"$in": list(selection.fragment_ids)}
    if selection.fragment_class is not None:
        query["spec.qfarm.fragment_class"] = selection.fragment_class
    if selection.tag is not None:
        query["spec.qfarm.tags"] = selection.tag
    return query


def stage_query(selection: Selection) -> Document:
    """Conditions on the single stage, without its state."""
    query: Document = {}
    if selection.stage is not None:
        query["spec.qfarm.stage"] = selection.stage
    if selection.level_id is not None:
        query["spec.qfarm.level_id"] = selection.level_id
    return query


def state_query(selection: Selection) -> Document:
    """Condition on the state of the single stage."""
    return {} if selection.state is None else in_states(selection.state)


def pages(
    connection: Connection, selection: Selection, size: int, extra: Document | None = None
) -> Iterator[list[str]]:
    """Keys of the selected workflows in order of submission, `size` at a time.

    Parameters
    ----------
    connection : Connection
        The database.
    selection : Selection
        Which.
    size : int
        Keys in a page.
    extra : dict or None
        One more condition on the stages.
    """
    query = fragment_query(selection) | stage_query(selection) | state_query(selection)
    conditions = {"$and": [query, extra or {}]}
    keys = (key for key, _ in groupby(_keys(connection, conditions)))
    limited = islice(keys, selection.limit)
    while page := list(islice(limited, size)):
        yield page


def _keys(connection: Connection, query: Document) -> Iterator[str]:
    last = -(2**62)
    while True:
        batch = connection.retry(partial(_batch, connection, query, last))
        if not batch:
            return
        yield from filter(None, (workflow_of(item.get("spec")) for item in batch))
        last = batch[-1]["fw_id"]


def _batch(connection: Connection, query: Document, last: int) -> list[Document]:
    after = {"$and": [query, {"fw_id": {"$gt": last}}]}
    fields = {"fw_id": 1, "spec.qfarm.workflow": 1}
    return list(connection["fireworks"].find(after, fields).sort("fw_id").limit(_SCAN))
