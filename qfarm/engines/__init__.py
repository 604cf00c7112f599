"""The engine table: a new engine is one line here and one module or package beside it."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from qfarm.engines.base import Engine
from qfarm.errors import NotFoundError
from qfarm_schemas.level import LevelOfTheory

TABLE: Mapping[str, str] = MappingProxyType(
    {
        "pyscf": "qfarm.engines.pyscf",
        "tblite": "qfarm.engines.tblite",
    }
)
"""Engine name -> module that defines ``ENGINE``."""


def basis_set(level: LevelOfTheory) -> str | None:
    """Name of the basis set that a level's engine puts behind its tier; None where there is none.

    A level of an engine that this qfarm does not have, as in an older data set, has none.
    """
    return engine(level.engine).basis_set(level) if level.engine in TABLE else None


@cache
def engine(name: str) -> Engine:
    """Look up an engine.

    Raises
    ------
    NotFoundError
        No engine of that name.
    """
    if name not in TABLE:
        raise NotFoundError(f"there is no engine {name!r}", f"Engines: {', '.join(sorted(TABLE))}.")
    found: Engine = import_module(TABLE[name]).ENGINE
    return found
