"""The FHI-aims double's calculation: numbers from the input, iterations, end of the run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from doubles import aims_head, aims_input, aims_text, physics
from doubles.aims_input import Input
from doubles.answer import Answer, End
from doubles.misbehaviour import Act
from doubles.physics import Molecule
from qfarm_schemas.units import AIMS_BOHR

TIERS: Final = {"tight": 1.0, "intermediate": 0.9999, "light": 0.999}
"""Factors on the energy, so that a wrong basis shows."""

METHODS: Final = {"pbe0": 1.0, "pbe": 1.0005, "hse06": 0.9998}

FIRST: Final = {"rho": 1.0, "eev": 300.0, "etot": 30.0, "forces": 5.0}
"""Changes in the first iteration (the forces': in their first)."""

FALL: Final = 4.0
"""Factor by which changes fall from iteration to iteration."""

DISTURBED: Final = 1e-4
"""How much smaller the first changes are after a restart."""


@dataclass(frozen=True)
class Run:
    """One run; `Task` of the player."""

    given: Input

    @property
    def text(self) -> str:
        """What rules of a plan match."""
        return self.given.control

    @property
    def molecule(self) -> Molecule:
        """What is asked for."""
        return self.given.molecule

    def answer(self, molecule: Molecule) -> Answer:
        """Compute a geometry."""
        level = TIERS.get(self.given.tier, 0.99) * METHODS.get(self.given.words["xc"], 0.999)
        pairs, forces = physics.energy_and_forces(molecule, level)
        volumes = physics.ratios(molecule)
        return Answer(
            molecule=molecule,
            energy=level * physics.atomic_energy(molecule) + pairs,
            forces=forces,
            ratios=volumes,
            dispersion=self._dispersion(molecule, volumes),
            method=self.given.words["xc"],
            force_rows=len(forces),
        )

    def _dispersion(self, molecule: Molecule, volumes: physics.FloatArray) -> float | None:
        if not self.given.dispersion:
            return None
        energy = physics.dispersion(molecule, volumes, self.given.beta, AIMS_BOHR)
        return energy * (physics.MBD_NL_SHARE if self.given.dispersion == "mbd-nl" else 1.0)

    def script(self, answer: Answer, act: Act) -> "Performance":
        """What is printed."""
        return Performance(self.given, answer, act)


@dataclass(frozen=True)
class Performance:
    """An output in pages; `Script` of the player."""

    given: Input
    answer: Answer
    act: Act
    pause: float = 0.0
    stop_file: str = "abort_scf"
    files: Mapping[str, str | bytes] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """All before the first iteration; of two runs where the plan wants a stale output."""
        head = aims_head.head(self.given, self.answer)
        if not self.act.stale:
            return head
        whole = "".join((head, *self.steps, self.end(len(self.steps)).text))
        return whole + head

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """The SCF iterations."""
        if self._overlap_fails:
            return ()
        return tuple(
            aims_text.iteration(
                self.given, self.answer, number, changes, last=number == len(self._all)
            )
            for number, changes in enumerate(self._all, start=1)
        )

    @cached_property
    def _all(self) -> tuple[dict[str, float], ...]:
        return changes(self.given, self.answer.converged)

    @property
    def _overlap_fails(self) -> bool:
        overridden = self.given.words.get("override_illconditioning", "") == ".true."
        return self.act.ill_conditioned and not overridden

    def during(self, done: int) -> Mapping[str, str | bytes]:
        """The density, every few iterations."""
        return dict.fromkeys(self.given.written(done), b"CSC\0" * 16)

    def end(self, done: int) -> End:
        """The end after so many iterations."""
        if self._overlap_fails:
            return End(aims_text.ill_conditioned(), code=1)
        if self.answer.converged and done == len(self._all):
            return End(aims_text.converged_end(self.given, self.answer, done))
        return End(aims_text.unconverged_end(self.given, self.answer, done), code=1)


def read(folder: Path) -> Run:
    """Read the input of a folder."""
    return Run(aims_input.read(folder))


def changes(given: Input, converges: bool) -> tuple[dict[str, float], ...]:
    """Changes of each iteration, by the name of their threshold; forces only when computed."""
    limits = given.thresholds
    made: list[dict[str, float]] = []
    now = {
        name: FIRST[name] * (DISTURBED if given.restarted else 1.0)
        for name in ("rho", "eev", "etot")
    }
    while len(made) < given.iterations:
        made.append(dict(now))
        if converges and all(now[name] <= limits[name] for name in now):
            break
        now = {
            name: value / FALL if converges else _stuck(value, len(made))
            for name, value in now.items()
        }
    if converges and given.wants_forces and len(made) < given.iterations:
        made += _with_forces(now, limits.get("forces"))
    return tuple(made)


def _stuck(value: float, number: int) -> float:
    """Changes that fall for a while, then go up and down for ever."""
    return value / FALL if number < 8 else value * (3.0 if number % 2 else 1 / 3.0)


def _with_forces(now: dict[str, float], limit: float | None) -> list[dict[str, float]]:
    """The iterations with forces: the first has nothing to compare with."""
    first = now | {"forces": FIRST["forces"]}
    quiet = {name: value / FALL for name, value in now.items()}
    return [first] if limit is None else [first, quiet | {"forces": limit / 20}]
