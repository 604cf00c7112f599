"""The SCF: phases of one rung, the trace of their iterations, the stability of the solution.

A plain rung converges on a coarse grid, then on the final one. A rung with aids does both with
them and then closes without: a shifted or damped iteration is short whether or not the density
has converged, so its changes prove nothing. PySCF's own `conv_check` is off: after a convergence
hook its extra cycle reports false failures; the hook here is the only judge of the SCF's end.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from qfarm.engines.base import Job
from qfarm.engines.pyscf.basis import TABLE
from qfarm.engines.pyscf.convergence import FloatArray, State, density_change
from qfarm.engines.pyscf.library import dft, gto
from qfarm.engines.pyscf.quadrature import Quadrature
from qfarm.engines.pyscf.settings import COARSE_GRID, START, Settings, Tolerances, grid_level
from qfarm.engines.pyscf.stability import NEGATIVE, Mode, lowest_mode, lowest_triplet_mode
from qfarm_schemas.result import ScfIteration
from qfarm_schemas.units import BOHR, HARTREE

SMALL_GAP: Final = 3.0
"""eV: a closed shell with a smaller HOMO-LUMO gap is tested for internal stability."""

FOLLOWED: Final = 2
"""How often the second-order rung follows an instability downhill before it is refused."""

MEMORY_SHARE: Final = 0.8
"""PySCF plans its large tensors, not every array, within the memory it is told, what the process
holds already included. Beyond that it keeps the fitted integrals on disk."""

Envs = Mapping[str, Any]


class ScfBreakdownError(ArithmeticError):
    """The SCF gave a number that is not finite."""


@dataclass
class Trace:
    """The iterations of an SCF as they come; keeps the last two states.

    `overlap` is the overlap matrix S, (n_ao, n_ao).
    """

    overlap: FloatArray
    iterations: list[ScfIteration] = field(default_factory=list)
    before: State | None = None
    after: State | None = None

    def start(self) -> None:
        """Begin a phase: nothing is compared across phases."""
        self.before = self.after = None

    def diis_step(self, envs: Envs) -> ScfIteration:
        """Record one iteration of PySCF's SCF kernel from its local variables."""
        density = np.asarray(envs["dm"])
        state = State(
            energy=float(envs["e_tot"]),
            density=density,
            mo_energy=np.asarray(envs["mo_energy"]),
            mo_occ=np.asarray(envs["mo_occ"]),
            mo_coeff=np.asarray(envs["mo_coeff"]),
        )
        self.before, self.after = self.after, state
        return self._add(
            envs,
            eigenvalue_change=_eigenvalue_change(self.before, state),
            density_change=density_change(np.asarray(envs["dm_last"]), density, self.overlap),
        )

    def newton_step(self, envs: Envs) -> ScfIteration:
        """Record one macro iteration of the second-order solver, which has no eigenvalues."""
        return self._add(envs)

    def _add(self, envs: Envs, **changes: float | None) -> ScfIteration:
        energy, gradient = float(envs["e_tot"]), float(envs["norm_gorb"])
        if not np.isfinite([energy, gradient]).all():
            raise ScfBreakdownError(f"energy {energy}, orbital gradient {gradient}")
        iteration = ScfIteration(
            energy=energy * HARTREE,
            energy_change=(energy - float(envs["last_hf_e"])) * HARTREE,
            orbital_gradient=gradient * HARTREE,
            **changes,
        )
        self.iterations.append(iteration)
        return iteration


def _eigenvalue_change(before: State | None, after: State) -> float | None:
    return None if before is None else (after.eigenvalue_sum - before.eigenvalue_sum) * HARTREE


@dataclass(frozen=True)
class Solution:
    """How the SCF ended.

    Attributes
    ----------
    mean_field : pyscf.dft.RKS or UKS
        As PySCF leaves it.
    trace : Trace
        All iterations.
    converged : bool
        Whether every phase ended within its tolerances.
    mode : Mode or None
        Lowest mode of the orbital Hessian; None where not looked for.
    triplet : float or None
        Lowest eigenvalue (Ha) for rotations that differ for the two spins of a closed shell; None
        where not looked for.
    """

    mean_field: Any
    trace: Trace
    converged: bool
    mode: Mode | None = None
    triplet: float | None = None

    @property
    def stable(self) -> bool | None:
        """Internal stability; None where not tested."""
        return None if self.mode is None else self.mode.stable

    @property
    def symmetry_breaks(self) -> bool:
        """Whether an unrestricted solution is known to lie below this closed shell."""
        return self.triplet is not None and self.triplet < NEGATIVE


