"""The SCC trace, read from the lines that tblite logs. Pure."""

import re
from collections.abc import Iterable
from typing import Final

from qfarm_schemas.result import ScfIteration
from qfarm_schemas.units import HARTREE

_NUMBER: Final = r"([-+]?\d+\.\d+(?:[ED][-+]?\d+)?)"

_CYCLE: Final = re.compile(rf"\s*\d+\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s*")
"""Cycle, total energy (Ha), energy error (Ha), density error (e)."""


def read(lines: Iterable[str]) -> tuple[ScfIteration, ...]:
    """Read the iterations of one or more SCC runs that followed each other.

    The energy change is the difference to the line before: tblite's own first "energy error" is
    taken against zero. `density_change` is tblite's "density error": root mean square of the
    mixer's residual over shell charges and atomic multipoles, e.

    Parameters
    ----------
    lines : iterable of str
        Log lines; all but the rows of the iteration table are passed over.

    Returns
    -------
    tuple of ScfIteration
        Energies in eV.
    """
    rows = [found.groups() for line in lines if (found := _CYCLE.fullmatch(line))]
    energies = [float(row[0]) * HARTREE for row in rows]
    before = [None, *energies][: len(energies)]
    return tuple(
        ScfIteration(
            energy=energy,
            energy_change=None if last is None else energy - last,
            density_change=float(row[2]),
        )
        for energy, last, row in zip(energies, before, rows, strict=True)
    )
