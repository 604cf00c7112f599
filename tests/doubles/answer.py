"""What a double is asked, what it answers, and the output that it will print page by page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from doubles.physics import FloatArray, Molecule


@dataclass(frozen=True)
class Answer:
    """The numbers that a double prints.

    Attributes
    ----------
    molecule : Molecule
        The geometry they belong to.
    energy : float
        Without dispersion, eV.
    forces : (n, 3) float
        eV/A.
    ratios : (n,) float
        Hirshfeld volume over free-atom volume, or what DFTB+ has in its place.
    dispersion : float or None
        Ha; None when none was asked for.
    homo, lumo : float
        eV.
    method : str
        Functional or Hamiltonian that the program says it used.
    converged : bool
        Whether the SCF converges.
    force_rows : int
        Rows of forces that are printed.
    """

    molecule: Molecule
    energy: float
    forces: FloatArray
    ratios: FloatArray
    dispersion: float | None
    method: str
    homo: float = -8.0
    lumo: float = 1.0
    converged: bool = True
    force_rows: int = 0


@dataclass(frozen=True)
class End:
    """The last page: text on stdout, files left, exit code."""

    text: str
    code: int = 0
    files: Mapping[str, str | bytes] = field(default_factory=dict)


class Script(Protocol):
    """An output to be played: a head, iterations that a file can stop, an end."""

    @property
    def head(self) -> str:
        """All before the first iteration."""

    @property
    def files(self) -> Mapping[str, str | bytes]:
        """What is written then."""

    @property
    def steps(self) -> tuple[str, ...]:
        """The iterations."""

    @property
    def stop_file(self) -> str:
        """File that stops after the iteration under way."""

    @property
    def pause(self) -> float:
        """Seconds after each iteration, where the plan says none."""

    def during(self, done: int) -> Mapping[str, str | bytes]:
        """Files written after so many steps, which a killed program leaves."""

    def end(self, done: int) -> End:
        """The last page after so many steps."""


def fortran(value: float, digits: int, exponent: int = 2) -> str:
    """Format as Fortran's E descriptor does: ``-0.634840264391664E+02`` for 15 digits."""
    if not math.isfinite(value):
        return "NaN"
    if value == 0:
        return f"0.{'0' * digits}E+{'0' * exponent}"
    mantissa, power = f"{abs(value):.{digits - 1}E}".split("E")
    sign = "-" if value < 0 else ""
    return f"{sign}0.{mantissa.replace('.', '')}E{int(power) + 1:+0{exponent + 1}d}"
