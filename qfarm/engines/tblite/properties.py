"""What a record holds besides energy and forces, from the converged SCC."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.tblite.scc import State
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.units import BOHR, HARTREE

Array = NDArray[np.float64]

FRACTIONAL: Final = 0.01
"""Electrons: a larger departure from whole occupation numbers is noted."""

DEGENERATE: Final = 1e-6
"""eV: frontier orbitals closer than this are one level, split by rounding only."""


@dataclass(frozen=True)
class Orbitals:
    """Frontier orbitals by counting up from the lowest (aufbau).

    xTB without spin polarisation has one set of orbitals for both spins. `homo` is the highest
    that holds an electron, `lumo` the lowest that holds none; for an open shell they are the
    singly occupied orbital and the one above it. None where there is no such orbital, as in F-,
    whose minimal basis is full. Where both belong to one degenerate level, as in singlet O2, they
    are equal, and the verdict refuses the state.

    Attributes
    ----------
    homo, lumo : float or None
        eV.
    fractional : float
        Largest departure of an occupation number from the aufbau one at the level's electronic
        temperature, electrons.
    """

    homo: float | None
    lumo: float | None
    fractional: float


def orbitals(state: State, fragment: Fragment) -> Orbitals:
    """Frontier orbitals of a state."""
    energies = np.asarray(state.raw["orbital-energies"]) * HARTREE
    occupations = np.asarray(state.raw["orbital-occupations"])
    electrons = round(float(occupations.sum()))
    alpha = (electrons + fragment.multiplicity - 1) // 2
    index = np.arange(len(energies))
    whole = (index < alpha).astype(float) + (index < electrons - alpha)
    homo = float(energies[alpha - 1]) if alpha else None
    lumo = float(energies[alpha]) if alpha < len(energies) else None
    one_level = homo is not None and lumo is not None and lumo - homo < DEGENERATE
    return Orbitals(
        homo=homo,
        lumo=homo if one_level else lumo,
        fractional=float(np.abs(occupations - whole).max()),
    )


def dipole(state: State, fragment: Fragment, positions: Array) -> Array:
    """Dipole moment about the centre of nuclear charge, (3,), e*A.

    tblite gives e*bohr about the origin of the coordinates (checked against finite fields and a
    shifted ion in the tests). For a charged fragment the moment depends on the centre.

    Parameters
    ----------
    state : State
        Converged SCC.
    fragment : Fragment
        Numbers and charge.
    positions : (n_atoms, 3) float
        Geometry of `state`, A.
    """
    centre: Any = fragment.numbers @ positions / fragment.numbers.sum()
    moment: Array = np.asarray(state.raw["dipole"]) * BOHR - fragment.charge * centre
    return moment


def charges(state: State) -> Array:
    """Mulliken charges, (n_atoms,), e."""
    return np.array(state.raw["charges"])


def notes(found: Orbitals, fragment: Fragment, kelvin: float) -> tuple[str, ...]:
    """What a reader of the record must know."""
    said = []
    if found.fractional > FRACTIONAL:
        said.append(
            f"fractional occupation at {kelvin:g} K: up to {found.fractional:.3f} electrons off; "
            "the energy is the electronic free energy"
        )
    if fragment.multiplicity > 1:
        said.append("xTB without spin polarisation: unpaired electrons share restricted orbitals")
    return tuple(said)
