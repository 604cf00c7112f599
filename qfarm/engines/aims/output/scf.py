"""SCF: the iterations and what the last one reached. Pure.

Two formats: a block an iteration, and the one-line table of ``output_level MD_light``.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from qfarm.engines.aims.output.page import Page, number
from qfarm_schemas.result import Convergence, ScfIteration

CONVERGED: Final = "Self-consistency cycle converged."
BEGIN: Final = "Begin self-consistency iteration"
ACCURACY: Final = "Self-consistency convergence accuracy"
TABLE: Final = "Convergence"
TOTAL: Final = "| Total energy"

_DENSITY: Final = ("| Change of charge density", "| Change of charge/spin density")
_BLOCK: Final = 12
"""Lines of a block of changes at most; it ends at a blank line."""

_ROW: Final = re.compile(r"\s*SCF\s+\d+\s*:(?P<cells>.*)")


@dataclass(frozen=True)
class Iteration:
    """One SCF iteration.

    Attributes
    ----------
    energy : float or None
        Total energy, eV (as printed within the SCF: without dispersion).
    density : float or None
        Change of the density, of the spin density where that is larger.
    eigenvalues, total : float or None
        Change of the sum of eigenvalues and of the total energy, eV, signed.
    forces : float or None
        Change of the forces, eV/A. Where they were computed for the first time this is their own
        size, several eV/A.
    """

    energy: float | None = None
    density: float | None = None
    eigenvalues: float | None = None
    total: float | None = None
    forces: float | None = None


def iterations(page: Page) -> tuple[Iteration, ...]:
    """Every iteration that was printed to its end.

    The last is empty when its changes cannot be read: those before it must not stand for it.
    """
    if page.count(TABLE) and not page.count(ACCURACY):
        return _of_tables(page)
    read = tuple(_of_block(page, start) for start in page.where(ACCURACY))
    return (*read, Iteration()) if _last_is_missing(page) else read


def _last_is_missing(page: Page) -> bool:
    """Whether the SCF says it converged after an iteration without a block of changes."""
    begun, changes, said = (page.last(key) for key in (BEGIN, ACCURACY, CONVERGED))
    return (
        begun is not None
        and said is not None
        and (-1 if changes is None else changes) < begun < said
    )


def convergence(trace: Sequence[Iteration]) -> Convergence:
    """Absolute changes of the last iteration."""
    if not trace:
        return Convergence()
    last = trace[-1]
    return Convergence(
        energy=_size(last.total),
        eigenvalues=_size(last.eigenvalues),
        density=last.density,
        forces=_size(last.forces),
    )


def record(trace: Sequence[Iteration]) -> tuple[ScfIteration, ...]:
    """The iterations whose energy is known, as a record keeps them."""
    return tuple(
        ScfIteration(
            energy=step.energy,
            energy_change=step.total,
            eigenvalue_change=step.eigenvalues,
            density_change=step.density,
        )
        for step in trace
        if step.energy is not None
    )


def converged_last(page: Page) -> bool:
    """Whether the SCF says it converged, once, and nothing was iterated after it."""
    said = page.where(CONVERGED)
    later = [page.last(key) for key in (BEGIN, ACCURACY, TABLE)]
    return len(said) == 1 and all(place is None or place < said[0] for place in later)


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)


def _largest(words: Iterable[str]) -> float | None:
    """Largest absolute value; None when one of the words is no number."""
    values = [number(word) for word in words]
    given = [abs(value) for value in values if value is not None]
    return max(given) if given and len(given) == len(values) else None


def _of_block(page: Page, start: int) -> Iteration:
    changes: dict[str, str] = {}
    for line in page.lines[start + 1 : start + _BLOCK]:
        if not line.strip():
            break
        key, _, value = line.partition(":")
        changes[key.strip()] = value
    density = next((changes[key] for key in _DENSITY if key in changes), "")
    return Iteration(
        energy=_energy_before(page, start),
        density=_largest(density.split()),
        eigenvalues=_first(changes, "| Change of sum of eigenvalues"),
        total=_first(changes, "| Change of total energy"),
        forces=_first(changes, "| Change of forces"),
    )


def _first(changes: dict[str, str], key: str) -> float | None:
    words = changes.get(key, "").split()
    return number(words[0]) if words else None


def _energy_before(page: Page, place: int) -> float | None:
    """Total energy (eV) printed last before line `place`, in the same iteration."""
    start = max((i for i in page.where(BEGIN) if i < place), default=-1)
    found = [i for i in page.where(TOTAL) if start < i < place]
    return electronvolt(page.lines[found[-1]]) if found else None


def electronvolt(line: str) -> float | None:
    """Second energy of a line ``| Total energy : ... Ha ... eV``."""
    words = line.partition(":")[2].split()
    return number(words[2]) if len(words) == 4 and words[3] == "eV" else None


def _of_tables(page: Page) -> tuple[Iteration, ...]:
    """Rows of the last table.

    The table has changes alone: energies follow from the total after it, counted back.
    """
    start = page.where(TABLE)[-1]
    rows = _joined(page.lines[start + 1 :])
    steps = [_of_row(cells) for cells in rows]
    total = _energy_after(page, start)
    energies: list[float | None] = []
    for step in reversed(steps):
        energies.append(total)
        total = None if total is None or step.total is None else total - step.total
    dated = zip(steps, reversed(energies), strict=True)
    return tuple(Iteration(e, s.density, s.eigenvalues, s.total, s.forces) for s, e in dated)


def _energy_after(page: Page, place: int) -> float | None:
    found = [i for i in page.where(TOTAL) if i > place]
    return electronvolt(page.lines[found[0]]) if found else None


def _joined(lines: Sequence[str]) -> list[list[str]]:
    """Cells of each row; other output may stand within a row, whose end then begins with ``|``."""
    rows: list[list[str]] = []
    for line in lines:
        row = _ROW.fullmatch(line)
        if row:
            rows.append(row["cells"].split("|"))
        elif rows and len(rows[-1]) == 1 and line.count("|") >= 5 and line.strip()[0] == "|":
            rows[-1] += line.strip().split("|")[1:]
        elif line.strip() == CONVERGED:
            break
    return rows


def _of_row(cells: Sequence[str]) -> Iteration:
    """Cells: charge of the multipoles, density (and spin), eigenvalues, energy, forces, times."""
    density, eigenvalues, total, forces = (*cells[1:5], "", "", "", "")[:4]
    return Iteration(
        density=_largest(density.split()),
        eigenvalues=number(eigenvalues.strip()),
        total=number(total.strip()),
        forces=number(forces.strip()),
    )
