"""Fixtures that any test may use."""

from support.mongo import database, mongo_uri
from support.slurm import slurm
from support.store import store

__all__ = ["database", "mongo_uri", "slurm", "store"]