def molecule(job: Job) -> gto.Mole:
    """PySCF molecule of a job, in bohr: qfarm's conversion factor is the only one."""
    fragment = job.fragment
    return gto.M(
        atom=[
            (int(number), tuple(at))
            for number, at in zip(fragment.numbers, fragment.positions / BOHR, strict=True)
        ],
        unit="Bohr",
        basis=TABLE[job.level.basis].name,
        charge=fragment.charge,
        spin=fragment.multiplicity - 1,
        symmetry=False,
        max_memory=MEMORY_SHARE * job.memory_mb,
        verbose=0,
    )


def mean_field(job: Job) -> Any:
    """Kohn-Sham object of a job: restricted for singlets, unrestricted otherwise."""
    mol = molecule(job)
    kind = dft.RKS if mol.spin == 0 else dft.UKS
    solver = kind(mol, xc=job.level.method)
    solver._chkfile.close()  # opened by PySCF without being asked
    solver.chkfile = solver._chkfile = None
    solver.conv_check = False
    solver._numint = Quadrature()
    return solver.density_fit(auxbasis=TABLE[job.level.basis].auxiliary)


class Diis(Protocol):
    """What runs one SCF by DIIS: PySCF itself (`diis`), or a device in its place."""

    def __call__(self, solver: Any, trace: Trace, density: Any, tolerances: Tolerances) -> bool:
        """Converge `solver`, set up with grid and aids, from `density`; True when it converged.

        Each iteration goes through `trace`; the last one's energy and orbitals are left in
        `solver`. `density` None: PySCF's initial guess.
        """


def diis(solver: Any, trace: Trace, density: Any, tolerances: Tolerances) -> bool:
    """Run PySCF's own SCF."""
    solver.check_convergence = hook(trace.diis_step, tolerances)
    solver.kernel(dm0=density)
    return bool(solver.converged)


def solve(job: Job, settings: Settings, by: Diis = diis) -> Solution:
    """Converge the density of a job and test its stability where `worth_testing` says so."""
    solver = mean_field(job)
    level = grid_level(job.level, job.fragment)
    run = _Run(solver, Trace(solver.get_ovlp()), settings, level, by)
    if not run.phase(COARSE_GRID, settings, _looser(START, settings)):
        return run.ended(converged=False)
    return run.aided() if settings.aided else run.closed()


def worth_testing(solver: Any, settings: Settings) -> bool:
    """Whether to test internal stability: open shells, aided rungs, small gaps.

    The test adds a fifth to a half to the SCF (each step of its Davidson search builds a
    response), and a closed shell with a wide gap has no soft mode to find.
    """
    homo, lumo = frontier(np.asarray(solver.mo_energy), np.asarray(solver.mo_occ))
    small = homo is None or lumo is None or (lumo - homo) * HARTREE < SMALL_GAP
    return bool(solver.mol.spin > 0 or settings.aided or small)


def frontier(mo_energy: FloatArray, mo_occ: FloatArray) -> tuple[float | None, float | None]:
    """HOMO and LUMO over both spins, Ha; None where there is none."""
    occupied, empty = mo_energy[mo_occ > 0], mo_energy[mo_occ == 0]
    homo = float(occupied.max()) if occupied.size else None
    return homo, float(empty.min()) if empty.size else None


def _looser(start: Tolerances, settings: Settings) -> Tolerances:
    """Tolerances of the first phase, never tighter than the rung's own."""
    return Tolerances(
        **{
            name: max(getattr(start, name), getattr(settings, name))
            for name in Tolerances.model_fields
        }
    )


