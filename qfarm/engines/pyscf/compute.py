"""One calculation in the child process: job in, result or failure out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qfarm.engines import inprocess
from qfarm.engines.base import Job
from qfarm.engines.hirshfeld import FreeAtomError, Hirshfeld
from qfarm.engines.mbd import MbdCollapse, MbdResult, mbd_energy_and_gradient
from qfarm.engines.pyscf import failures, properties, scf
from qfarm.engines.pyscf.convergence import FloatArray, ForceChange, convergence
from qfarm.engines.pyscf.library import lib
from qfarm.engines.pyscf.matrices import matrices, too_large
from qfarm.engines.pyscf.scf import ScfBreakdownError, Solution, Trace, frontier, solve
from qfarm.engines.pyscf.settings import Settings, Tolerances, settings
from qfarm.verdict import CLOSEST, closest_distance
from qfarm_schemas.attempt import Failure
from qfarm_schemas.matrices import asked
from qfarm_schemas.result import Result
from qfarm_schemas.units import HARTREE


class Backend(Protocol):
    """Who does the two things that cost time, the SCF and the gradient."""

    def diis(self, solver: Any, trace: Trace, density: Any, tolerances: Tolerances) -> bool:
        """Run one SCF, as `scf.Diis` says."""

    def gradient(self, solver: Any) -> tuple[FloatArray, ForceChange]:
        """PBE0 forces (n_atoms, 3) of the converged `solver`, eV/A, and how they change."""

    def version(self) -> str:
        """What goes into the record as the engine's version."""


class Host:
    """PySCF does all."""

    diis = staticmethod(scf.diis)
    gradient = staticmethod(properties.gradient)
    version = staticmethod(properties.version)


def main(folder: Path) -> None:
    """Compute the job in `folder` and leave the outcome there."""
    main_by(folder, compute)


def main_by(folder: Path, computing: Callable[[Job], Result | Failure]) -> None:
    """Let `computing` compute the job in `folder`, and leave the outcome there."""
    job = inprocess.read_job(folder)
    with _within(folder), lib.with_omp_threads(job.threads):
        inprocess.save(folder, computing(job))


def compute(job: Job, backend: Backend | None = None) -> Result | Failure:
    """Run one single point; PySCF does what no `backend` is given for."""
    try:
        return _single_point(job, settings(job), backend or Host())
    except (ScfBreakdownError, np.linalg.LinAlgError) as error:
        return failures.broken_down(error)
    except FreeAtomError as error:
        return failures.no_free_atom(error)
    except MbdCollapse as error:
        return failures.mbd_collapse(error)
    except MemoryError as error:
        return failures.out_of_memory(error, job)


def _single_point(job: Job, aids: Settings, backend: Backend) -> Result | Failure:
    closest = closest_distance(job.fragment.positions)
    if closest < CLOSEST:
        return failures.collapsed(closest)
    if (basis := too_large(job)) is not None:
        return failures.matrices_too_large(basis)
    solution = solve(job, aids, backend.diis)
    if not solution.converged:
        return failures.not_converged(solution)
    if solution.stable is False:
        return failures.unstable(solution)
    shares = properties.partition(solution.mean_field, job.level)
    return _result(job, solution, shares, _dispersion(job, shares), backend)


def _dispersion(job: Job, shares: Hirshfeld) -> MbdResult | None:
    """MBD@rsSCS of the fragment; None when the level has no dispersion."""
    beta, fragment = job.level.mbd_beta, job.fragment
    if beta is None:
        return None
    return mbd_energy_and_gradient(fragment.numbers, fragment.positions, shares.ratios, beta)


def _result(
    job: Job,
    solution: Solution,
    shares: Hirshfeld,
    dispersion: MbdResult | None,
    backend: Backend,
) -> Result:
    solver, trace = solution.mean_field, solution.trace
    forces, gradient = backend.gradient(solver)
    parts = {job.level.method: float(solver.e_tot) * HARTREE}
    if dispersion is not None:
        parts["MBD"] = dispersion.energy
    assert trace.before is not None  # noqa: S101 (a converged SCF has compared two iterations)
    assert trace.after is not None  # noqa: S101
    homo, lumo = frontier(trace.after.mo_energy, trace.after.mo_occ)
    return Result(
        numbers=job.fragment.numbers,
        positions=job.fragment.positions,
        energy=sum(parts.values()),
        energy_parts=parts,
        forces=forces if dispersion is None else forces + dispersion.forces,
        dipole=properties.dipole(solver),
        charges={
            "mulliken": properties.mulliken(solver, trace.overlap),
            "hirshfeld": shares.charges,
        },
        hirshfeld_ratios=shares.ratios,
        homo=_in_ev(homo),
        lumo=_in_ev(lumo),
        spin_squared=properties.spin_squared(solver),
        matrices=matrices(solver, trace.overlap, asked(job.level.options)),
        convergence=convergence(trace.before, trace.after, gradient, trace.overlap),
        scf_trace=tuple(trace.iterations),
        stable=solution.stable,
        notes=(
            *properties.notes(job.fragment, job.level, forces, shares.ratios),
            *_state_notes(solution),
        ),
        engine_version=backend.version(),
    )


def _state_notes(solution: Solution) -> Iterator[str]:
    """What is known against the state that the SCF has found."""
    if solution.symmetry_breaks:
        yield (
            "the closed shell may be the wrong state: an unrestricted, broken-symmetry solution "
            f"lies lower (triplet eigenvalue of the orbital Hessian {solution.triplet:.3f} Ha), as "
            "in biradicals and stretched bonds; compare with multiplicity 3, or leave the fragment "
            "out of the training set"
        )


def _in_ev(energy: float | None) -> float | None:
    return None if energy is None else energy * HARTREE


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    """Keep PySCF's temporary files in `folder`."""
    parameters: Any = lib.param
    before, parameters.TMPDIR = parameters.TMPDIR, str(folder)
    try:
        yield
    finally:
        parameters.TMPDIR = before
