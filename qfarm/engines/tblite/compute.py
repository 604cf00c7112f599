"""The child process of the tblite engine: from ``job.json`` to a result or a failure."""

from pathlib import Path

import ase
import numpy as np
from tblite.library import get_version

from qfarm.engines import inprocess
from qfarm.engines.base import Job
from qfarm.engines.tblite import failures, properties
from qfarm.engines.tblite.optimise import Relaxed, optimise
from qfarm.engines.tblite.scc import Positions, Scc, State, changes
from qfarm.engines.tblite.settings import SccSettings, temperature
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import TaskKind
from qfarm_schemas.result import Result

ELECTRONS_TOLERANCE = 1e-3
"""e: rounding allowed between the sum of charges and the charge of the fragment."""


def main(folder: Path) -> None:
    """Do the job in `folder`."""
    inprocess.save(folder, compute(inprocess.read_job(folder)))


def compute(job: Job) -> Result | Failure:
    """Compute a single point, or optimise and compute the geometry that was found."""
    scc = Scc.open(job.fragment, job.level, SccSettings.model_validate(job.scf))
    if isinstance(scc, Failure):
        return scc
    if job.stage.task is TaskKind.SINGLE_POINT:
        return _final(scc, job, job.fragment.positions)
    relaxed = optimise(scc, job)
    if isinstance(relaxed, Failure):
        return relaxed
    return _final(scc, job, relaxed.positions, relaxed)


def _final(
    scc: Scc, job: Job, positions: Positions, relaxed: Relaxed | None = None
) -> Result | Failure:
    """Compute the final geometry anew.

    The SCC does not start from the last step's, so that the numbers belong to the geometry and
    not to the way to it: a single point there gives the same.
    """
    first = scc.solve(positions)
    if isinstance(first, Failure):
        return _at_the_end(first, relaxed)
    second = scc.confirm(positions, first)
    if isinstance(second, Failure):
        return _at_the_end(second, relaxed)
    total = float(properties.charges(second).sum())
    if abs(total - job.fragment.charge) > ELECTRONS_TOLERANCE:
        return failures.lost_electrons(job.fragment, total)
    return _result(job, positions, (first, second), relaxed)


def _at_the_end(failure: Failure, relaxed: Relaxed | None) -> Failure:
    return failures.during_optimisation(failure, relaxed.trace if relaxed else ())


def _result(
    job: Job, positions: Positions, states: tuple[State, State], relaxed: Relaxed | None
) -> Result:
    first, final = states
    frontier = properties.orbitals(final, job.fragment)
    return Result(
        numbers=job.fragment.numbers,
        positions=np.array(positions),
        energy=final.energy,
        forces=final.forces,
        dipole=properties.dipole(final, job.fragment, positions),
        charges={"mulliken": properties.charges(final)},
        homo=frontier.homo,
        lumo=frontier.lumo,
        convergence=changes(first, final),
        scf_trace=final.trace,
        optimisation_trace=relaxed.trace if relaxed else (),
        geometry_converged=True if relaxed else None,
        notes=properties.notes(frontier, job.fragment, temperature(job.level)),
        engine_version=_version(job),
    )


def _version(job: Job) -> str:
    tblite = f"tblite {'.'.join(map(str, get_version()))}, {job.level.method}"
    return tblite if job.stage.task is TaskKind.SINGLE_POINT else f"{tblite}; ASE {ase.__version__}"
