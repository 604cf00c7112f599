"""Expressions of MongoDB's update pipelines that several modules need. Pure."""

from datetime import UTC, datetime

from qfarm.store.connection import Document


def literal(value: object) -> Document:
    """A value as it is: without this, a text that begins with a dollar would name a field."""
    return {"$literal": value}


def from_now(seconds: float) -> Document:
    """So many seconds from now, by the database's clock."""
    return {"$add": ["$$NOW", round(seconds * 1000)]}


def by_database(time: datetime) -> Document:
    """A time of this machine's clock by the database's, which goes a little before or after it."""
    return from_now((time - datetime.now(UTC)).total_seconds())


def or_else(field: str, otherwise: object) -> Document:
    """A field, or something else where it is missing or null."""
    return {"$ifNull": [f"${field}", otherwise]}
