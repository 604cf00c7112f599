"""Report: the parts that `qfarm show` prints, from what the store knows. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from rich.console import Group
from rich.text import Text

from qfarm.cli.draw import Ink, trace
from qfarm.cli.table import table
from qfarm.cli.wording import (
    duration,
    environment_words,
    level_words,
    rung_words,
    thresholds_words,
)
from qfarm.store.protocol import Row, StageState, View
from qfarm_schemas.attempt import Attempt, Failure
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import Thresholds
from qfarm_schemas.record import Record
from qfarm_schemas.result import ScfIteration

Part = str | Text | Group

ATOMS_SHOWN: Final = 30
SHIFTS_SHOWN: Final = 0.001
"""A: below this RMSD a geometry counts as unmoved, and its table is left out."""

_TRACE: Final = TypeAdapter(tuple[ScfIteration, ...])


@dataclass(frozen=True)
class Page:
    """How to print: width of drawings, characters, whether every atom is listed."""

    width: int
    ink: Ink
    all_atoms: bool = False


def pages(view: View, page: Page) -> Iterator[Part]:
    """Yield all parts, top to bottom."""
    yield from _head(view)
    yield from _geometries(view, page)
    for row in sorted(view.rows, key=lambda row: (row.workflow, row.position)):
        yield from _stage(view, row, page)


def rmsd(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Root-mean-square distance after the best superposition, A.

    Parameters
    ----------
    first, second : (n_atoms, 3) float
        A; every atom weighs the same.

    Notes
    -----
    W. Kabsch, Acta Cryst. A 34, 827 (1978): from the singular values of the covariance, the
    last with the sign that keeps the rotation proper.
    """
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    left, values, right = np.linalg.svd(a.T @ b)
    values[-1] *= np.sign(np.linalg.det(left @ right))
    square = (a**2).sum() + (b**2).sum() - 2 * values.sum()
    return float(np.sqrt(max(square, 0.0) / len(a)))


def scf_trace(attempt: Attempt) -> tuple[ScfIteration, ...]:
    """SCF trace of an attempt; of a failed one also from the failure's evidence."""
    if attempt.scf_trace or not isinstance(attempt.outcome, Failure):
        return attempt.scf_trace
    try:
        return _TRACE.validate_python(attempt.outcome.evidence.get("scf_trace", ()))
    except ValidationError:
        return ()


def _head(view: View) -> Iterator[Part]:
    fragment = view.fragment
    formula = view.rows[0].formula if view.rows else ""
    yield _title(f"Fragment {fragment.id}")
    yield (
        f"{formula} ({fragment.n_atoms} atoms), charge {fragment.charge:+d}, multiplicity "
        f"{fragment.multiplicity}, class {fragment.fragment_class}"
    )
    if fragment.tags:
        yield f"tags {', '.join(fragment.tags)}"
    yield f"from {fragment.source or 'an unnamed source'}"


def _geometries(view: View, page: Page) -> Iterator[Part]:
    fragment = view.fragment
    yield _atoms("Geometry as submitted, A", fragment, fragment.positions, page)
    for row in view.rows:
        record, stage = view.records.get(row.key), view.stages.get(row.key)
        if record is None or stage is None or stage.task is not TaskKind.OPTIMISATION:
            continue
        final = record.result.positions
        moved = rmsd(fragment.positions, final)
        yield f"RMSD of the geometry after {row.stage!r} from the submitted one: {moved:.4f} A"
        if moved >= SHIFTS_SHOWN:
            yield _atoms(f"Geometry after {row.stage!r}, A", fragment, final, page)


def _atoms(title: str, fragment: Fragment, positions: NDArray[np.float64], page: Page) -> Group:
    shown = fragment.n_atoms if page.all_atoms else min(fragment.n_atoms, ATOMS_SHOWN)
    rest = fragment.n_atoms - shown
    rows = [
        (i + 1, chemical_symbols[int(fragment.numbers[i])], *(f"{x:z.6f}" for x in positions[i]))
        for i in range(shown)
    ]
    more = f" (first {shown}; --atoms lists {rest} more)" if rest else ""
    return table([">#", "atom", ">x", ">y", ">z"], rows, title + more)


def _stage(view: View, row: Row, page: Page) -> Iterator[Part]:
    stage = view.stages.get(row.key)
    attempts = view.attempts.get(row.key, ())
    yield _title(f"Stage {row.stage}: {row.state}")
    yield f"workflow {row.workflow}, changed {row.updated:%Y-%m-%d %H:%M:%S} UTC"
    if stage is not None:
        yield from _task(stage)
    if attempts:
        yield _attempts(attempts)
        yield from _environments(attempts)
        yield from _last(attempts[-1], stage, page)
    if row.state is StageState.FAILED:
        yield f"Why it failed: {row.reason}"
        yield f"What to do: {row.remedy or 'see the last attempt'}"
    if row.key in view.records:
        yield from _results(view.records[row.key])


def _task(stage: Stage) -> Iterator[Part]:
    until = f" to {stage.max_force:g} eV/A" if stage.task is TaskKind.OPTIMISATION else ""
    yield f"{stage.task.value}{until} with {level_words(stage.level)}"
    yield f"thresholds: {thresholds_words(stage.level)}"