@dataclass(frozen=True)
class _Run:
    """One rung at work on one molecule."""

    solver: Any
    trace: Trace
    settings: Settings
    fine: int  # grid level
    by: Diis

    def aided(self) -> Solution:
        """Converge with the aids; close only what is stable, as plain DIIS leaves a saddle."""
        for _ in range(1 + (FOLLOWED if self.settings.second_order else 0)):
            if not self.phase(self.fine, self.settings, self.settings):
                return self.ended(converged=False)
            mode = self.mode()
            if mode.stable:
                return self.closed()
            self.solver.mo_coeff = mode.orbitals
        return self.ended(converged=True, mode=mode)

    def closed(self) -> Solution:
        """Converge by plain DIIS from the density there is, then test stability."""
        plain = Settings(max_cycle=self.settings.max_cycle, diis_space=self.settings.diis_space)
        if not self.phase(self.fine, plain, self.settings):
            return self.ended(converged=False)
        if not worth_testing(self.solver, self.settings):
            return self.ended(converged=True)
        mode = self.mode()
        external = mode.stable and self.solver.mol.spin == 0
        return self.ended(converged=True, mode=mode, triplet=self.triplet() if external else None)

    def ended(
        self, converged: bool, mode: Mode | None = None, triplet: float | None = None
    ) -> Solution:
        """What there is to report."""
        return Solution(self.solver, self.trace, converged, mode, triplet)

    def mode(self) -> Mode:
        """Lowest mode of the solution, its response on the coarse grid."""
        return lowest_mode(self.solver, _grid(self.solver.mol, COARSE_GRID))

    def triplet(self) -> float:
        """Lowest triplet eigenvalue of a closed shell, its response on the coarse grid, Ha."""
        return lowest_triplet_mode(self.solver, _grid(self.solver.mol, COARSE_GRID))

    def phase(self, level: int, settings: Settings, tolerances: Tolerances) -> bool:
        """Run one SCF from the orbitals there are; True when it converged."""
        self.trace.start()
        if self.solver.grids.level != level:
            self.solver.grids = _grid(self.solver.mol, level)
        density = None if self.solver.mo_coeff is None else self.solver.make_rdm1()
        _apply(self.solver, settings)
        run: Diis = _newton if settings.second_order else self.by
        return run(self.solver, self.trace, density, tolerances)


def _newton(solver: Any, trace: Trace, density: Any, tolerances: Tolerances) -> bool:
    """Run the second-order solver and give its orbitals to `solver`."""
    second = solver.newton()
    second.conv_tol_grad = tolerances.conv_tol_grad / 3  # it rotates no further than this
    second.check_convergence = hook(trace.newton_step, tolerances)
    second.kernel(dm0=density)
    for name in ("mo_coeff", "mo_occ", "mo_energy", "e_tot"):
        setattr(solver, name, getattr(second, name))
    return bool(second.converged)


def _apply(solver: Any, settings: Settings) -> None:
    solver.max_cycle = settings.max_cycle
    solver.diis_space = settings.diis_space
    solver.level_shift = settings.level_shift
    solver.damp = settings.damp
    solver.diis_start_cycle = _DAMPED_CYCLES if settings.damp else 1


def _grid(mol: gto.Mole, level: int) -> Any:
    grid = dft.gen_grid.Grids(mol)
    grid.level = level
    return grid


def hook(step: Callable[[Envs], ScfIteration], tolerances: Tolerances) -> Callable[[Envs], bool]:
    """PySCF's convergence hook: record the iteration, then compare it with `tolerances`."""

    def within(envs: Envs) -> bool:
        return all(_comparisons(step(envs), tolerances))

    return within


def _comparisons(iteration: ScfIteration, tolerances: Tolerances) -> Iterator[bool]:
    yield _small(iteration.energy_change, tolerances.conv_tol * HARTREE)
    yield _small(iteration.orbital_gradient, tolerances.conv_tol_grad * HARTREE)
    if iteration.density_change is not None:
        yield _small(iteration.density_change, tolerances.conv_tol_density)
        yield _small(iteration.eigenvalue_change, tolerances.conv_tol_eigenvalues * HARTREE)


def _small(value: float | None, limit: float) -> bool:
    return value is not None and abs(value) < limit


_DAMPED_CYCLES: Final = 8
