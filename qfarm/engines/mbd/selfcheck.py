"""Self-check: the MBD energy that a program printed must belong to the ratios that it printed.

A program can be given another geometry, beta or element than qfarm believes, or print numbers of
different steps; then its dispersion energy and its Hirshfeld ratios do not fit together. qfarm's
own MBD@rsSCS, from what was parsed, must give what was printed.
"""

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.mbd.rsscs import mbd_energy
from qfarm_schemas.check import Check
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.units import HARTREE

NAME: Final = "MBD self-check"

LARGEST: Final = 1e-6
RELATIVE: Final = 1e-4
ROUNDING: Final = 1e-9
"""Ha, share of the energy, Ha: no difference above the first is accepted; below 0.01 Ha, where that
would pass ratios wrong by per cents, none above the second plus the third. Real programs miss it by
less than 1e-8 of the energy and 1e-10 Ha (printed digits, another Bohr radius)."""

REMEDY: Final = (
    "The printed dispersion energy does not belong to the printed Hirshfeld ratios, the submitted "
    "geometry and the beta of the level: look at input and output in the kept scratch folder. "
    "If every fragment misses it, the program computes another dispersion than the level says."
)

FloatArray = NDArray[np.float64]


def self_check(
    numbers: NDArray[np.integer],
    positions: FloatArray,
    ratios: FloatArray,
    beta: float,
    printed: float,
) -> Check:
    """Compare a printed MBD@rsSCS energy with qfarm's own; never raises.

    Parameters
    ----------
    numbers : (n,) int array
        Atomic numbers.
    positions : (n, 3) array
        A, of the geometry that the energy belongs to.
    ratios : (n,) array
        Hirshfeld volume ratios as printed.
    beta : float
        Range-separation parameter.
    printed : float
        Energy as printed, Ha.
    """
    own = _own(numbers, positions, ratios, beta)
    if isinstance(own, str):
        return _check(own, passed=False)
    error, limit = abs(own - printed), tolerance(own)
    if not np.isfinite(error):
        return _check(f"{printed} Ha printed, {own} Ha by qfarm", passed=False, limit=limit)
    return _check(f"{error:.1e} Ha", passed=bool(error <= limit), limit=limit)


def tolerance(energy: float) -> float:
    """Largest difference accepted at an MBD energy, both in Ha."""
    return min(LARGEST, ROUNDING + RELATIVE * abs(energy))


def _own(
    numbers: NDArray[np.integer], positions: FloatArray, ratios: FloatArray, beta: float
) -> float | str:
    """Energy in Ha, or why there is none."""
    if not (np.isfinite(beta) and beta > 0):
        return f"beta is {beta}, not a positive number"
    if not np.isfinite(positions).all():
        return "a position is not a finite number"
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # coinciding atoms make a singular matrix
            return mbd_energy(numbers, positions, ratios, beta) / HARTREE
    except (ArithmeticError, ValueError) as error:  # MbdCollapse, wrong shapes, no reference data
        return f"qfarm's own MBD gives no energy: {error}"


def _check(found: str, passed: bool, limit: float = LARGEST) -> Check:
    return Check(
        name=NAME,
        required=f"<= {limit:.1e} Ha from qfarm's own MBD",
        found=found,
        passed=passed,
        kind=FailureKind.BAD_OUTPUT,
        remedy="" if passed else REMEDY,
    )
