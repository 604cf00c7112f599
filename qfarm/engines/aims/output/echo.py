"""Echo: what the program says it was given - input files, functional, dispersion, spin. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.aims.output.page import Page, number, numbers
from qfarm_schemas.elements import NUMBERS

_ATOM: Final = re.compile(
    r"\s*\|\s*(?P<place>\d{1,9}): Species\s+(?P<symbol>\S+)\s+(?P<position>.*)"
)
_RULE: Final = "-" * 20
_PARSED: Final = "(first pass over file, find array dimensions only)."


@dataclass(frozen=True)
class Geometry:
    """Atoms as printed before the SCF: atomic numbers, and positions (n_atoms, 3) in A."""

    numbers: tuple[int, ...]
    positions: NDArray[np.float64]


def input_file(page: Page, name: str) -> list[str] | None:
    """The lines of an input file as the program repeats them; None where it does not."""
    start = page.last(f"Parsing {name} {_PARSED}")
    stop = page.last(f"Completed first pass over input file {name} .")
    if start is None or stop is None or stop < start:
        return None
    rules = [i for i in range(start, stop) if page.lines[i].strip().startswith(_RULE)]
    return list(page.lines[rules[0] + 1 : rules[-1]]) if len(rules) > 1 else None


def statements(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """Keyword and values of every line that is more than a comment."""
    return [words for words in (tuple(line.partition("#")[0].split()) for line in lines) if words]


def settings(control: Sequence[str], *keywords: str) -> list[tuple[str, ...]]:
    """Values of every line of control.in that begins with one of `keywords`."""
    return [words[1:] for words in statements(control) if words[0].lower() in keywords]


def dispersion_keywords(control: Sequence[str]) -> list[tuple[str, ...]]:
    """Every line of control.in that asks for dispersion, whatever kind."""
    return [words for words in statements(control) if _DISPERSION.match(words[0].lower())]


_DISPERSION: Final = re.compile(
    r"many_body_dispersion|vdw|mbd|xdm|d2$|d3|d4|dftd|ll_vdw|nonlocal|libmbd"
)


def beta(words: Sequence[str]) -> float | None:
    """Beta in the values of a dispersion keyword, such as ``beta=0.85``."""
    found = re.search(r"\bbeta\s*=\s*(\S+?)(?::|$|\s)", " ".join(words))
    return number(found[1]) if found else None


def functional(page: Page) -> list[str]:
    """What the program says about its functional, one entry for every ``XC:`` line."""
    return page.values("XC")


def geometry(page: Page) -> Geometry | None:
    """Atoms before the SCF; None when a line is missing or unreadable."""
    start = page.last("| Atomic structure")
    if start is None or page.count("| Atomic structure") != 1:
        return None
    rows = list(_rows(page.lines[start + 2 :]))
    if not rows or [place for place, _, _ in rows] != list(range(1, len(rows) + 1)):
        return None
    symbols = tuple(number for _, number, _ in rows)
    return Geometry(symbols, np.array([position for _, _, position in rows]))


def _rows(lines: Sequence[str]) -> Iterator[tuple[int, int, tuple[float, ...]]]:
    for line in lines:
        row = _ATOM.fullmatch(line)
        if row is None:
            return
        position = numbers(row["position"], 3)
        element = NUMBERS.get(row["symbol"])
        if position is None or not element:
            return
        yield int(row["place"]), int(element), position


def periodic(page: Page) -> bool:
    """Whether the run was given lattice vectors."""
    return page.count("| Unit cell") > 0


def electrons(page: Page) -> list[float | None]:
    """Every count of electrons: of the structure, and of each density.

    The first guess is left out: it is made of neutral atoms.
    """
    structure = [text.split()[-2] for text in _contains(page)]
    densities = page.values("| Formal number of electrons (from input files)")
    return [number(word) for word in (*structure, *densities)]


def _contains(page: Page) -> list[str]:
    return [text for text in page.values("The structure contains") if len(text.split()) > 2]


def spin_channels(page: Page) -> int | None:
    """1 for a closed shell, 2 for collinear spins."""
    count = numbers(page.value("| Number of spin channels"), 1)
    return None if count is None else int(count[0])


def unpaired(page: Page) -> float | None:
    """Last printed difference of spin-up and spin-down electrons."""
    value = numbers(page.value("| N = N_up - N_down"), 1)
    return None if value is None else value[0]
