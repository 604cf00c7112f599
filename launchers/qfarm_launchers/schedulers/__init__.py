"""The scheduler table: a new scheduler is one line here and one module beside it."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from qfarm.errors import NotFoundError
from qfarm_launchers.schedulers.base import Dialect

TABLE: Mapping[str, str] = MappingProxyType(
    {
        name: f"qfarm_launchers.schedulers.{name}"
        for name in ("htcondor", "local", "lsf", "oar", "pbs", "sge", "slurm")
    }
)
"""Scheduler -> module that defines ``DIALECT``."""


@cache
def dialect(name: str) -> Dialect:
    """Look up a scheduler.

    Raises
    ------
    NotFoundError
        No scheduler of that name.
    """
    if name not in TABLE:
        raise NotFoundError(
            f"there is no scheduler {name!r}", f"Schedulers: {', '.join(sorted(TABLE))}."
        )
    found: Dialect = import_module(TABLE[name]).DIALECT
    return found
