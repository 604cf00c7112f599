"""LevelOfTheory: what decides the number that a converged calculation gives.

What an engine makes of a basis tier, and its own defaults, are not hashed here: each engine pins
them by a test and never changes their meaning, so that an id always stands for one number.
"""

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from qfarm_schemas.base import Model, digest, identity, none_by_name


class Dispersion(StrEnum):
    """How dispersion enters the total energy."""

    NONE = "none"
    INTRINSIC = "intrinsic"  # part of the method itself, as in GFN2-xTB (D4)
    MBD = "mbd"  # MBD@rsSCS
    MBD_NL = "mbd-nl"


class BasisTier(StrEnum):
    """Basis tier of FHI-aims; other engines map the names in a table of their own."""

    NONE = "none"  # the method brings its basis
    LIGHT = "light"
    INTERMEDIATE = "intermediate"
    TIGHT = "tight"


Threshold = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(none_by_name)]
"""A positive number; None (``"none"`` in TOML, which has no null) where nothing is required."""


class Thresholds(Model):
    """SCF thresholds of the level of theory; the defaults are QCell's.

    Each bounds the change over the last SCF iteration; each engine's documentation gives the
    formula of its four quantities. An engine whose program does not print a change demands that
    the protocol says ``"none"`` for it, so that no level claims what nobody has measured.
    """

    energy: Threshold = Field(default=1e-5, description="total energy, eV")
    eigenvalues: Threshold = Field(default=1e-3, description="sum of eigenvalues, eV")
    density: Threshold = Field(default=1e-5, description="electron density, as the engine says")
    forces: Threshold = Field(default=1e-4, description="forces, eV/A")


class LevelOfTheory(Model):
    """A level of theory as one engine realises it.

    Attributes
    ----------
    engine : str
        Name in the engine table.
    method : str
        Functional or Hamiltonian: ``PBE0``, ``GFN2-xTB``.
    dispersion : Dispersion
        Dispersion correction.
    mbd_beta : float or None
        Range-separation parameter of MBD (dimensionless), required with ``mbd`` or ``mbd-nl``.
    basis : BasisTier
        Basis tier.
    thresholds : Thresholds
        SCF thresholds that an accepted result has reached.
    options : dict
        What else the engine needs to fix the number, for instance ``grid_level``.
    """

    engine: str
    method: str
    dispersion: Dispersion = Dispersion.NONE
    mbd_beta: float | None = Field(default=None, gt=0)
    basis: BasisTier = BasisTier.NONE
    thresholds: Thresholds = Thresholds()
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _beta_with_mbd(self) -> Self:
        needs = self.dispersion in (Dispersion.MBD, Dispersion.MBD_NL)
        if needs != (self.mbd_beta is not None):
            what = "needs mbd_beta" if needs else "has no mbd_beta"
            raise ValueError(f"dispersion {self.dispersion.value!r} {what}")
        return self

    @cached_property
    def id(self) -> str:
        """``l`` and the SHA-256 of the canonical JSON, defaults left out."""
        return digest("l", identity(self))
