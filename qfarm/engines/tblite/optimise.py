"""Geometry optimisation: ASE's optimisers on the energy surface of the SCC."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS, FIRE, BFGSLineSearch

from qfarm.engines.base import Job
from qfarm.engines.tblite import failures
from qfarm.engines.tblite.scc import Positions, Scc, State
from qfarm.engines.tblite.settings import GeometrySettings
from qfarm_schemas.attempt import Failure
from qfarm_schemas.result import OptimisationStep

AIM: Final = 0.99
"""Part of the largest force allowed at which the optimiser ends: the result's forces come from
a new and tighter SCC (see `scc`), and their last digits may lie above the optimiser's."""

CALM: Final = 0.5
"""eV/A: FIRE hands over when no atom feels more."""


@dataclass(frozen=True)
class Relaxed:
    """An optimised geometry: positions (n_atoms, 3) in A, and every step."""

    positions: Positions
    trace: tuple[OptimisationStep, ...]


class _Stopped(Exception):  # noqa: N818 - carries a failure out of ASE, is no error of ours
    """The SCC failed at a geometry that the optimiser asked for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.cause)
        self.failure = failure


class _Surface(Calculator):
    """Energy and forces for ASE; each SCC starts from the last one."""

    def __init__(self, scc: Scc) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.implemented_properties = ["energy", "forces"]
        self._scc = scc
        self._state: State | None = None

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        """Compute the atoms' geometry."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        outcome = self._scc.step(np.array(atoms.positions), self._state)
        if isinstance(outcome, Failure):
            raise _Stopped(outcome)
        self._state = outcome
        self.results = {"energy": outcome.energy, "forces": outcome.forces}


def optimise(scc: Scc, job: Job) -> Relaxed | Failure:
    """Move the atoms until no atom feels more than the stage's largest force.

    Returns
    -------
    Relaxed or Failure
        A failure keeps energy and largest force of every step as evidence.
    """
    settings = GeometrySettings.model_validate(job.geometry)
    atoms = Atoms(job.fragment.numbers, job.fragment.positions, calculator=_Surface(scc))
    trace: list[OptimisationStep] = []
    error = ""
    try:
        converged = _relax(atoms, job, settings, trace)
    except _Stopped as stopped:
        return failures.during_optimisation(stopped.failure, trace)
    except RuntimeError as raised:  # BFGSLineSearch gives up by this
        converged, error = False, str(raised)
    if converged:
        return Relaxed(np.array(atoms.positions), tuple(trace))
    return failures.not_relaxed(trace, job.stage.max_force, settings.optimiser, error)


def _relax(atoms: Any, job: Job, settings: GeometrySettings, trace: list[OptimisationStep]) -> bool:
    aim, steps = AIM * job.stage.max_force, job.stage.max_steps
    if settings.calm_steps:
        fire = FIRE(atoms, logfile=None, trajectory=None, maxstep=settings.max_step)
        _follow(fire, atoms, trace, max(CALM, aim), min(settings.calm_steps, steps))
        steps -= fire.nsteps
    made = _OPTIMISERS[settings.optimiser]
    optimiser = made(atoms, logfile=None, trajectory=None, maxstep=settings.max_step)
    return _follow(optimiser, atoms, trace, aim, steps)


def _follow(
    optimiser: Any, atoms: Any, trace: list[OptimisationStep], aim: float, steps: int
) -> bool:
    """Run an optimiser and write its steps down; the geometry it starts from only once."""
    converged = False
    for now in optimiser.irun(fmax=aim, steps=steps):
        converged = bool(now)
        if optimiser.nsteps or not trace:
            trace.append(_step(atoms))
    return converged


def _step(atoms: Any) -> OptimisationStep:
    largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
    return OptimisationStep(energy=atoms.get_potential_energy(), max_force=float(largest))


_OPTIMISERS: Final[dict[str, Callable[..., Any]]] = {
    "bfgs": BFGS,
    "bfgs-line-search": BFGSLineSearch,
}
