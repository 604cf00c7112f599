"""The verdict: does a result deserve to be a record? Pure.

Every check is named and carries what was required and what was found, so that a user can read
why a result was refused however loudly the engine said "converged".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from qfarm_schemas.attempt import Failure, Outcome, Success
from qfarm_schemas.check import Check
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import Dispersion
from qfarm_schemas.matrices import asked
from qfarm_schemas.result import Result

CLOSEST: Final = 0.4
"""A: atoms nearer than this have collapsed (shortest real bond: H2, 0.74 A)."""

PARTS_TOLERANCE: Final = 1e-6
"""eV: rounding allowed between the energy and the sum of its parts."""

SYMMETRY: Final = 1e-8
"""Largest difference between a matrix and its transpose, in the matrix's unit."""

ELECTRONS: Final = 1e-6
"""Relative error allowed of the electrons that a density matrix holds."""


@dataclass(frozen=True)
class Subject:
    """What is judged: the result, the stage that asked for it, the geometry it started from."""

    result: Result
    stage: Stage
    start: Fragment


def judge(subject: Subject) -> tuple[Check, ...]:
    """Run every check, those that the engine made first.

    Shape checks follow, and end the list when one fails.
    """
    shapes = subject.result.checks + tuple(check(subject) for check in _SHAPE_CHECKS)
    if not all(check.passed for check in shapes[-len(_SHAPE_CHECKS) :]):
        return shapes
    with np.errstate(over="ignore"):  # garbage like 1e300 overflows to inf, which fails a check
        applicable = [check(subject) for check in _CHECKS]
    return shapes + _thresholds(subject) + tuple(check for check in applicable if check)


def outcome(checks: tuple[Check, ...]) -> Outcome:
    """Success when every check passed, else the Failure that the first missed check means."""
    missed = [check for check in checks if not check.passed]
    if not missed:
        return Success()
    kind, remedy = _meaning(missed[0])
    found = "; ".join(f"{c.name}: required {c.required}, found {c.found}" for c in missed)
    return Failure(
        kind=kind,
        cause=f"the result was refused ({found})",
        evidence={c.name: c.found for c in missed},
        remedy=remedy,
    )


def refused(checks: tuple[Check, ...], evidence: Mapping[str, JsonValue] | None = None) -> Failure:
    """Give the Failure of an output that lacks numbers, from the checks that could be made.

    Parameters
    ----------
    checks : tuple of Check
        In order; the first one missed says what kind of failure it is.
    evidence : mapping or None
        What else a user wants to see, for instance the last lines of the output.

    Raises
    ------
    ValueError
        Every check passed: then nothing is missing.
    """
    failure = outcome(checks)
    if isinstance(failure, Success):
        raise ValueError("every check passed, so nothing can be refused")
    seen = failure.evidence | dict(evidence or {})
    return failure.model_copy(update={"evidence": seen, "checks": checks})


def _meaning(check: Check) -> tuple[FailureKind, str]:
    if check.kind is not None:
        return check.kind, check.remedy
    return _MEANING.get(check.name, _THRESHOLD)


def closest_distance(positions: NDArray[np.float64]) -> float:
    """Smallest distance between two atoms, A; infinity for one atom.

    Parameters
    ----------
    positions : (n_atoms, 3) float
        A.
    """
    if len(positions) < 2:
        return float("inf")
    first, second = np.triu_indices(len(positions), k=1)
    return float(np.linalg.norm(positions[first] - positions[second], axis=1).min())


def _check(name: str, passed: bool, required: str, found: str) -> Check:
    return Check(name=name, passed=bool(passed), required=required, found=found)


def _atoms(subject: Subject) -> Check:
    same = np.array_equal(subject.result.numbers, subject.start.numbers)
    found = "the same" if same else f"{len(subject.result.numbers)} other atoms"
    return _check("atoms", same, "the submitted atoms in order", found)


def _shapes(subject: Subject) -> Check:
    result, n_atoms = subject.result, subject.start.n_atoms
    lengths = {"forces": len(result.forces), "positions": len(result.positions)}
    if result.hirshfeld_ratios is not None:
        lengths["Hirshfeld ratios"] = len(result.hirshfeld_ratios)
    lengths |= {f"{scheme} charges": len(values) for scheme, values in result.charges.items()}
    wrong = [f"{length} rows of {name}" for name, length in lengths.items() if length != n_atoms]
    return _check("rows", not wrong, f"{n_atoms} rows each", ", ".join(wrong) or str(n_atoms))