def _attempts(attempts: Sequence[Attempt]) -> Group:
    return table(_ATTEMPTS, (_attempt(attempt) for attempt in attempts), "Attempts")


def _environments(attempts: Sequence[Attempt]) -> Iterator[Part]:
    """Where and with what attempts ran; one line for those in a row that had the same."""
    for environment, group in groupby(attempts, key=lambda attempt: attempt.environment):
        numbers = [attempt.number for attempt in group]
        words = environment_words(environment) if environment is not None else ""
        named = (
            f"Attempts {numbers[0]} to {numbers[-1]}" if numbers[1:] else f"Attempt {numbers[0]}"
        )
        if words:
            yield f"{named}: {words}"


def _attempt(attempt: Attempt) -> tuple[object, ...]:
    outcome, cost = attempt.outcome, attempt.cost
    failed = isinstance(outcome, Failure)
    return (
        attempt.number,
        rung_words(attempt.rung) + _origin(attempt),
        attempt.worker.host,
        duration(cost.wall_seconds),
        duration(cost.cpu_seconds),
        f"{cost.peak_memory_mb:.0f} MB" if cost.peak_memory_mb else "-",  # under srun
        outcome.kind.value if isinstance(outcome, Failure) else outcome.status,
        outcome.cause if failed and isinstance(outcome, Failure) else "",
    )


def _origin(attempt: Attempt) -> str:
    return "" if attempt.continued_from is None else f" (from attempt {attempt.continued_from})"


def _last(attempt: Attempt, stage: Stage | None, page: Page) -> Iterator[Part]:
    yield from _scf(attempt, stage, page)
    yield from _optimisation(attempt, stage, page)
    if attempt.checks:
        yield table(
            ["check", "required", "found", "passed"],
            ((c.name, c.required, c.found, "yes" if c.passed else "NO") for c in attempt.checks),
            f"Verdict on attempt {attempt.number}",
        )
    if isinstance(attempt.outcome, Failure):
        yield from _evidence(attempt.outcome)


def _scf(attempt: Attempt, stage: Stage | None, page: Page) -> Iterator[Part]:
    iterations = scf_trace(attempt)
    limits = stage.level.thresholds if stage else Thresholds()
    energy = [iteration.energy_change for iteration in iterations]
    density = [iteration.density_change for iteration in iterations]
    gradient = [iteration.orbital_gradient for iteration in iterations]
    yield from _plot("SCF energy change, eV", energy, limits.energy, page)
    yield from _plot("SCF density change", density, limits.density, page)
    if not any(density):
        yield from _plot("SCF orbital gradient, eV", gradient, None, page)


def _optimisation(attempt: Attempt, stage: Stage | None, page: Page) -> Iterator[Part]:
    steps = attempt.optimisation_trace
    if not steps:
        return
    fell = steps[0].energy - steps[-1].energy
    title = f"Largest force, eV/A: {len(steps)} geometry steps, energy lower by {fell:.6f} eV"
    limit = stage.max_force if stage else None
    yield from _plot(title, [step.max_force for step in steps], limit, page)


def _plot(
    title: str, values: Sequence[float | None], limit: float | None, page: Page
) -> Iterator[Part]:
    lines = trace(values, limit, page.width, ink=page.ink)
    if lines:
        yield Text(f"\n{title}", style="bold")
        yield "\n".join(lines)


def _evidence(failure: Failure) -> Iterator[Part]:
    found = {name: value for name, value in failure.evidence.items() if name != "scf_trace"}
    if found:
        yield Text("\nEvidence of the last attempt", style="bold")
        yield "\n".join(f"  {name}: {value}" for name, value in found.items())


def _results(record: Record) -> Iterator[Part]:
    yield table(["quantity", ">value", "unit"], _values(record), f"Result of {record.stage!r}")
    yield from (f"note: {note}" for note in record.result.notes)
    yield from (f"departs from the protocol: {text}" for text in record.deviations)
    yield f"computed by {record.result.engine_version} on {record.provenance.host}"


def _values(record: Record) -> list[tuple[str, str, str]]:
    result = record.result
    force = float(np.linalg.norm(result.forces, axis=1).max())
    dipole = float(np.linalg.norm(result.dipole))
    rows = [("energy", f"{result.energy:.6f}", "eV")]
    rows += [(f"  {name}", f"{part:.6f}", "eV") for name, part in result.energy_parts.items()]
    rows += [("largest force", f"{force:.6f}", "eV/A"), ("dipole", f"{dipole:.4f}", "e*A")]
    levels = {"HOMO": result.homo, "LUMO": result.lumo}
    rows += [(name, f"{value:.4f}", "eV") for name, value in levels.items() if value is not None]
    if result.homo is not None and result.lumo is not None:
        rows.append(("gap", f"{result.lumo - result.homo:.4f}", "eV"))
    if result.spin_squared is not None:
        rows.append(("<S^2>", f"{result.spin_squared:.4f}", ""))
    if result.hirshfeld_ratios is not None:
        ratios = result.hirshfeld_ratios
        rows.append(("Hirshfeld ratios", f"{ratios.min():.3f} to {ratios.max():.3f}", ""))
    return rows


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


_ATTEMPTS: Final = (">#", "rung", "host", ">wall", ">CPU", ">memory", "outcome", "cause")
