"""Ready: which stages a worker may take, as a query, and what is seen of one beforehand. Pure."""

from typing import Final

from pymongo import ASCENDING, DESCENDING

from qfarm.store.connection import Document
from qfarm.store.wish import Ahead, Wish

ORDER: Final = [("spec._priority", DESCENDING), ("fw_id", ASCENDING)]
"""Order of the queue: by priority, then age."""

FAILED_ON: Final = "failed_on"
"""Field of a firework whose last failure its node may be to blame for: the host."""

OUTGROWN: Final = "outgrown"
"""Field of a firework that met limits of partitions where others have more: their names."""

PASSING: Final = (FAILED_ON, OUTGROWN)
"""Fields that tell who may take a firework while it waits for its next attempt."""

SEEN: Final[Document] = {
    "spec._priority": 1,
    "spec._category": 1,
    "spec.qfarm.stage": 1,
    "spec.qfarm.level_id": 1,
    "spec.qfarm.formula": 1,
    "spec.qfarm.n_atoms": 1,
    "spec.qfarm.attempts": 1,
}
"""Projection of what `ahead` reads."""


def ready(partition: str, wish: Wish) -> Document:
    """Query of the ready stages that a worker of a partition may take; `fits` is not asked."""
    own = [None, *(wish.partitions or (partition,))]
    query: Document = {"state": "READY", "spec._category": {"$in": own}}
    if wish.stages:
        query["spec.qfarm.stage"] = {"$in": list(wish.stages)}
    if wish.levels is not None:
        query["spec.qfarm.level_id"] = {"$in": sorted(wish.levels)}
    if wish.elsewhere:
        query[FAILED_ON] = {"$ne": wish.elsewhere}
    if wish.outgrown:
        query[OUTGROWN] = {"$ne": wish.outgrown}
    return query


def ahead(document: Document) -> Ahead | None:
    """What is seen of a firework; None where it is not qfarm's own."""
    match document.get("spec"):
        case {
            "qfarm": {
                "stage": str(stage),
                "level_id": str(level_id),
                "formula": str(formula),
                "n_atoms": int(n_atoms),
                "attempts": int(attempts),
            },
            **others,
        }:
            category = others.get("_category")
            if category is None or isinstance(category, str):
                return Ahead(stage, level_id, formula, n_atoms, category, attempts)
    return None


def fitting(found: list[Document], wish: Wish) -> list[Document]:
    """Those that the worker can do, and those that are not qfarm's own, which it takes out."""
    if wish.fits is None:
        return found
    seen = [(document, ahead(document)) for document in found]
    return [document for document, one in seen if one is None or wish.fits(one)]
