"""The one table from basis tiers to Gaussian basis sets and their density-fitting sets.

def2 sets: F. Weigend, R. Ahlrichs, Phys. Chem. Chem. Phys. 7, 3297 (2005); def2-universal-jkfit,
which PySCF names after each set: F. Weigend, J. Comput. Chem. 29, 167 (2008). Why these sets
stand for the tiers of FHI-aims: docs/adr/0002-pyscf-basis-and-thresholds.md.

The id of a level of theory hashes the tier, not the sets behind it. So the table only grows: a tier
that has a row keeps it for ever, and other sets need another tier or an option of the level.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from qfarm_schemas.level import BasisTier

HEAVIEST: Final = 36
"""Krypton: up to here def2 sets are all-electron."""


@dataclass(frozen=True)
class Basis:
    """Orbital basis and the matching auxiliary set for Coulomb and exchange, in PySCF's names."""

    name: str
    label: str
    auxiliary: str


TABLE: Final[Mapping[BasisTier, Basis]] = MappingProxyType(
    {
        BasisTier.TIGHT: Basis("def2-tzvp", "def2-TZVP", "def2-tzvp-jkfit"),
        BasisTier.INTERMEDIATE: Basis("def2-svp", "def2-SVP", "def2-svp-jkfit"),
    }
)
