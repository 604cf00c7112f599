"""Free-atom reference data of the Tkatchenko-Scheffler method, Z = 1 to 86.

The numbers are the published reference values as FHI-aims and libMBD use them:

- most elements: A. Tkatchenko, M. Scheffler, Phys. Rev. Lett. 102, 073005 (2009),
  with polarizabilities and C6 from X. Chu, A. Dalgarno, J. Chem. Phys. 121, 4083 (2004).
- the others (further transition metals, lanthanides, heavy elements): V. V. Gobre, PhD thesis,
  Technische Universitaet Berlin (2016), Table A.1, which names its own sources.

The compiled table is in the public domain (CC0-1.0, libMBD's `vdw-params.csv`); the tests compare
every row with it. Everything is in atomic units.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FreeAtoms:
    """Reference data for a list of atoms, atomic units.

    Attributes
    ----------
    polarizability : (n,) array
        Static dipole polarizability, bohr^3.
    c6 : (n,) array
        Homo-atomic dispersion coefficient, Ha bohr^6.
    radius : (n,) array
        Van der Waals radius, bohr.
    """

    polarizability: FloatArray
    c6: FloatArray
    radius: FloatArray


_TABLE: Final[FloatArray] = np.array(
    [  # polarizability, C6, radius
        (4.5, 6.5, 3.1),  # H
        (1.38, 1.46, 2.65),  # He
        (164.2, 1387.0, 4.16),  # Li
        (38.0, 214.0, 4.17),  # Be
        (21.0, 99.5, 3.89),  # B
        (12.0, 46.6, 3.59),  # C
        (7.4, 24.2, 3.34),  # N
        (5.4, 15.6, 3.19),  # O
        (3.8, 9.52, 3.04),  # F
        (2.67, 6.38, 2.91),  # Ne
        (162.7, 1556.0, 3.73),  # Na
        (71.0, 627.0, 4.27),  # Mg
        (60.0, 528.0, 4.33),  # Al
        (37.0, 305.0, 4.2),  # Si
        (25.0, 185.0, 4.01),  # P
        (19.6, 134.0, 3.86),  # S
        (15.0, 94.6, 3.71),  # Cl
        (11.1, 64.3, 3.55),  # Ar
        (292.9, 3897.0, 3.71),  # K
        (160.0, 2221.0, 4.65),  # Ca
        (120.0, 1383.0, 4.59),  # Sc
        (98.0, 1044.0, 4.51),  # Ti
        (84.0, 832.0, 4.44),  # V
        (78.0, 602.0, 3.99),  # Cr
        (63.0, 552.0, 3.97),  # Mn
        (56.0, 482.0, 4.23),  # Fe
        (50.0, 408.0, 4.18),  # Co
        (48.0, 373.0, 3.82),  # Ni
        (42.0, 253.0, 3.76),  # Cu
        (40.0, 284.0, 4.02),  # Zn
        (60.0, 498.0, 4.19),  # Ga
        (41.0, 354.0, 4.2),  # Ge
        (29.0, 246.0, 4.11),  # As
        (25.0, 210.0, 4.04),  # Se
        (20.0, 162.0, 3.93),  # Br
        (16.8, 129.6, 3.82),  # Kr
        (319.2, 4691.0, 3.72),  # Rb
        (199.0, 3170.0, 4.54),  # Sr
        (126.737, 1968.58, 4.8151),  # Y
        (119.97, 1677.91, 4.53),  # Zr
        (101.603, 1263.61, 4.2365),  # Nb
        (88.4225785, 1028.73, 4.099),  # Mo
        (80.083, 1390.87, 4.076),  # Tc
        (65.895, 609.754, 3.9953),  # Ru
        (56.1, 469.0, 3.95),  # Rh
        (23.68, 157.5, 3.66),  # Pd
        (50.6, 339.0, 3.82),  # Ag
        (39.7, 452.0, 3.99),  # Cd
        (70.22, 707.046, 4.23198),  # In
        (55.95, 587.417, 4.303),  # Sn
        (43.67197, 459.322, 4.276),  # Sb
        (37.65, 396.0, 4.22),  # Te
        (35.0, 385.0, 4.17),  # I
        (27.3, 285.9, 4.08),  # Xe
        (427.12, 6582.08, 3.78),  # Cs
        (275.0, 5727.0, 4.77),  # Ba
        (213.7, 3884.5, 3.14),  # La
        (204.7, 3708.33, 3.26),  # Ce
        (215.8, 3911.84, 3.28),  # Pr
        (208.4, 3908.75, 3.3),  # Nd
        (200.2, 3847.68, 3.27),  # Pm
        (192.1, 3708.69, 3.32),  # Sm
        (184.2, 3511.71, 3.4),  # Eu
        (158.3, 2781.53, 3.62),  # Gd
        (169.5, 3124.41, 3.42),  # Tb
        (164.64, 2984.29, 3.26),  # Dy
        (156.3, 2839.95, 3.24),  # Ho
        (150.2, 2724.12, 3.3),  # Er
        (144.3, 2576.78, 3.26),  # Tm
        (138.9, 2387.53, 3.22),  # Yb
        (137.2, 2371.8, 3.2),  # Lu
        (99.52, 1274.8, 4.21),  # Hf
        (82.53, 1019.92, 4.15),  # Ta
        (71.041, 847.93, 4.08),  # W
        (63.04, 710.2, 4.02),  # Re
        (55.055, 596.67, 3.84),  # Os
        (42.51, 359.1, 4.0),  # Ir
        (39.68, 347.1, 3.92),  # Pt
        (36.5, 298.0, 3.86),  # Au
        (33.9, 392.0, 3.98),  # Hg
        (69.92, 717.44, 3.91),  # Tl
        (61.8, 697.0, 4.31),  # Pb
        (49.02, 571.0, 4.32),  # Bi
        (45.013, 530.92, 4.097),  # Po
        (38.93, 457.53, 4.07),  # At
        (33.54, 390.63, 4.23),  # Rn
    ]
)

HEAVIEST: Final = len(_TABLE)
"""Largest atomic number with reference data."""


def free_atoms(numbers: NDArray[np.integer]) -> FreeAtoms:
    """Look up the reference data of `numbers`, shape (n,), values 1 to 86.

    Raises
    ------
    ValueError
        If an element has no reference data.
    """
    numbers = np.asarray(numbers)
    missing = sorted(set(numbers[(numbers < 1) | (numbers > HEAVIEST)].tolist()))
    if missing:
        raise ValueError(f"no Tkatchenko-Scheffler reference data for atomic numbers {missing}")
    polarizability, c6, radius = _TABLE[numbers - 1].T
    return FreeAtoms(polarizability, c6, radius)
