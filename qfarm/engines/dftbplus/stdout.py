"""What DFTB+ says on its standard output, read line by line. Pure; never raises.

Each geometry step prints a table of its SCC iterations. The energy change beside iteration n is
that of iteration n - 1 (the program computes it before the new energy), so the last two lines of
a table do not hold the change over the last iteration; `energy_change` says what is taken.
"""

import math
import re
from dataclasses import dataclass
from typing import Final

from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE

NAME: Final = "stdout.txt"

_FLOAT: Final = r"(-?\d+\.\d+(?:E[+-]\d\d)?)"
_STEP: Final = re.compile(r"\*\*\* +Geometry step: \d", re.MULTILINE)
_ITERATION: Final = re.compile(rf"^ *\d+ +{_FLOAT} +{_FLOAT} +{_FLOAT} *$", re.MULTILINE)
_ENERGY: Final = re.compile(rf"^Total Mermin free energy: +{_FLOAT} H ", re.MULTILINE)
_GRADIENT: Final = re.compile(
    rf"(?:max\. gradient +|^Maximal force component: +){_FLOAT}", re.MULTILINE
)
_NORM: Final = re.compile(rf"^gradient norm +{_FLOAT}", re.MULTILINE)
_ERROR: Final = re.compile(r"^ERROR!\n((?:.+(?:\n|\Z))+)", re.MULTILINE)
_IGNORED: Final = re.compile(r"^-> (.*ignored by the parser.*)", re.MULTILINE)
_RELEASE: Final = re.compile(r"^\| +DFTB\+ (?:release )?(\S.*?) *$", re.MULTILINE)
_PARSER: Final = re.compile(r"^Parser version: +(\d{1,9})$", re.MULTILINE)
_END: Final = re.compile(r"^Total +=.*\n-{20,} *$", re.MULTILINE)

_UNCHANGED: Final = 1e-12
"""e: charges that differ by no more give the same energy in the next iteration."""

_LAST_DIGIT: Final = 1e-8
"""Rounding of a printed energy, relative to its power of ten (0.82676939E+01)."""


@dataclass(frozen=True)
class Iteration:
    """One SCC iteration: total electronic energy and its change as printed, Ha; charge error, e."""

    energy: float
    change: float
    error: float


@dataclass(frozen=True)
class Step:
    """One geometry: SCC iterations, Mermin free energy (Ha), gradient (Ha/bohr).

    `gradient` is the largest component, `norm` the norm over all atoms; both only of
    optimisations, `norm` only of the driver ``GeometryOptimization``.
    """

    iterations: tuple[Iteration, ...]
    energy: float | None
    gradient: float | None
    norm: float | None

    @property
    def max_force(self) -> float | None:
        """Upper bound of the largest force on an atom, eV/A; None where no gradient is printed.

        The norm of an atom's force is at most sqrt(3) times the largest component, and at most the
        norm over all atoms.
        """
        if self.gradient is None:
            return None
        bound = self.gradient * math.sqrt(3.0)
        bound = bound if self.norm is None else min(bound, self.norm)
        return bound * DFTBPLUS_HARTREE / DFTBPLUS_BOHR


@dataclass(frozen=True)
class Stdout:
    """What was read.

    Attributes
    ----------
    release, parser : str
        Of the program, as ``25.1`` or, of packages built from a checkout (conda-forge's among
        them), ``development version (commit: ...)``; and the newest input syntax that it knows.
        Empty where not printed.
    error : str
        What stands behind ``ERROR!``; empty where no such line is.
    ignored : str
        What the parser says of words it ignored.
    scc_failed, geometry_converged, geometry_failed, ended : bool
        Whether the line is there; `ended` is the closing table of running times.
    steps : tuple of Step
        In order.
    """

    release: str
    parser: str
    error: str
    ignored: str
    scc_failed: bool
    geometry_converged: bool
    geometry_failed: bool
    ended: bool
    steps: tuple[Step, ...]


def read(text: str) -> Stdout:
    """Read the output of one run."""
    return Stdout(
        release=_first(_RELEASE, text),
        parser=_first(_PARSER, text),
        error=_first(_ERROR, text).strip().removeprefix("-> "),
        ignored=_first(_IGNORED, text),
        scc_failed="SCC is NOT converged" in text,
        geometry_converged="\nGeometry converged\n" in text,
        geometry_failed="Geometry did NOT converge" in text,
        ended=bool(_END.search(text)),
        steps=tuple(_step(block) for block in _STEP.split(text)[1:]),
    )


def energy_change(iterations: tuple[Iteration, ...]) -> float | None:
    """Change of the energy over the last SCC iteration, Ha; None where nothing tells it.

    From three iterations on, the change printed last, which is that of the iteration before the
    last. With two, where that column compares with no energy of this geometry, the difference of
    the two energies as printed, with their rounding. With one, zero if its charges did not change.
    """
    if len(iterations) > 2:
        return abs(iterations[-1].change)
    if len(iterations) == 2:
        first, last = iterations[0].energy, iterations[1].energy
        return abs(last - first) + _rounding(last)
    unchanged = bool(iterations) and abs(iterations[0].error) <= _UNCHANGED
    return 0.0 if unchanged else None


def _rounding(energy: float) -> float:
    """Largest difference that two energies of this size may hide when printed with 8 digits."""
    power = 0
    while abs(energy) >= 10.0**power and power < 300:
        power += 1
    return float(_LAST_DIGIT * 10.0**power)


def _step(block: str) -> Step:
    rows = (found.groups() for found in _ITERATION.finditer(block))
    return Step(
        iterations=tuple(Iteration(float(e), float(c), float(q)) for e, c, q in rows),
        energy=_number(_ENERGY, block),
        gradient=_number(_GRADIENT, block),
        norm=_number(_NORM, block),
    )


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _number(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return float(found[1]) if found else None
