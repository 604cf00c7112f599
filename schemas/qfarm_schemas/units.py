"""The only conversion factors in qfarm: CODATA 2022, atomic units to eV, A and e.

Source: E. Tiesinga, P. J. Mohr, D. B. Newell, B. N. Taylor, "CODATA Recommended Values of the
Fundamental Physical Constants: 2022" (NIST, May 2024).

Inside qfarm energies are eV, lengths A, forces eV/A, charges e, dipoles e*A. An engine that works
in atomic units converts here, once, at its edge.
"""

from typing import Final

HARTREE: Final = 27.211386245981
"""Hartree energy in eV."""

BOHR: Final = 0.529177210544
"""Bohr radius in A."""

HARTREE_PER_BOHR: Final = HARTREE / BOHR
"""Atomic unit of force in eV/A."""

KCAL_PER_MOL: Final = 4184.0 / 6.02214076e23 / 1.602176634e-19
"""Thermochemical kcal/mol in eV (4184 J by definition; exact SI Avogadro number and charge)."""

KELVIN: Final = 1.380649e-23 / 1.602176634e-19
"""k_B times 1 K in eV (exact SI)."""

DFTBPLUS_HARTREE: Final = 27.2113845
DFTBPLUS_BOHR: Final = 0.529177249
"""eV and A as DFTB+ has them (constants.F90): what it prints in atomic units it has computed from
positions in A divided by this Bohr, so its output is converted back with its own numbers."""

AIMS_HARTREE: Final = 27.2113845
AIMS_BOHR: Final = 0.52917721
"""eV and A as FHI-aims has them (constants.f90, CODATA 2002): the factors between the atomic units
and the eV and A that its output prints side by side."""
