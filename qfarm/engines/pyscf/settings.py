"""SCF settings: what a rung may change, and how tight the SCF converges. Pure."""

from typing import Final

from pydantic import Field

from qfarm.engines.base import Job
from qfarm_schemas.base import Model
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory, Thresholds

COARSE_GRID: Final = 1
"""PySCF grid level of the first SCF, whose density starts the one on the final grid: the same
energy, a fifth to a third cheaper."""


class Tolerances(Model):
    """All must hold in one iteration for the SCF to end.

    The defaults bring all four quantities of QCell's verdict below their thresholds: over the last
    iteration forces change by up to 40 eV/A (as `convergence` estimates) for each electron that
    the density moves, so 2e-6 e keeps them below 1e-4 eV/A.
    """

    conv_tol: float = Field(default=1e-9, gt=0, description="total energy, Ha")
    conv_tol_grad: float = Field(default=1e-5, gt=0, description="orbital gradient, Ha")
    conv_tol_eigenvalues: float = Field(default=2e-5, gt=0, description="eigenvalue sum, Ha")
    conv_tol_density: float = Field(default=2e-6, gt=0, description="density, e")


START: Final = Tolerances(
    conv_tol=1e-7, conv_tol_grad=1e-5, conv_tol_eigenvalues=1e-3, conv_tol_density=1e-4
)
"""Where the SCF on the coarse grid ends: 4 to 5 iterations remain on the final one."""


class Settings(Tolerances):
    """Everything a rung may set.

    Attributes
    ----------
    max_cycle : int
        Iterations of each SCF.
    diis_space : int
        Fock matrices that DIIS extrapolates from.
    damp : float
        Share of the last Fock matrix mixed in for the first iterations, before DIIS starts.
    level_shift : float
        Added to the virtual orbitals, Ha.
    second_order : bool
        Use the second-order (co-iterative augmented Hessian) solver.
    """

    max_cycle: int = Field(default=50, ge=1)
    diis_space: int = Field(default=8, ge=2)
    damp: float = Field(default=0.0, ge=0, lt=1)
    level_shift: float = Field(default=0.0, ge=0)
    second_order: bool = False

    @property
    def aided(self) -> bool:
        """Whether anything but plain DIIS is asked for."""
        return self.damp > 0 or self.level_shift > 0 or self.second_order


def settings(job: Job) -> Settings:
    """Settings of the rung, tightened in step with thresholds tighter than QCell's.

    Raises
    ------
    pydantic.ValidationError
        If the rung sets something unknown.
    """
    asked = Settings.model_validate(job.scf)
    factor = tightness(job.level.thresholds)
    tolerances = {name: getattr(asked, name) * factor for name in Tolerances.model_fields}
    return asked.model_copy(update=tolerances)


def tightness(asked: Thresholds) -> float:
    """By how much `asked` is tighter than the defaults at its tightest; 1 if it is not."""
    default = Thresholds()
    ratios = (getattr(asked, name) / getattr(default, name) for name in Thresholds.model_fields)
    return float(min(1.0, *ratios))


def grid_level(level: LevelOfTheory, fragment: Fragment) -> int:
    """PySCF grid level: as the level says, else 3, and 4 from phosphorus upward.

    These defaults stay: the id of a level of theory hashes the option alone.
    """
    heavy = bool((fragment.numbers >= 15).any())
    return int(level.options.get("grid_level", 4 if heavy else 3))
