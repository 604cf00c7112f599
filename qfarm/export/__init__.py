"""Export: one module a format, one table. A new format is one line here and one module."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from qfarm.errors import UserError
from qfarm.export.dataset import Options, Written
from qfarm.export.manifest import Expected
from qfarm_schemas.record import Record

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".h5": "qfarm.export.hdf5",
        ".hdf5": "qfarm.export.hdf5",
    }
)
"""Ending of the file name -> module that defines ``write``."""

Write = Callable[[Path, Iterable[Record], Iterable[Expected], Options], Written]


def writer(target: Path) -> Write:
    """The ``write`` function for a file of this name.

    Raises
    ------
    UserError
        No format has this ending.
    """
    module = FORMATS.get(target.suffix.lower())
    if module is None:
        raise UserError(
            f"no format of qfarm ends in {target.suffix or 'nothing'!r} ({target})",
            f"Name the file with one of: {', '.join(FORMATS)}.",
        )
    found: Write = import_module(module).write
    return found