def _finite(subject: Subject) -> Check:
    numbers = _numbers(subject.result)
    wrong = [name for name, values in numbers.items() if not np.isfinite(values).all()]
    return _check("finite numbers", not wrong, "all finite", ", ".join(wrong) or "all finite")


def _numbers(result: Result) -> dict[str, NDArray[np.float64]]:
    """Every number that would go into the record, by name; those that are None left out."""
    given = {name: getattr(result, name) for name in _NUMBERS}
    given |= {f"{scheme} charges": values for scheme, values in result.charges.items()}
    given |= {f"{part} energy": value for part, value in result.energy_parts.items()}
    return {name: np.asarray(value) for name, value in given.items() if value is not None}


def _thresholds(subject: Subject) -> tuple[Check, ...]:
    limits, reached = subject.stage.level.thresholds, subject.result.convergence
    return tuple(
        _threshold(label, limit, getattr(reached, name), unit)
        for name, label, unit in _THRESHOLDS
        if (limit := getattr(limits, name)) is not None
    )


def _threshold(label: str, limit: float, value: float | None, unit: str) -> Check:
    passed = value is not None and np.isfinite(value) and abs(value) <= limit
    found = "not given" if value is None else f"{value:.2e} {unit}"
    return _check(label, passed, f"<= {limit:g} {unit}", found)


def _parts(subject: Subject) -> Check | None:
    parts = subject.result.energy_parts
    if not parts:
        return None
    error = abs(sum(parts.values()) - subject.result.energy)
    return _check(
        "energy parts",
        error <= PARTS_TOLERANCE,
        f"sum to the energy within {PARTS_TOLERANCE:.0e} eV",
        f"{' + '.join(parts)} off by {error:.1e} eV",
    )


def _dispersion(subject: Subject) -> Check | None:
    if subject.stage.level.dispersion not in (Dispersion.MBD, Dispersion.MBD_NL):
        return None
    energy = subject.result.energy_parts.get("MBD")
    found = "missing" if energy is None else f"{energy:.6f} eV"
    # The eigenvalues of the coupled oscillators majorise the uncoupled ones, whose mean they keep,
    # and the square root is concave: coupling never raises the zero-point energy.
    passed = energy is not None and -np.inf < energy <= 0.0
    return _check("dispersion energy", passed, "an MBD energy, never positive", found)


def _gap(subject: Subject) -> Check | None:
    homo, lumo = subject.result.homo, subject.result.lumo
    if homo is None or lumo is None:
        return None
    return _check("HOMO-LUMO gap", lumo > homo, "> 0 eV", f"{lumo - homo:.3f} eV")


def _stable(subject: Subject) -> Check | None:
    stable = subject.result.stable
    if stable is None:
        return None
    return _check("stability", stable, "internally stable", "stable" if stable else "unstable")


def _collapse(subject: Subject) -> Check:
    closest = closest_distance(subject.result.positions)
    return _check("closest atoms", closest >= CLOSEST, f">= {CLOSEST} A", f"{closest:.3f} A")


def _same_geometry(subject: Subject) -> Check | None:
    if subject.stage.task is not TaskKind.SINGLE_POINT:
        return None
    shift = float(np.abs(subject.result.positions - subject.start.positions).max())
    return _check("geometry", shift <= 1e-8, "the input geometry", f"moved by {shift:.1e} A")


def _relaxed(subject: Subject) -> Check | None:
    if subject.stage.task is not TaskKind.OPTIMISATION:
        return None
    limit = subject.stage.max_force
    largest = float(np.linalg.norm(subject.result.forces, axis=1).max())
    passed = largest <= limit and subject.result.geometry_converged is True
    return _check("largest force", passed, f"<= {limit:g} eV/A", f"{largest:.2e} eV/A")


