"""The engine table: a new engine is one line here and one module or package beside it."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from qfarm.engines.base import Engine
from qfarm.errors import NotFoundError
from qfarm_schemas.level import BasisTier, Dispersion, LevelOfTheory

TABLE: Mapping[str, str] = MappingProxyType(
    {
        "aims": "qfarm.engines.aims",
        "dftbplus": "qfarm.engines.dftbplus",
        "gpu4pyscf": "qfarm.engines.gpu4pyscf",
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


def method(level: LevelOfTheory) -> str:
    """Method and dispersion as a chemist writes them, for instance ``PBE0+MBD``."""
    inside = level.dispersion in (Dispersion.NONE, Dispersion.INTRINSIC)
    return level.method if inside else f"{level.method}+{level.dispersion.value.upper()}"


def label(level: LevelOfTheory) -> str:
    """Name of a level with the basis set behind its tier, for instance ``PBE0+MBD/def2-SVP``."""
    if level.basis is BasisTier.NONE:
        return method(level)
    return f"{method(level)}/{basis_set(level) or level.basis.value}"


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
