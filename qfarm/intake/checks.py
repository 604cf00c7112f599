"""Checks: what a fragment must satisfy before it costs computing time. Pure; one table.

Each check takes a `Draft` and returns a `Flaw`, or None when the draft passes or another check
already speaks for what is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import dist, isfinite
from typing import Final

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.spatial import KDTree

from qfarm.intake.problem import Flaw, Kind
from qfarm.verdict import CLOSEST
from qfarm_schemas.electrons import Impossible, Rule, impossible

FARTHEST: Final = 1e6
"""A: a coordinate beyond this is an error, not a molecule; it also keeps the id's grid exact."""

APART: Final = 100.0
"""A: the widest gap that a fragment may have. Beyond it only charges still feel each other:
-C6/r^6 between two benzenes (C6 about 1e3 eV A^6) is 1e-9 eV, so the parts are computations of
their own, or a coordinate is wrong."""

FEW: Final = 100
"""Atoms up to which all distances are had sooner than a tree of the atoms."""

CLEARLY: Final = 1 - 1e-9
"""Within this of a limit it is left to the exact check whether a distance breaks it."""


@dataclass(frozen=True)
class Draft:
    """A fragment as read; charge and multiplicity are None where the file is silent or wrong.

    `charge_wrong` and `multiplicity_wrong` tell these two cases apart, so that a bad key is
    reported once and not again by its consequences.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    periodic: bool = False
    charge: int | None = None
    multiplicity: int | None = None
    charge_wrong: bool = False
    multiplicity_wrong: bool = False

    @cached_property
    def electrons(self) -> int | None:
        """Number of electrons; None where it cannot be told."""
        known = len(self.numbers) > 0 and not self.charge_wrong and self.real
        return int(self.numbers.sum()) - (self.charge or 0) if known else None

    @cached_property
    def real(self) -> bool:
        """Whether every atomic number is an element's."""
        return bool(((self.numbers > 0) & (self.numbers < len(chemical_symbols))).all())

    @cached_property
    def finite(self) -> bool:
        """Whether every coordinate is a finite number."""
        return all(map(isfinite, (*self.lowest, *self.highest)))

    @cached_property
    def lowest(self) -> tuple[float, ...]:
        """A: smallest x, y and z; NaN where one is NaN."""
        return tuple(self.positions.min(axis=0).tolist()) if len(self.positions) else ()

    @cached_property
    def highest(self) -> tuple[float, ...]:
        """A: largest x, y and z; NaN where one is NaN."""
        return tuple(self.positions.max(axis=0).tolist()) if len(self.positions) else ()

    @property
    def extent(self) -> float:
        """A: diagonal of the box around the atoms, so no two are farther from each other."""
        return dist(self.lowest, self.highest)


def empty(draft: Draft) -> Flaw | None:
    """At least one atom."""
    if len(draft.numbers):
        return None
    return Flaw(Kind.EMPTY, "the frame holds no atoms", "Take the frame out of the file.")


def elements(draft: Draft) -> Flaw | None:
    """Atomic numbers 1 to 118."""
    if draft.real:
        return None
    wrong = np.flatnonzero((draft.numbers < 1) | (draft.numbers >= len(chemical_symbols)))
    number = int(draft.numbers[wrong[0]])
    name = "a dummy atom X" if number == 0 else f"atomic number {number}"
    return Flaw(Kind.ELEMENT, f"atom {wrong[0] + 1} is {name}", "Name a real element.")


def finite(draft: Draft) -> Flaw | None:
    """Return a flaw for NaN or infinity."""
    if draft.finite:
        return None
    atom = int(np.flatnonzero(~np.isfinite(draft.positions).all(axis=1))[0])
    where = _atom(draft, atom)
    return Flaw(Kind.NOT_FINITE, f"{where} is at NaN or infinity", "Mend its coordinates.")


def in_range(draft: Draft) -> Flaw | None:
    """Coordinates that a molecule can have."""
    if not draft.finite or not len(draft.numbers):
        return None
    farthest = max(map(abs, (*draft.lowest, *draft.highest)))
    if farthest <= FARTHEST:
        return None
    atom = int(np.abs(draft.positions).max(axis=1).argmax())
    what = f"{_atom(draft, atom)} has a coordinate of {farthest:.3g} A"
    return Flaw(Kind.TOO_FAR, what, "Coordinates are in A; mend the line.")


def overlap(draft: Draft) -> Flaw | None:
    """No two atoms nearer than `qfarm.verdict.CLOSEST`."""
    if len(draft.numbers) < 2 or not draft.finite or _clear(draft.positions):
        return None
    # Two neighbours each, because a point's nearest is itself or, at distance 0, its twin.
    distances, neighbours = KDTree(draft.positions).query(draft.positions, k=2)
    atom = int(distances[:, 1].argmin())
    closest = float(distances[atom, 1])
    if closest >= CLOSEST:
        return None
    other = int(next(n for n in neighbours[atom] if n != atom))
    first, second = sorted((atom, other))
    return Flaw(
        Kind.OVERLAP,
        f"{_atom(draft, first)} and {_atom(draft, second)} are {closest:.3f} A apart "
        f"(at least {CLOSEST} A)",
        "Coordinates are in A; remove the duplicate atom or mend the geometry.",
    )