def _matrices(subject: Subject) -> Check | None:
    wanted, matrices = asked(subject.stage.level.options), subject.result.matrices
    if not wanted and matrices is None:
        return None
    given = {} if matrices is None else matrices.given()
    wrong = [f"no {name}" for name in wanted if name not in given]
    wrong += [f"{name} {fault}" for name, matrix in given.items() if (fault := _fault(matrix))]
    required = f"those asked for, finite, symmetric to {SYMMETRY:.0e}"
    return _check("matrices", not wrong, required, ", ".join(wrong) or ", ".join(given))


def _fault(matrix: NDArray[np.float64]) -> str:
    if not np.isfinite(matrix).all():
        return "not finite"
    difference = float(np.abs(matrix - matrix.swapaxes(-1, -2)).max())
    return "" if difference <= SYMMETRY else f"unsymmetric by {difference:.1e}"


def _overlap(subject: Subject) -> Check | None:
    matrices = subject.result.matrices
    if matrices is None or matrices.overlap is None:
        return None
    positive = _is_positive(matrices.overlap)
    found = "positive definite" if positive else "an eigenvalue is not positive"
    return _check("overlap matrix", positive, "positive definite", found)


def _is_positive(matrix: NDArray[np.float64]) -> bool:
    try:
        return bool(np.isfinite(np.linalg.cholesky(matrix)).all())
    except np.linalg.LinAlgError:
        return False


def _electrons(subject: Subject) -> Check | None:
    matrices = subject.result.matrices
    if matrices is None or matrices.overlap is None or matrices.density is None:
        return None
    wanted = int(subject.start.numbers.sum()) - subject.start.charge
    found = float((matrices.density * matrices.overlap).sum())  # the trace; both spins
    passed = abs(found - wanted) <= ELECTRONS * wanted
    return _check("electrons of the density matrix", passed, str(wanted), f"{found:.8f}")


_NUMBERS: Final = (
    "energy",
    "forces",
    "dipole",
    "positions",
    "hirshfeld_ratios",
    "homo",
    "lumo",
    "spin_squared",
)

_SHAPE_CHECKS: Final[tuple[Callable[[Subject], Check], ...]] = (_atoms, _shapes, _finite)

_CHECKS: Final[tuple[Callable[[Subject], Check | None], ...]] = (
    _stable,
    _gap,
    _parts,
    _dispersion,
    _collapse,
    _same_geometry,
    _relaxed,
    _matrices,
    _overlap,
    _electrons,
)

_THRESHOLDS: Final = (
    ("energy", "SCF total energy change", "eV"),
    ("eigenvalues", "SCF eigenvalue sum change", "eV"),
    ("density", "SCF density change", "e"),
    ("forces", "SCF forces change", "eV/A"),
)

_THRESHOLD: Final = (
    FailureKind.THRESHOLD_MISSED,
    "If every rung misses it, check charge and multiplicity, or state looser thresholds in a "
    "protocol of your own.",
)

LOOK: Final = "Look at the kept scratch folder; if it happens on one host only, mend that host."
"""Remedy for an output that cannot be right; engines give it, too."""

_OUTPUT: Final = (
    FailureKind.BAD_OUTPUT,
    LOOK,
)

_MEANING: Final = {
    "atoms": _OUTPUT,
    "rows": _OUTPUT,
    "finite numbers": _OUTPUT,
    "energy parts": _OUTPUT,
    "dispersion energy": _OUTPUT,
    "geometry": _OUTPUT,
    "matrices": _OUTPUT,
    "overlap matrix": _OUTPUT,
    "electrons of the density matrix": _OUTPUT,
    "stability": (
        FailureKind.UNSTABLE_SOLUTION,
        "A lower solution exists: check multiplicity, a stretched bond, a biradical.",
    ),
    "HOMO-LUMO gap": (
        FailureKind.NO_GAP,
        "Occupied orbitals lie above empty ones: check charge and multiplicity, then submit the "
        "corrected fragment.",
    ),
    "closest atoms": (
        FailureKind.BAD_GEOMETRY,
        "Atoms collapsed: check the submitted geometry.",
    ),
    "largest force": (
        FailureKind.GEOMETRY_NOT_CONVERGED,
        "Raise max_steps or max_force in the protocol, or pre-optimise by hand.",
    ),
}
