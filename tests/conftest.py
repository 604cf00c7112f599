"""Fixtures that any test may use."""

from support.mongo import database, mongo_uri
from support.store import store

__all__ = ["database", "mongo_uri", "store"]