def _clear(positions: NDArray[np.float64]) -> bool:
    """Whether no two of a few atoms are anywhere near each other; False: look more closely."""
    if len(positions) > FEW:
        return False
    with np.errstate(over="ignore"):
        between = positions[:, None, :] - positions[None, :, :]
        squares = np.einsum("ijk,ijk->ij", between, between)
    squares.flat[:: len(positions) + 1] = np.inf  # an atom and itself
    return bool(squares.min() > (CLOSEST / CLEARLY) ** 2)


def apart(draft: Draft) -> Flaw | None:
    """No atom, and no group of atoms, farther than `APART` from all others."""
    if len(draft.numbers) < 2 or not draft.finite or draft.extent < CLEARLY * APART:
        return None
    if in_range(draft) is not None:
        return None
    alone = _beyond(draft.positions)
    if not len(alone):
        return None
    others = np.delete(np.arange(len(draft.numbers)), alone)
    if len(others) < len(alone):
        alone, others = others, alone
    distances, nearest = KDTree(draft.positions[others]).query(draft.positions[alone])
    atom, other = alone[distances.argmin()], others[nearest[distances.argmin()]]
    rest = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
    return Flaw(
        Kind.APART,
        f"{_atom(draft, int(atom))}{rest}: the nearest of the other atoms, "
        f"{_atom(draft, int(other))}, is {distances.min():.0f} A away (at most {APART:.0f} A)",
        f"Coordinates are in A; mend those of atom {atom + 1}, or submit the parts as frames of "
        "their own.",
    )


def _beyond(positions: NDArray[np.float64]) -> NDArray[np.intp]:
    """Atoms that no chain of steps of at most `APART` links to the first atom."""
    rest = np.arange(1, len(positions))
    edge = np.array([0])
    while len(rest) and len(edge):
        distances, _ = KDTree(positions[edge]).query(positions[rest])
        edge, rest = rest[distances <= APART], rest[distances > APART]
    return rest


def not_periodic(draft: Draft) -> Flaw | None:
    """Molecules only."""
    if not draft.periodic:
        return None
    return Flaw(
        Kind.PERIODIC,
        "the frame is periodic, and qfarm computes molecules",
        'Take Lattice out of the comment line, or write pbc="F F F".',
    )


def charge_possible(draft: Draft) -> Flaw | None:
    """At least one electron, and at most twice as many as protons."""
    if draft.electrons is None:
        return None
    anion = draft.electrons > 2 * int(draft.numbers.sum())
    if not anion and _broken(draft, Rule.COUNT) is None:
        return None
    return Flaw(
        Kind.CHARGE,
        f"a charge of {draft.charge} leaves {draft.electrons} electrons",
        "Correct the charge (total charge in e).",
    )


def parity(draft: Draft) -> Flaw | None:
    """An even number of electrons has an odd multiplicity, and the other way round."""
    broken = _broken(draft, Rule.PARITY)
    if broken is None or draft.multiplicity_wrong:
        return None
    charge = f"charge {draft.charge or 0}{_if(draft.charge, ', assumed')}"
    if draft.multiplicity is None:
        return Flaw(
            Kind.PARITY,
            f"{draft.electrons} electrons ({charge}) cannot be a singlet, and no multiplicity is "
            "given",
            "Write the right charge= (total charge in e) or multiplicity= (2S+1), or both.",
        )
    return Flaw(
        Kind.PARITY,
        f"{broken.what} ({charge})",
        "Correct charge= or multiplicity=; the multiplicity is 2S+1, also under `spin`.",
    )


def spin_possible(draft: Draft) -> Flaw | None:
    """Not more unpaired electrons than electrons."""
    broken = _broken(draft, Rule.UNPAIRED)
    if broken is None:
        return None
    return Flaw(Kind.MULTIPLICITY, broken.what, "Correct multiplicity= (2S+1).")


def _broken(draft: Draft, rule: Rule) -> Impossible | None:
    """What breaks this rule of the electrons; a multiplicity that is not given counts as 1."""
    if draft.electrons is None:
        return None
    multiplicity = 1 if draft.multiplicity is None else draft.multiplicity
    found = impossible(draft.electrons, multiplicity)
    return found if found is not None and found.rule is rule else None


CHECKS: Final[tuple[Callable[[Draft], Flaw | None], ...]] = (
    empty,
    elements,
    finite,
    in_range,
    overlap,
    apart,
    not_periodic,
    charge_possible,
    parity,
    spin_possible,
)


def flaws(draft: Draft) -> tuple[Flaw, ...]:
    """All flaws of a draft, in the order of `CHECKS`."""
    return tuple(flaw for check in CHECKS if (flaw := check(draft)) is not None)


def _atom(draft: Draft, index: int) -> str:
    number = int(draft.numbers[index])
    known = 0 <= number < len(chemical_symbols)
    return f"atom {index + 1} ({chemical_symbols[number] if known else number})"


def _if(charge: int | None, text: str) -> str:
    return text if charge is None else ""
