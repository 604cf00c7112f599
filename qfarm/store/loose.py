"""Loose documents: what launchers and jobs leave for each other, read with care.

Others may write to the database. What is not as qfarm writes it reads as if it were missing: it
may cost a batch job, never a fragment.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from qfarm.store.codec import decode
from qfarm.store.connection import Document, Documents
from qfarm_schemas.attempt import Worker


def part(document: object, name: str) -> Mapping[str, Any]:
    """A document within one."""
    found = document.get(name) if isinstance(document, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def text(document: Mapping[str, Any], name: str) -> str:
    """A text; empty where there is none."""
    found = document.get(name)
    return found if isinstance(found, str) else ""


def time(document: Mapping[str, Any], name: str) -> datetime | None:
    """A time in UTC."""
    found = document.get(name)
    return found if isinstance(found, datetime) else None


def whole(document: Mapping[str, Any], name: str, otherwise: int = 0) -> int:
    """A whole number that is not negative."""
    found = document.get(name)
    return found if isinstance(found, int) and found >= 0 else otherwise


def number(document: Mapping[str, Any], name: str) -> float:
    """A number that is not negative."""
    found = document.get(name)
    return float(found) if isinstance(found, int | float) and found >= 0 else 0.0


def worker(document: object) -> Worker | None:
    """A process."""
    if not isinstance(document, Mapping):
        return None
    try:
        return decode(Worker, document)
    except ValueError:
        return None


def put(collection: Documents, identity: str, pipeline: list[Document]) -> Document:
    """Change the document of an id by a pipeline, or make it; as it is then."""
    for last in (False, True):
        try:
            found = collection.find_one_and_update(
                {"_id": identity}, pipeline, upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:  # somebody made it at the same moment
            if last:  # pragma: no cover - then it is there
                raise
        else:
            return found or {}
    raise AssertionError  # pragma: no cover
