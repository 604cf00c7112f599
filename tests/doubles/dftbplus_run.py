"""The DFTB+ double: from the input to the output in pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from doubles import dftbplus_files, dftbplus_input, dftbplus_text
from doubles.answer import Answer, End
from doubles.dftbplus_input import Input
from doubles.dftbplus_physics import computed, gradient_limit, largest, potential, relaxed, total
from doubles.misbehaviour import Act
from doubles.physics import FloatArray, Molecule
from qfarm_schemas.units import DFTBPLUS_HARTREE


@dataclass(frozen=True)
class Run:
    """One run; `Task` of the player. `way` holds the positions of every step once computed."""

    given: Input
    way: list[FloatArray] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What rules of a plan match."""
        return self.given.text

    @property
    def molecule(self) -> Molecule:
        """The geometry to start from."""
        return self.given.molecule

    def answer(self, molecule: Molecule) -> Answer:
        """Relax, where that is wanted, and compute the last geometry."""
        self.way[:] = relaxed(self.given, molecule)
        return computed(self.given, replace(molecule, positions=self.way[-1]))

    def script(self, answer: Answer, act: Act) -> "Performance":
        """What is printed and left."""
        return Performance(self.given, answer, act, tuple(self.way))


@dataclass(frozen=True)
class Performance:
    """An output in pages; `Script` of the player."""

    given: Input
    answer: Answer
    act: Act
    way: tuple[FloatArray, ...]
    pause: float = 0.0
    stop_file: str = "stop_driver"

    @property
    def files(self) -> Mapping[str, str | bytes]:
        """What lies there from the start of the calculation on."""
        if self._error:
            return {}
        old = dftbplus_files.left(self.given, self.answer, step=0, converged=True)
        return old if self.act.stale else {"results.tag": "", "dftb_pin.hsd": self.given.text}

    @property
    def head(self) -> str:
        """All before the first step."""
        return dftbplus_text.head(self.given, self.answer, read_to_end=not self._error)

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """The geometry steps; those before the last have the last one's dispersion energy."""
        if self._error or self.act.stale:
            return ()
        if not self.answer.converged or self._collapsed:
            return (dftbplus_text.scc(self.given, self.answer),)
        pages, before = [], None
        for number in range(len(self.way)):
            here = self._at(number)
            pages.append(dftbplus_text.step(self.given, here, number, before))
            before = here
        return tuple(pages)

    def _at(self, number: int) -> Answer:
        """A step's numbers; the last one's are those that the plan may have spoilt."""
        if number == len(self.way) - 1:
            return self.answer
        molecule = replace(self.answer.molecule, positions=self.way[number])
        energy, forces = potential(molecule)
        return replace(self.answer, molecule=molecule, energy=energy, forces=forces)

    @cached_property
    def _error(self) -> str:
        """What is wrong with the input; empty when nothing is."""
        missing, unknown = self.given.missing(), self.given.unknown()
        if missing:
            return dftbplus_text.missing_file(missing)
        if unknown:
            return dftbplus_text.unknown_words(unknown)
        return ""

    @property
    def _collapsed(self) -> bool:
        return self.answer.dispersion is not None and not np.isfinite(self.answer.dispersion)

    def during(self, done: int) -> Mapping[str, str | bytes]:
        """The geometry of the step."""
        if self.given.driver is None or len(self.steps) != len(self.way):
            return {}
        here = self._at(done - 1)
        return {
            "geo_end.gen": dftbplus_files.gen(self.given, here),
            "geo_end.xyz": dftbplus_files.xyz(here, done - 1),
        }

    def end(self, done: int) -> End:
        """The end after so many steps."""
        if self._error:
            return End(self._error, code=1)
        if self.act.stale:
            return End(dftbplus_text.error("Could not open the file 'charges.bin'"), code=1)
        if not self.answer.converged:
            return End(dftbplus_text.not_converged(), code=1)
        if self._collapsed:
            return End(dftbplus_text.error("CDM Hamiltonian has 3 negative eigenvalues"), code=1)
        last = self._last(done)
        relaxed_now = largest(last) <= gradient_limit(self.given)
        stopped = done < len(self.way)
        text = dftbplus_text.end(self.given, relaxed_now, stopped, self.stop_file)
        return End(text, files=dftbplus_files.left(self.given, last, done - 1, relaxed_now))

    def _last(self, done: int) -> Answer:
        """The last step's numbers; the total energy of a stopped run stays as it was printed."""
        if done == len(self.way):
            return self.answer
        printed = self._at(done - 1)
        own = computed(self.given, printed.molecule)
        return replace(own, energy=own.energy + (total(printed) - total(own)) * DFTBPLUS_HARTREE)


def read(folder: Path) -> Run:
    """Read the input of a folder."""
    return Run(dftbplus_input.read(folder))
