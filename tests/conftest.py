"""Fixtures that any test may use."""

from support.commands import commands
from support.mongo import database, mongo_uri
from support.sge import grid_engine
from support.slurm import slurm
from support.store import store

__all__ = ["commands", "database", "grid_engine", "mongo_uri", "slurm", "store"]
