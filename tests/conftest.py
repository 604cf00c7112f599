"""Fixtures that any test may use."""

from support.mongo import database, mongo_uri
from support.sge import grid_engine
from support.slurm import slurm
from support.store import store

__all__ = ["database", "grid_engine", "mongo_uri", "slurm", "store"]
