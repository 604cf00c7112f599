"""Changes that cures make: plain values, and what they do to documents in memory."""

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime

from qfarm.store.connection import Document
from qfarm.store.fsck.model import Raw


@dataclass(frozen=True)
class Update:
    """Set and remove fields of a document (a dot leads into one)."""

    collection: str
    identity: object
    fields: Document = field(default_factory=dict)
    unset: tuple[str, ...] = ()


@dataclass(frozen=True)
class Insert:
    """Write a document that is not there; it has its ``_id``."""

    collection: str
    document: Document


@dataclass(frozen=True)
class Aside:
    """Move a document into the collection `LOST_FOUND`, whole."""

    collection: str
    identity: object
    reason: str


Change = Update | Insert | Aside


def lost(change: Aside, document: Document, when: datetime) -> Document:
    """What the collection `LOST_FOUND` keeps of a document."""
    return {
        "_id": f"{change.collection}:{change.identity}:{when.isoformat()}",
        "collection": change.collection,
        "reason": change.reason,
        "at": when,
        "document": document,
    }


def apply(changes: list[Change], raw: Raw) -> Raw:
    """The documents after some changes."""
    after = deepcopy(raw)
    for change in changes:
        match change:
            case Update():
                for document in after[change.collection]:
                    if document["_id"] == change.identity:
                        _update(document, change)
            case Insert():
                after[change.collection].append(deepcopy(change.document))
            case Aside():
                _aside(after, change)
    return after


def _aside(raw: Raw, change: Aside) -> None:
    there = raw[change.collection]
    raw[change.collection] = [item for item in there if item["_id"] != change.identity]


def _update(document: Document, change: Update) -> None:
    for name, value in change.fields.items():
        *path, last = name.split(".")
        inner = document
        for step in path:
            inner = inner.setdefault(step, {})
        inner[last] = deepcopy(value)
    for name in change.unset:
        document.pop(name, None)
