"""Result: what an engine computed, in qfarm's units, with the evidence to judge it by."""

from pydantic import Field

from qfarm_schemas.arrays import Numbers, Scalars, Vector, Vectors
from qfarm_schemas.base import Model
from qfarm_schemas.check import Check
from qfarm_schemas.matrices import Matrices


class Convergence(Model):
    """The four quantities that a level's `Thresholds` bound, as the engine reached them.

    All are absolute values; None means that the engine could not give the number, which the
    verdict treats as a missed threshold.
    """

    energy: float | None = Field(default=None, description="change of the total energy, eV")
    eigenvalues: float | None = Field(default=None, description="change of the eigenvalue sum, eV")
    density: float | None = Field(default=None, description="change of the electron density")
    forces: float | None = Field(default=None, description="change of the forces, eV/A")


class ScfIteration(Model):
    """One line of an SCF trace; quantities that the engine does not print are None."""

    energy: float = Field(description="total energy, eV")
    energy_change: float | None = Field(default=None, description="eV")
    eigenvalue_change: float | None = Field(default=None, description="eV")
    density_change: float | None = None
    orbital_gradient: float | None = Field(default=None, description="norm, eV")


class OptimisationStep(Model):
    """Energy and largest force of one geometry step."""

    energy: float = Field(description="eV")
    max_force: float = Field(description="largest norm of the force on one atom, eV/A")


class Result(Model):
    """A finished calculation, before the verdict.

    Attributes
    ----------
    numbers : (n_atoms,) int
        Atomic numbers, in the order of the input.
    positions : (n_atoms, 3) float
        Geometry that energy and forces belong to, A.
    energy : float
        Total energy with dispersion, eV.
    energy_parts : dict
        Named parts that sum to `energy`, for instance ``{"PBE0": ..., "MBD": ...}``, eV.
    forces : (n_atoms, 3) float
        Forces (minus the gradient), eV/A, as computed: not cleaned of net force.
    dipole : (3,) float
        Dipole moment about the centre of nuclear charge, e*A.
    charges : dict
        Atomic charges by scheme, each (n_atoms,), e.
    hirshfeld_ratios : (n_atoms,) float or None
        Hirshfeld volume over free-atom volume.
    homo, lumo : float or None
        Highest occupied and lowest unoccupied eigenvalue over both spins, eV.
    spin_squared : float or None
        <S^2> for open shells.
    matrices : Matrices or None
        Fock, overlap and other one-electron matrices, where the level asks for them.
    convergence : Convergence
        What the SCF reached.
    scf_trace : tuple of ScfIteration
        The SCF behind the result (for an optimisation, of the last step, where known).
    optimisation_trace : tuple of OptimisationStep
        One entry a geometry step; empty for a single point.
    geometry_converged : bool or None
        What the optimiser said; None for a single point.
    stable : bool or None
        Whether the SCF solution is internally stable; None where not tested.
    notes : tuple of str
        What a reader of the record must know, for instance known limits of a method.
    engine_version : str
        Name and version of the program and the libraries behind it.
    checks : tuple of Check
        What the engine required of the program's own words; the verdict's first lines. A record
        does not repeat them, its attempt has them.
    """

    numbers: Numbers
    positions: Vectors
    energy: float
    energy_parts: dict[str, float] = Field(default_factory=dict)
    forces: Vectors
    dipole: Vector
    charges: dict[str, Scalars] = Field(default_factory=dict)
    hirshfeld_ratios: Scalars | None = None
    homo: float | None = None
    lumo: float | None = None
    spin_squared: float | None = None
    matrices: Matrices | None = None
    convergence: Convergence
    scf_trace: tuple[ScfIteration, ...] = ()
    optimisation_trace: tuple[OptimisationStep, ...] = ()
    geometry_converged: bool | None = None
    stable: bool | None = None
    notes: tuple[str, ...] = ()
    engine_version: str = ""
    checks: tuple[Check, ...] = ()
