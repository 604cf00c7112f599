"""Convergence aids of the DFTB+ engine: what a rung of its ladder may set.

Mixers and their keywords as in the DFTB+ manual, section "Mixer" (Broyden is its default, with
mixing parameter 0.2; Anderson and simple mixing default to 0.05). A Fermi temperature would help
too, but changes the energy, and DFTB+ cannot lower it within a run, so no rung raises it.
"""

from typing import Final, Literal

from pydantic import Field

from qfarm.ladder import Aid, Ladder
from qfarm_schemas.base import Model


class SccSettings(Model):
    """How the self-consistent charges (SCC) are made to converge.

    Attributes
    ----------
    mixer : str
        How DFTB+ mixes charges of former iterations.
    mixing : float
        Share of the new charges; smaller is more careful.
    max_iterations : int
        Iterations at one geometry.
    """

    mixer: Literal["Broyden", "Anderson", "Simple"] = "Broyden"
    mixing: float = Field(default=0.2, gt=0, le=1)
    max_iterations: int = Field(default=200, ge=1)


class GeometrySettings(Model):
    """How the geometry is optimised.

    Attributes
    ----------
    optimiser : str
        Of the driver ``GeometryOptimization``. LBFGS comes first: it took 35 steps for methyl
        phosphate where ``Rational``, the program's default, did not end in 400.
    """

    optimiser: Literal["LBFGS", "Rational", "FIRE"] = "LBFGS"


LADDER: Final = Ladder(
    scf=(
        Aid("broyden"),
        Aid("more-iterations", {"max_iterations": 1000}),
        Aid("damped", {"mixing": 0.05, "max_iterations": 1000}),
        Aid("anderson", {"mixer": "Anderson", "mixing": 0.05, "max_iterations": 1000}),
        Aid("simple", {"mixer": "Simple", "mixing": 0.02, "max_iterations": 5000}),
    ),
    geometry=(
        Aid("lbfgs"),
        Aid("rational", {"optimiser": "Rational"}),
        Aid("fire", {"optimiser": "FIRE"}),
    ),
)
"""Mildest first; each optimiser goes on from the geometry that the one before it left."""
