"""Twin: a mean field on a device, which runs the SCF and the gradient of a PySCF one on the host.

The SCF of gpu4pyscf does not ask ``check_convergence`` (its class has the name, its kernel calls
nothing), it compares two numbers with ``conv_tol``. So its own test is made impossible,
``conv_tol = 0``, and the callback that it makes after each iteration ends the kernel by an
exception when the host's hook is content. The callback sees the names of PySCF's kernel, and arrays
that are on the device.

The host's gradient brings the matrix from which `convergence.force_change` estimates how forces
change; gpu4pyscf contracts it at once and keeps nothing. Here the change is the difference of two
gradients: what the estimate bounds, at the cost of a second gradient.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from qfarm.engines.pyscf.convergence import FloatArray, ForceChange, State
from qfarm.engines.pyscf.scf import Trace, hook
from qfarm.engines.pyscf.settings import Tolerances
from qfarm_schemas.units import HARTREE_PER_BOHR


class Device(Protocol):
    """Where the twin lives."""

    def twin(self, solver: Any) -> Any:
        """Make a Kohn-Sham object on the device like `solver`: molecule, functional, fitting."""

    def guess(self, density: Any) -> Any:
        """Give a start density from the host in the form that the twin's kernel takes."""

    def there(self, array: FloatArray) -> Any:
        """Copy an array to the device."""

    def back(self, value: Any) -> FloatArray:
        """Copy a number or an array to the host."""

    def version(self) -> str:
        """Say what computes, for the record."""


class _ConvergedError(Exception):
    """Ends the twin's kernel; no error."""


@dataclass(eq=False)
class Twins:
    """A backend of `qfarm.engines.pyscf.compute` that works on a device, for one molecule."""

    device: Device
    _twin: Any = None

    def diis(self, solver: Any, trace: Trace, density: Any, tolerances: Tolerances) -> bool:
        """Run one SCF on the device; `solver` has the last iteration's orbitals afterwards."""
        if density is None:
            density = solver.get_init_guess(solver.mol, solver.init_guess)
        twin = self._like(solver)
        twin.callback = self._watch(trace, tolerances)
        try:
            twin.kernel(dm0=self.device.guess(density))
            solver.converged = False
        except _ConvergedError:
            solver.converged = True
        _take(solver, trace)
        return bool(solver.converged)

    def gradient(self, solver: Any) -> tuple[FloatArray, ForceChange]:
        """PBE0 forces (n_atoms, 3), eV/A, of the state that `solver` holds."""
        forces = self._forces(solver.mo_energy, solver.mo_coeff, solver.mo_occ)
        return forces, _Difference(forces, self._of)

    def version(self) -> str:
        """What has computed."""
        return self.device.version()

    def _like(self, solver: Any) -> Any:
        """The twin, with the grid and the aids that `solver` has now."""
        if self._twin is None:
            self._twin = self.device.twin(solver)
            self._twin.conv_tol, self._twin.conv_tol_grad = 0.0, 0.0
        if self._twin.grids.level != solver.grids.level:  # setting it throws the grid away
            self._twin.grids.level = solver.grids.level
        for name in AIDS:
            setattr(self._twin, name, getattr(solver, name))
        return self._twin

    def _watch(self, trace: Trace, tolerances: Tolerances) -> Callable[[Mapping[str, Any]], None]:
        within = hook(trace.diis_step, tolerances)

        def after_iteration(envs: Mapping[str, Any]) -> None:
            if within({name: self.device.back(envs[name]) for name in NAMES}):
                raise _ConvergedError

        return after_iteration

    def _of(self, state: State) -> FloatArray:
        return self._forces(state.mo_energy, state.mo_coeff, state.mo_occ)

    def _forces(
        self, energies: FloatArray, orbitals: FloatArray, occupied: FloatArray
    ) -> FloatArray:
        twin, there = self._twin, self.device.there
        twin.mo_energy, twin.mo_coeff = there(energies), there(orbitals)
        twin.mo_occ = there(occupied)
        forces: FloatArray = -self.device.back(twin.nuc_grad_method().kernel()) * HARTREE_PER_BOHR
        return forces


@dataclass(frozen=True, eq=False)
class _Difference:
    """How forces change, by a second gradient."""

    forces: FloatArray  # of the last iteration
    of: Callable[[State], FloatArray]

    def change(self, before: State, after: State) -> FloatArray:
        return self.forces - self.of(before)


def _take(solver: Any, trace: Trace) -> None:
    """Leave the last iteration in `solver`, as PySCF's kernel does."""
    last = trace.after
    assert last is not None  # noqa: S101 (every rung has at least one iteration)
    solver.e_tot = last.energy
    solver.mo_energy, solver.mo_coeff = last.mo_energy, last.mo_coeff
    solver.mo_occ = last.mo_occ


NAMES: Final = (
    "dm",
    "dm_last",
    "e_tot",
    "last_hf_e",
    "norm_gorb",
    "mo_energy",
    "mo_occ",
    "mo_coeff",
)
"""Local variables of the kernel that `Trace.diis_step` reads."""

AIDS: Final = ("max_cycle", "diis_space", "level_shift", "damp", "diis_start_cycle")
"""What a rung sets, by the same names in both libraries; tests compare with `scf`."""
