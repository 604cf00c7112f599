"""``detailed.out``: what DFTB+ says of the last geometry, for people. Pure; never raises.

It alone holds the dispersion energy, the on-site populations behind the polarisabilities of MBD,
and whether the SCC converged. All numbers are in atomic units.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NAME: Final = "detailed.out"

TOTAL: Final = "Total Mermin free energy"
ELECTRONIC: Final = "Total Electronic energy"
REPULSIVE: Final = "Repulsive energy"
DISPERSION: Final = "Dispersion energy"

_ENERGY: Final = re.compile(r"^([A-Z][^:\n]*): +(-?\d+\.\d{10}) H +-?\d+\.\d{4} eV$", re.MULTILINE)
_FORCES: Final = re.compile(r"^Total Forces\n((?: +\d+(?: +-?\d+\.\d{12}){3}\n)+)", re.MULTILINE)
_POPULATIONS: Final = re.compile(
    r"^ Atomic net \(on-site\) populations.*\n.*\n((?: +\d+(?: +-?\d+\.\d{8}){2}\n)+)", re.MULTILINE
)
_LAST_NUMBERS: Final = re.compile(
    r"^Dipole moment:(?: *(?:-?\d+\.\d{8}|\*{14})){3} Debye$", re.MULTILINE
)
"""Columns of 14 characters touch from -1000 debye on, which an ion 100 A from the origin has."""

_SCC: Final = re.compile(r"^SCC converged$", re.MULTILINE)
_GEOMETRY: Final = re.compile(r"^Geometry converged$", re.MULTILINE)


@dataclass(frozen=True)
class Detailed:
    """What was read.

    Attributes
    ----------
    energies : dict
        Energy by its label, Ha, to 1e-10.
    forces : (n_rows, 3) float
        Ha/bohr, to 1e-12.
    populations : (n_rows,) float
        Net (on-site) populations of the atoms, e, to 1e-8.
    hybridisation : (n_rows,) float
        Share of each atom's valence electrons that is not on-site, to 1e-8.
    scc_converged, scc_failed, geometry_converged, geometry_failed : bool
        Whether the line is there.
    ended : bool
        Whether the last numbers, the dipole in debye, are there.
    """

    energies: dict[str, float]
    forces: NDArray[np.float64]
    populations: NDArray[np.float64]
    hybridisation: NDArray[np.float64]
    scc_converged: bool
    scc_failed: bool
    geometry_converged: bool
    geometry_failed: bool
    ended: bool


def read(text: str) -> Detailed:
    """Read the file."""
    atoms = _rows(_POPULATIONS, text, 3)
    return Detailed(
        energies={label: float(energy) for label, energy in _ENERGY.findall(text)},
        forces=_rows(_FORCES, text, 4)[:, 1:],
        populations=atoms[:, 1],
        hybridisation=atoms[:, 2],
        scc_converged=bool(_SCC.search(text)),
        scc_failed="SCC is NOT converged" in text,
        geometry_converged=bool(_GEOMETRY.search(text)),
        geometry_failed="Geometry did NOT converge" in text,
        ended=bool(_LAST_NUMBERS.search(text)),
    )


def _rows(pattern: re.Pattern[str], text: str, columns: int) -> NDArray[np.float64]:
    found = pattern.search(text)
    words = found[1].split() if found else []
    return np.array([float(word) for word in words]).reshape(-1, columns)
