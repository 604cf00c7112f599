"""The 3ob-3-1 parameter set: what DFTB3 needs of each element besides its Slater-Koster files.

Source of maximal angular momenta and Hubbard derivatives: the README of 3ob-3-1, which is the same
in the distribution of dftb.org (2017) and in the repository dftbparams/3ob. The publications that
its licence (CC BY-SA 4.0) demands to be cited:

- C, H, N, O: M. Gaus, A. Goez, M. Elstner, J. Chem. Theory Comput. 9, 338 (2013).
- P, S: M. Gaus, X. Lu, M. Elstner, Q. Cui, J. Chem. Theory Comput. 10, 1518 (2014).
- Mg, Zn: X. Lu, M. Gaus, M. Elstner, Q. Cui, J. Phys. Chem. B 119, 1062 (2015).
- Na, F, K, Ca, Cl, Br, I: M. Kubillus, T. Kubar, M. Gaus, J. Rezac, M. Elstner,
  J. Chem. Theory Comput. 11, 332 (2015).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from qfarm_schemas.elements import NUMBERS, SYMBOLS

PARAMETER_SET: Final = "3ob-3-1"

DAMPING_EXPONENT: Final = 4.0
"""zeta of the damped X-H interaction (gamma^h; README of 3ob-3-1, Gaus 2013)."""


@dataclass(frozen=True)
class Element:
    """One element of the set.

    Attributes
    ----------
    shell : str
        Highest angular momentum of its basis.
    hubbard_derivative : float
        dU/dq, Ha/e^2 (atomic units).
    valence : int
        Electrons of the neutral atom that DFTB treats.
    """

    shell: Literal["s", "p", "d"]
    hubbard_derivative: float
    valence: int

    @property
    def orbitals(self) -> int:
        """Basis functions: 1 with s, 4 up to p, 9 up to d."""
        return {"s": 1, "p": 4, "d": 9}[self.shell]


ELEMENTS: Final[dict[str, Element]] = {
    "H": Element("s", -0.1857, 1),
    "C": Element("p", -0.1492, 4),
    "N": Element("p", -0.1535, 5),
    "O": Element("p", -0.1575, 6),
    "F": Element("p", -0.1623, 7),
    "Na": Element("p", -0.0454, 1),
    "Mg": Element("p", -0.02, 2),
    "P": Element("d", -0.14, 5),
    "S": Element("d", -0.11, 6),
    "Cl": Element("d", -0.0697, 7),
    "K": Element("p", -0.0339, 1),
    "Ca": Element("p", -0.0340, 2),
    "Zn": Element("d", -0.03, 12),
    "Br": Element("d", -0.0573, 7),
    "I": Element("d", -0.0433, 7),
}
"""By symbol, in the order of the atomic number."""


def symbols(numbers: NDArray[np.int64]) -> tuple[str, ...]:
    """Elements of a fragment, each once, in the order of the atomic number."""
    return tuple(SYMBOLS[z] for z in sorted(set(numbers.tolist())))


def slater_koster_files(elements: Iterable[str]) -> tuple[str, ...]:
    """Names of the Slater-Koster files of all ordered pairs of `elements`."""
    listed = tuple(elements)
    return tuple(sorted(f"{first}-{second}.skf" for first in listed for second in listed))


def valence(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Valence electrons of the neutral atoms, shape (n_atoms,); for elements of the set."""
    return _VALENCE[numbers]


def orbitals(numbers: NDArray[np.int64]) -> int:
    """Number of basis functions of a fragment; for elements of the set."""
    return int(_ORBITALS[numbers].sum())


def _table(values: dict[str, float]) -> NDArray[np.float64]:
    table = np.zeros(len(SYMBOLS))
    for symbol, value in values.items():
        table[NUMBERS[symbol]] = value
    return table


_VALENCE: Final = _table({symbol: e.valence for symbol, e in ELEMENTS.items()})
_ORBITALS: Final = _table({symbol: e.orbitals for symbol, e in ELEMENTS.items()})
