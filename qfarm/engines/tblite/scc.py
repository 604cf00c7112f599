"""The SCC calculation by tblite, and how well it converged.

The four quantities of the verdict are measured, not taken from tblite's word. The SCC converges
at the rung's accuracy (state 1) and is restarted from there at an accuracy `TIGHTER` times as
tight (state 2), which runs at least two more iterations. State 2 is the result, and

- energy = abs(E_2 - E_1), eV; E is the free energy at the electronic temperature (with -T S);
- eigenvalues = abs(S_2 - S_1), eV; S = sum_i n_i e_i, occupation n_i times orbital energy e_i;
- density = the larger of max_A abs(q_2 - q_1), q the Mulliken charge of atom A, and
  max_mn abs(P_2 - P_1), P the density matrix in the method's basis of normalised functions, e
  (an atom alone keeps its charge whatever its density does, hence P; q adds up what many
  elements of P share);
- forces = the largest component of abs(F_2 - F_1), eV/A.

They are the whole error that state 1 still had, not its last change alone; what remains in
state 2 is smaller by a factor of 30 and more (measured: ADR on the tblite thresholds).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator

from qfarm.engines.tblite import failures, trace
from qfarm.engines.tblite.settings import SccSettings, temperature
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Convergence, ScfIteration
from qfarm_schemas.units import BOHR, HARTREE, HARTREE_PER_BOHR, KELVIN

TIGHTER: Final = 100.0
"""Factor between the accuracies of state 1 and state 2."""

ROUGHER: Final = 10.0
"""Factor between the accuracies of a geometry step and of state 1."""

Positions = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """A converged SCC.

    Attributes
    ----------
    raw : tblite.interface.Result
        tblite's result, atomic units.
    trace : tuple of ScfIteration
        The iterations that led to it.
    """

    raw: Any
    trace: tuple[ScfIteration, ...]

    @property
    def energy(self) -> float:
        """Free energy at the electronic temperature, eV."""
        return float(self.raw["energy"]) * HARTREE

    @property
    def forces(self) -> Positions:
        """Forces, (n_atoms, 3), eV/A."""
        forces: Positions = np.asarray(self.raw["gradient"]) * -HARTREE_PER_BOHR
        return forces

    @property
    def eigenvalue_sum(self) -> float:
        """Sum of occupied orbital energies, eV."""
        return float(self.raw["orbital-energies"] @ self.raw["orbital-occupations"]) * HARTREE


class Scc:
    """A fragment at a level of theory, ready for SCC calculations at any geometry."""

    def __init__(
        self, calculator: Any, log: list[str], settings: SccSettings, kelvin: float
    ) -> None:
        self._calculator = calculator
        self._log = log
        self._settings = settings
        self._target = kelvin
        self._kelvin = kelvin

    @classmethod
    def open(
        cls, fragment: Fragment, level: LevelOfTheory, settings: SccSettings
    ) -> Self | Failure:
        """Set tblite up; Failure when it refuses the fragment."""
        log: list[str] = []
        try:
            calculator = Calculator(
                level.method,
                fragment.numbers,
                fragment.positions / BOHR,
                charge=float(fragment.charge),
                uhf=fragment.multiplicity - 1,
                color=False,
                logger=log.append,
            )
        except TBLiteRuntimeError as error:
            return failures.of_tblite(str(error), (), temperature(level))
        calculator.set("max-iter", settings.max_iterations)
        calculator.set("mixer-damping", settings.damping)
        calculator.set("mixer-memory", settings.memory)
        return cls(calculator, log, settings, temperature(level))

    def solve(self, positions: Positions) -> State | Failure:
        """Converge the charges at the rung's accuracy: state 1."""
        return self._anew(positions, self._settings.accuracy)

    def step(self, positions: Positions, start: State | None) -> State | Failure:
        """Converge the charges well enough for a geometry step.

        Parameters
        ----------
        positions : (n_atoms, 3) float
            A.
        start : State or None
            State of a geometry nearby. When the SCC fails from there it is begun anew.
        """
        accuracy = self._settings.accuracy * ROUGHER
        if start is not None:
            outcome = self._converge(positions, (self._target,), start, accuracy)
            if not _is_scc(outcome):
                return outcome
        return self._anew(positions, accuracy)

    def confirm(self, positions: Positions, state: State) -> State | Failure:
        """Restart from `state` at an accuracy `TIGHTER` times as tight: state 2."""
        accuracy = self._settings.accuracy / TIGHTER
        outcome = self._converge(positions, (self._target,), state, accuracy)
        if isinstance(outcome, Failure):
            return outcome
        joined = _joined(state.trace, outcome.trace)
        return State(outcome.raw, joined)

    def _anew(self, positions: Positions, accuracy: float) -> State | Failure:
        return self._converge(positions, tuple(self._temperatures()), None, accuracy)

    def _temperatures(self) -> Iterator[float]:
        hot = self._settings.start_temperature
        if hot is not None:
            yield from np.geomspace(hot, self._target, self._settings.temperatures)[:-1].tolist()
        yield self._target

    def _converge(
        self,
        positions: Positions,
        temperatures: Sequence[float],
        start: State | None,
        accuracy: float,
    ) -> State | Failure:
        self._log.clear()
        try:
            raw = self._run(positions, temperatures, start, accuracy)
        except TBLiteRuntimeError as error:
            return failures.of_tblite(str(error), trace.read(self._log), self._kelvin)
        state = State(raw, trace.read(self._log))
        finite = np.isfinite(state.energy) and np.isfinite(state.forces).all()
        return state if finite else failures.not_finite(state.trace)

    def _run(
        self,
        positions: Positions,
        temperatures: Sequence[float],
        start: State | None,
        accuracy: float,
    ) -> Any:
        self._calculator.update(positions / BOHR)
        self._calculator.set("accuracy", accuracy)
        raw = start.raw if start else None
        for kelvin in temperatures:
            self._kelvin = kelvin
            self._calculator.set("temperature", kelvin * KELVIN / HARTREE)
            raw = self._calculator.singlepoint(raw, copy=True)
        return raw


def changes(first: State, second: State) -> Convergence:
    """The four quantities of the module's description."""
    charges = np.abs(second.raw["charges"] - first.raw["charges"]).max()
    matrix = np.abs(second.raw["density-matrix"] - first.raw["density-matrix"]).max()
    return Convergence(
        energy=abs(second.energy - first.energy),
        eigenvalues=abs(second.eigenvalue_sum - first.eigenvalue_sum),
        density=float(max(charges, matrix)),
        forces=float(np.abs(second.forces - first.forces).max()),
    )


def _is_scc(outcome: State | Failure) -> bool:
    return isinstance(outcome, Failure) and outcome.kind is FailureKind.SCF_NOT_CONVERGED


def _joined(
    first: tuple[ScfIteration, ...], second: tuple[ScfIteration, ...]
) -> tuple[ScfIteration, ...]:
    if not first or not second:
        return first + second
    change = second[0].energy - first[-1].energy
    return (*first, second[0].model_copy(update={"energy_change": change}), *second[1:])
