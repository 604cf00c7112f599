"""The DFTB+ double's calculation: a relaxation of the pair potential, populations and energies."""

from dataclasses import replace
from typing import Final

import numpy as np
from ase.data import chemical_symbols
from scipy.optimize import minimize

from doubles import physics
from doubles.answer import Answer
from doubles.dftbplus_input import Input
from doubles.physics import FloatArray, Molecule
from qfarm.engines.mbd import MbdCollapse
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE

FORCE: Final = DFTBPLUS_HARTREE / DFTBPLUS_BOHR
"""Ha/bohr in eV/A, as DFTB+ has it."""

VALENCE: Final = {
    "H": 1, "C": 4, "N": 5, "O": 6, "F": 7, "Na": 1, "Mg": 2, "P": 5, "S": 6, "Cl": 7,
    "K": 1, "Ca": 2, "Zn": 12, "Br": 7, "I": 7,
}  # fmt: skip
"""Valence electrons of the elements of 3ob; not taken from the engine, which is tested with it."""

STIFFNESS: Final = 0.95
"""Factor on the pair potential, by which this level differs from others."""


def computed(given: Input, molecule: Molecule) -> Answer:
    """Everything at one geometry."""
    energy, forces = potential(molecule)
    volumes = ratios(molecule)
    return Answer(
        molecule=molecule,
        energy=energy,
        forces=forces,
        ratios=volumes,
        dispersion=_dispersion(given, molecule, volumes),
        method="DFTB3",
        homo=-7.0,
        lumo=2.0,
        force_rows=len(forces),
    )


def ratios(molecule: Molecule) -> FloatArray:
    """What DFTB+ has for volume ratios: 1 + (net population - valence electrons)/Z."""
    return 1 - 0.8 * (1 - physics.ratios(molecule)) / molecule.numbers


def populations(answer: Answer) -> FloatArray:
    """Net (on-site) populations behind the ratios, e."""
    return valence(answer.molecule) + (answer.ratios - 1) * answer.molecule.numbers


def valence(molecule: Molecule) -> FloatArray:
    """Valence electrons of the neutral atoms, (n,)."""
    return np.array([float(VALENCE[chemical_symbols[z]]) for z in molecule.numbers])


def electrons(molecule: Molecule) -> float:
    """Valence electrons of the molecule."""
    return float(valence(molecule).sum()) - molecule.charge


def total(answer: Answer) -> float:
    """Energy with dispersion, Ha."""
    return answer.energy / DFTBPLUS_HARTREE + (answer.dispersion or 0.0)


def electronic(answer: Answer) -> float:
    """Electronic energy, Ha; what is left is called repulsive."""
    return -0.5 * electrons(answer.molecule)


def potential(molecule: Molecule) -> tuple[float, FloatArray]:
    """Energy, eV, of valence electrons and pairs; forces, eV/A."""
    pairs, forces = physics.energy_and_forces(molecule, STIFFNESS)
    return pairs - 0.5 * electrons(molecule) * DFTBPLUS_HARTREE, forces


def _dispersion(given: Input, molecule: Molecule, volumes: FloatArray) -> float | None:
    if given.beta is None:
        return None
    try:
        return physics.dispersion(molecule, volumes, given.beta, DFTBPLUS_BOHR)
    except MbdCollapse:
        return float("nan")


def gradient_limit(given: Input) -> float:
    """Largest component of the gradient, eV/A, at which a geometry is relaxed."""
    return float(given.driver["Convergence"]["GradElem"]) * FORCE if given.driver else np.inf


def largest(answer: Answer) -> float:
    """Largest component of the gradient, eV/A."""
    return float(np.abs(answer.forces).max())


def relaxed(given: Input, molecule: Molecule) -> list[FloatArray]:
    """Positions of every step, the start among them."""
    visited = [molecule.positions]
    if given.driver is None:
        return visited

    def surface(flat: FloatArray) -> tuple[float, FloatArray]:
        moved = replace(molecule, positions=flat.reshape(-1, 3))
        energy, forces = potential(moved)
        return energy, -forces.ravel()

    minimize(
        surface,
        molecule.positions.ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=lambda flat: visited.append(np.array(flat).reshape(-1, 3)),
        options={
            "gtol": 0.95 * gradient_limit(given),
            "ftol": 0.0,
            "maxiter": int(given.driver["MaxSteps"]),
            "maxfun": 10**6,
        },
    )
    return visited
