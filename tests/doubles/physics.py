"""The doubles' made-up physics: a smooth pair potential with its exact gradient, and properties.

Nothing here is chemistry. The energy is smooth, its forces are its exact derivative, bonds stay
near their lengths, and all is deterministic; that is what tests of a task farm need.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.formula import Formula
from numpy.typing import NDArray

from qfarm.engines.mbd import mbd_energy
from qfarm_schemas.units import BOHR, HARTREE

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DEPTH: Final = 4.0
"""eV: of a bond."""

WIDTH: Final = 2.0
"""1/A: of a bond (Morse)."""

REPULSION: Final = (8.0, 0.5)
"""eV: between atoms on top of each other that can bind nothing, and besides the bond's own."""

RANGE: Final = 1.0
"""Range of the repulsion, sums of covalent radii."""

METALS: Final = (3, 11, 12, 19, 20, 30)
"""They bind no hydrogen here."""

BONDED: Final = (1.15, 1.40)
"""Distances, in sums of covalent radii, between which a bond is switched off."""

REACH: Final = 5.0
"""Sums of covalent radii beyond which nothing is left (1e-10 eV)."""

MBD_NL_SHARE: Final = 0.8
"""What the double calls MBD-NL is this share of MBD@rsSCS."""


@dataclass(frozen=True)
class Molecule:
    """Atomic numbers (n,), positions (n, 3) in A, charge and unpaired electrons."""

    numbers: IntArray
    positions: FloatArray
    charge: int = 0
    unpaired: int = 0

    @property
    def electrons(self) -> int:
        """All electrons."""
        return int(self.numbers.sum()) - self.charge


def energy_and_forces(molecule: Molecule, stiffness: float = 1.0) -> tuple[float, FloatArray]:
    """Energy of the pairs, eV, and forces, (n, 3) eV/A.

    Parameters
    ----------
    molecule : Molecule
        What to compute.
    stiffness : float
        Factor on everything, by which levels of theory differ.
    """
    numbers, positions = molecule.numbers, molecule.positions
    radii = covalent_radii[numbers]
    first, second = _near(positions, radii)
    vectors = positions[first] - positions[second]
    distances = np.linalg.norm(vectors, axis=1)
    bound = _bonds(numbers[first], numbers[second])
    energies, slopes = _pair(distances, radii[first] + radii[second], bound)
    pulls = -(slopes / distances)[:, None] * vectors
    forces = _summed(first, pulls, len(numbers)) - _summed(second, pulls, len(numbers))
    return stiffness * float(energies.sum()), stiffness * forces


def _near(positions: FloatArray, radii: FloatArray) -> tuple[IntArray, IntArray]:
    """Indices of the pairs within `REACH`."""
    reach = REACH * (radii[:, None] + radii)
    squares = np.einsum("ij,ij->i", positions, positions)
    squared = squares[:, None] + squares - 2 * positions @ positions.T
    first, second = np.nonzero(np.triu(squared < reach**2, k=1))
    return first, second


def _summed(index: IntArray, vectors: FloatArray, count: int) -> FloatArray:
    columns = (np.bincount(index, column, minlength=count) for column in vectors.T)
    return np.stack(list(columns), axis=1)


def _bonds(first: IntArray, second: IntArray) -> FloatArray:
    """1 for pairs of atoms that can bind each other, 0 for hydrogen with hydrogen or a metal."""
    hydrogen = (first == 1) | (second == 1)
    no_partner = (first == second) | np.isin(first, METALS) | np.isin(second, METALS)
    return np.where(hydrogen & no_partner, 0.0, 1.0)


def _pair(
    distance: FloatArray, length: FloatArray, bound: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Energy of pairs and its derivative by the distance."""
    decay = np.exp(-WIDTH * (distance - length))
    depth = DEPTH * bound
    morse, d_morse = depth * ((1 - decay) ** 2 - 1), 2 * depth * WIDTH * decay * (1 - decay)
    switch, d_switch = _switch(distance / length)
    height = REPULSION[0] + (REPULSION[1] - REPULSION[0]) * bound
    gauss = height * np.exp(-((distance / (RANGE * length)) ** 2))
    d_gauss = -2 * distance / (RANGE * length) ** 2 * gauss
    return morse * switch + gauss, d_morse * switch + morse * d_switch / length + d_gauss


def _switch(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """1 below `BONDED`, 0 above, twice differentiable; and its derivative."""
    low, high = BONDED
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    value = 1 - t**3 * (10 - 15 * t + 6 * t**2)
    return value, -30 * t**2 * (1 - t) ** 2 / (high - low)


def atomic_energy(molecule: Molecule) -> float:
    """Sum of energies of an all-electron size, eV, with something for the charge."""
    z = molecule.numbers.astype(float)
    return float(-13.6 * (z**2.4).sum()) + 7.0 * molecule.charge + 1.5 * molecule.unpaired


def ratios(molecule: Molecule) -> FloatArray:
    """Hirshfeld volume ratios between 0.6 and 0.97, smooth in the positions, (n,)."""
    crowd = _coordination(molecule)
    return 0.97 - 0.37 * crowd / (crowd + 2.0)


def charges(molecule: Molecule) -> FloatArray:
    """Atomic charges that add up to the molecule's, (n,)."""
    wanted = 0.02 * (molecule.numbers % 7 - 3.0) * (1 + 0.1 * _coordination(molecule))
    spare: float = (molecule.charge - wanted.sum()) / len(wanted)
    charged: FloatArray = wanted + spare
    return charged


def dipole(molecule: Molecule) -> FloatArray:
    """Moment of `charges` about the origin, e*A, (3,)."""
    moment: FloatArray = charges(molecule) @ molecule.positions
    return moment


def _coordination(molecule: Molecule) -> FloatArray:
    radii = covalent_radii[molecule.numbers]
    distances = np.linalg.norm(molecule.positions[:, None] - molecule.positions, axis=2)
    counted = np.exp(-((distances / (1.3 * (radii[:, None] + radii))) ** 4))
    np.fill_diagonal(counted, 0.0)
    summed: FloatArray = counted.sum(axis=1)
    return summed


def dispersion(molecule: Molecule, volumes: FloatArray, beta: float, bohr: float) -> float:
    """MBD@rsSCS energy of a program whose Bohr radius is `bohr` A, Ha."""
    positions = molecule.positions / bohr * BOHR
    return mbd_energy(molecule.numbers, positions, volumes, beta) / HARTREE


def formula(molecule: Molecule) -> str:
    """Hill formula, for instance ``C2H6O4P``."""
    return str(Formula.from_list([chemical_symbols[z] for z in molecule.numbers]).format("hill"))
