"""Convergence aids of the tblite engine: what a rung of its ladder may set."""

from typing import Final, Literal

from pydantic import Field

from qfarm.ladder import Aid, Ladder
from qfarm_schemas.base import Model
from qfarm_schemas.level import LevelOfTheory

TEMPERATURE_OPTION: Final = "electronic_temperature"
"""Option of the level of theory: electronic temperature of an accepted result, K."""

TEMPERATURE: Final = 300.0
"""K: electronic temperature at which GFN1- and GFN2-xTB are defined (J. Chem. Theory Comput.
15, 1652 (2019), section 2). It stays: the id of a level of theory hashes the option alone."""


class SccSettings(Model):
    """How the self-consistent charge (SCC) calculation is made to converge.

    Attributes
    ----------
    accuracy : float
        tblite's accuracy: the SCC ends at an energy change of 1e-6 Ha times this and a residual
        of 2e-5 e times this. Of the final SCC; geometry steps are ten times rougher. The ADR on
        thresholds says why 0.001.
    max_iterations : int
        Iterations at one temperature.
    damping : float
        Damping of the Broyden mixer; smaller is more careful.
    memory : int
        Iterations that the mixer remembers.
    start_temperature : float or None
        K: start of a ramp down to the level's temperature; None for no ramp.
    temperatures : int
        Number of temperatures of the ramp, geometrically spaced.
    """

    accuracy: float = Field(default=0.001, gt=0)
    max_iterations: int = Field(default=250, ge=1)
    damping: float = Field(default=0.4, gt=0, le=1)
    memory: int = Field(default=250, ge=1)
    start_temperature: float | None = Field(default=None, gt=0)
    temperatures: int = Field(default=12, ge=2)


class GeometrySettings(Model):
    """How the geometry is optimised.

    Attributes
    ----------
    optimiser : str
        ``bfgs`` or ``bfgs-line-search``, both ASE's.
    calm_steps : int
        Steps of FIRE that go before, to calm a rough geometry.
    max_step : float
        Longest step of an atom, A.
    """

    optimiser: Literal["bfgs", "bfgs-line-search"] = "bfgs"
    calm_steps: int = Field(default=0, ge=0)
    max_step: float = Field(default=0.2, gt=0)


LADDER: Final = Ladder(
    scf=(
        Aid("plain"),
        Aid("damped", {"damping": 0.1, "max_iterations": 500, "memory": 100}),
        Aid("temperature-ramp", {"start_temperature": 5000.0, "damping": 0.2}),
        Aid(
            "slow-temperature-ramp",
            {"start_temperature": 20000.0, "temperatures": 48, "damping": 0.1},
        ),
    ),
    geometry=(
        Aid("bfgs"),
        Aid("bfgs-line-search", {"optimiser": "bfgs-line-search"}),
        Aid("fire-then-bfgs", {"calm_steps": 150, "max_step": 0.1}),
    ),
)
"""Rungs in the order in which trials found them to help (ADR on the tblite thresholds)."""


def temperature(level: LevelOfTheory) -> float:
    """Electronic temperature of the level, K."""
    return float(level.options.get(TEMPERATURE_OPTION, TEMPERATURE))
