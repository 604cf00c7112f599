"""Read an output once: `Output` holds all that the judge and the parser need. Pure."""

from dataclasses import dataclass
from functools import cached_property

from qfarm.engines.aims.output import echo, properties, run, scf
from qfarm.engines.aims.output.page import Page, index
from qfarm.engines.aims.output.properties import Hirshfeld
from qfarm.engines.aims.output.run import Abort


@dataclass(frozen=True)
class Output:
    """All that is read of an output; the functions named say what and in which unit."""

    text: str
    page: Page

    @cached_property
    def starts(self) -> int:
        """`run.starts`."""
        return run.starts(self.text)

    @cached_property
    def abort(self) -> Abort | None:
        """`run.abort`."""
        return run.abort(self.page)

    @cached_property
    def version(self) -> str:
        """`run.version`."""
        return run.version(self.page)

    @cached_property
    def geometry(self) -> echo.Geometry | None:
        """`echo.geometry`."""
        return echo.geometry(self.page)

    @cached_property
    def control(self) -> list[str] | None:
        """control.in as repeated; None where it is not."""
        return echo.input_file(self.page, "control.in")

    @cached_property
    def trace(self) -> tuple[scf.Iteration, ...]:
        """`scf.iterations`."""
        return scf.iterations(self.page)

    @cached_property
    def energy(self) -> float | None:
        """`properties.energy`."""
        return properties.energy(self.page)

    @cached_property
    def forces(self) -> list[tuple[float, ...]]:
        """`properties.forces`."""
        return properties.forces(self.page)

    @cached_property
    def dipole(self) -> tuple[float, ...] | None:
        """`properties.dipole`."""
        return properties.dipole(self.page)

    @cached_property
    def hirshfeld(self) -> list[Hirshfeld]:
        """`properties.hirshfeld`."""
        return properties.hirshfeld(self.page)

    @cached_property
    def frontier(self) -> tuple[float | None, float | None]:
        """`properties.frontier`."""
        return properties.frontier(self.page)

    @cached_property
    def gap(self) -> float | None:
        """HOMO-LUMO gap of the last iteration, eV."""
        homo, lumo = self.frontier
        return None if homo is None or lumo is None else lumo - homo

    @cached_property
    def mbd_energy(self) -> float | None:
        """`properties.mbd_energy`, Ha."""
        return properties.mbd_energy(self.page)


def read(text: str) -> Output:
    """Read an output; whatever the text is, this does not fail."""
    return Output(text, index(text))
