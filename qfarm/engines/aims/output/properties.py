"""Properties: energy, forces, dipole, Hirshfeld partition, orbital energies, dispersion. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.aims.output.page import Page, number, numbers
from qfarm.engines.aims.output.scf import BEGIN, TABLE, TOTAL, electronvolt

FORCES: Final = "Total atomic forces (unitary forces cleaned) [eV/Ang]"
HIRSHFELD: Final = "Performing Hirshfeld analysis of fragment charges and moments."
VBM: Final = "Highest occupied state (VBM) at"
CBM: Final = "Lowest unoccupied state (CBM) at"
UNCORRECTED: Final = "| Total energy uncorrected"
FREE: Final = "| Electronic free energy"
DIPOLE: Final = "| Total dipole moment [eAng]"

_FIRST_GUESS: Final = "End scf initialization - timings"
_FORCE: Final = re.compile(r"\s*\|\s*(?P<place>\d{1,9})\s+(?P<force>\S+\s+\S+\s+\S+)\s*")
_ATOM: Final = re.compile(r"\|\s*Atom\s+\d+")


@dataclass(frozen=True)
class Hirshfeld:
    """One atom: symbol, charge (e), volumes (bohr^3) of the free atom and of the atom here."""

    symbol: str
    charge: float
    free: float
    volume: float


def energy(page: Page) -> float | None:
    """Total energy with dispersion, not extrapolated to zero smearing, eV."""
    return _last_number(page, UNCORRECTED)


def table_energy(page: Page) -> float | None:
    """Total energy in the last table of energies, eV, 8 decimals."""
    place = page.last(TOTAL)
    return None if place is None else electronvolt(page.lines[place])


def free_energy(page: Page) -> float | None:
    """Electronic free energy in the final block, eV: differs when states are partly occupied."""
    start, free = page.last(UNCORRECTED), page.last(FREE)
    if start is None or free is None or free < start:
        return None
    return _last_number(page, FREE)


def forces(page: Page) -> list[tuple[float, ...]]:
    """Rows of the final forces, eV/A, up to the first that is missing or unreadable."""
    start = page.last(FORCES)
    rows: list[tuple[float, ...]] = []
    for line in page.lines[start + 1 :] if start is not None else ():
        row = _FORCE.fullmatch(line)
        force = numbers(row["force"], 3) if row else None
        if row is None or force is None or int(row["place"]) != len(rows) + 1:
            break
        rows.append(force)
    return rows


def force_tables(page: Page) -> int:
    """Tables of final forces; a single point has one."""
    return page.count(FORCES)


def net_force(page: Page) -> tuple[float, ...] | None:
    """Sum of the forces before the program removed it, eV/A."""
    place = page.last("Atomic forces before filtering")
    if place is None or place + 1 >= len(page.lines):
        return None
    key, _, value = page.lines[place + 1].partition(":")
    return numbers(value, 3) if key.strip() == "| Net force on center of mass" else None


def dipole(page: Page) -> tuple[float, ...] | None:
    """Dipole moment about (0, 0, 0) of the input's coordinates, e*A.

    The program sums Z r over the nuclei, minus the integral of r rho(r), in the coordinates of
    geometry.in (its ``evaluate_moment_p1``): no other origin is taken, so the moment of an ion
    depends on where the ion was put. None as well when several differ.
    """
    printed = {numbers(text, 3) for text in page.values(DIPOLE)}
    return printed.pop() if len(printed) == 1 else None


def about_nuclei(
    moment: Sequence[float],
    charge: int,
    atomic_numbers: NDArray[np.integer],
    positions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Dipole moment about the centre of nuclear charge, from the one about the origin.

    Parameters
    ----------
    moment : (3,)
        About (0, 0, 0), e*A.
    charge : int
        Total charge, e.
    atomic_numbers : (n_atoms,)
    positions : (n_atoms, 3)
        A.
    """
    centre: NDArray[np.float64] = atomic_numbers @ positions / atomic_numbers.sum()
    moved: NDArray[np.float64] = np.asarray(moment, dtype=np.float64) - charge * centre
    return moved


def frontier(page: Page) -> tuple[float | None, float | None]:
    """Highest occupied and lowest unoccupied eigenvalue of the last iteration, both spins, eV."""
    start = _last_iteration(page)
    highest = _states(page, VBM, start)
    lowest = _states(page, CBM, start)
    return max(highest, default=None), min(lowest, default=None)


def _last_iteration(page: Page) -> int:
    """Line where the last iteration begins that has printed its states."""
    states = page.last(VBM)
    begins = [place for key in (BEGIN, TABLE, _FIRST_GUESS) for place in page.where(key)]
    return max((place for place in begins if states is not None and place < states), default=0)


def _states(page: Page, key: str, start: int) -> list[float]:
    places = [place for place in page.where(key) if place >= start]
    words = [page.lines[place].strip()[len(key) :].split() for place in places]
    values = [number(found[0]) for found in words if len(found) > 1 and found[1].startswith("eV")]
    return [value for value in values if value is not None]


def hirshfeld(page: Page) -> list[Hirshfeld]:
    """The last Hirshfeld partition, up to the first atom that is missing or unreadable."""
    start = page.last(HIRSHFELD)
    blocks = _blocks(page.lines[start + 1 :]) if start is not None else []
    atoms: list[Hirshfeld] = []
    for place, block in enumerate(blocks, start=1):
        atom = _atom(block, place)
        if atom is None:
            break
        atoms.append(atom)
    return atoms


def _blocks(lines: Sequence[str]) -> list[dict[str, str]]:
    """Key -> value of every atom; ends where neither ``|`` nor a rule begins a line."""
    blocks: list[dict[str, str]] = []
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if _ATOM.fullmatch(key):
            blocks.append({"atom": f"{key} {value}"})
        elif key.startswith("|") and blocks:
            blocks[-1][key] = value
        elif not key.startswith("-----"):
            break
    return blocks


def _atom(block: dict[str, str], place: int) -> Hirshfeld | None:
    words = block["atom"].split()
    keys = ("|   Hirshfeld charge", "|   Free atom volume", "|   Hirshfeld volume")
    charge, free, volume = (number(block.get(key, "")) for key in keys)
    if len(words) != 4 or words[2] != str(place):
        return None
    if charge is None or volume is None or free is None or min(free, volume) <= 0:
        return None
    return Hirshfeld(words[3], charge, free, volume)


def mbd_energy(page: Page) -> float | None:
    """Dispersion energy as libMBD printed it, Ha."""
    found = _libmbd(page, "Evaluated energy:")
    return number(found[-1]) if found else None


def vdw_method(page: Page) -> str:
    """What libMBD calls the method it was given; empty when it was not called."""
    found = _libmbd(page, "VdW method:")
    return found[-1] if found else ""


def vdw_correction(page: Page) -> float | None:
    """Dispersion energy in the last table of energies, Ha, 8 decimals."""
    found = numbers(page.value("| vdW energy correction"), 1)
    return None if found is None else found[0]


def _libmbd(page: Page, key: str) -> list[str]:
    said = page.values("Libmbd")
    return [text.removeprefix(key).strip() for text in said if text.startswith(key)]


def _last_number(page: Page, key: str) -> float | None:
    found = numbers(page.value(key), 1)
    return None if found is None else found[0]
