"""Run: where a run begins and how it ended, in the program's own words. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from qfarm.engines.aims.output.page import Page, number, numbers

START: Final = "Invoking FHI-aims"
END: Final = "Have a nice day."
NOT_CONVERGED: Final = "SELF-CONSISTENCY CYCLE DID NOT CONVERGE"

_GAVE_UP: Final = re.compile(r"^\s*\*\*\* scf_solver: SCF cycle not converged", re.MULTILINE)
"""The last line of versions of 2026 then; here it counts wherever it stands."""

_LAST: Final = 5
"""Lines from the end in which an abort is looked for: other ranks may write after it."""

_LAUNCHER: Final = 20
"""Lines at most that a launcher adds."""

_OWN: Final = re.compile(
    r"\s*(\||\*|Begin|End |Date |Invoking|Self-|SELF-|Total |Performing|Computing|Libmbd|MPI)"
    r"|.*FHI-aims"
)
"""How lines of the program itself begin, and how stops of MPI do."""

_ABORT: Final = re.compile(r"\s*\*\*\* (?![A-Z]+:)(?P<routine>[A-Za-z_]\w*):(?P<message>.*)")
"""``*** scf_solver: SCF cycle not converged.``; banners say ``*** WARNING: ...``."""


@dataclass(frozen=True)
class Abort:
    """Why the program stopped itself: routine and message."""

    routine: str
    message: str

    def __str__(self) -> str:
        """As printed."""
        return f"{self.routine}: {self.message}"


def starts(text: str) -> int:
    """Runs in the output."""
    return text.count(START)


def warned(text: str) -> bool:
    """Whether the output says, in any format, that the SCF did not converge."""
    return NOT_CONVERGED in text or _GAVE_UP.search(text) is not None


def ended_well(page: Page) -> bool:
    """Whether the program reached its end: it takes leave, and writes nothing more.

    Launchers of some machines add a few lines of their own ("Application 1 resources: ...").
    """
    last = page.last(END)
    if last is None:
        return False
    after = [line for line in page.lines[last + 1 :] if line.strip(" -")]
    return len(after) <= _LAUNCHER and not any(map(_OWN.match, after))


def abort(page: Page) -> Abort | None:
    """The abort at the end of the output; an earlier ``***`` is a banner."""
    spoken = [line for line in page.lines[-4 * _LAST :] if line.strip()][-_LAST:]
    found = [match for match in map(_ABORT.fullmatch, spoken) if match]
    if not found or ended_well(page):
        return None
    return Abort(found[-1]["routine"], found[-1]["message"].strip())


def version(page: Page) -> str:
    """Version, such as ``231212.1`` or ``171221_1``; empty when not printed."""
    words = (page.value("FHI-aims version") or page.value("Version")).split()
    return words[0] if words else ""


def wall_seconds(page: Page) -> float | None:
    """Wall time of the run, s."""
    words = page.value("| Total time").split()
    return number(words[2]) if len(words) > 2 else None


def cycles(page: Page) -> int | None:
    """SCF iterations as the program counts them."""
    count = numbers(page.value("| Number of self-consistency cycles"), 1)
    return None if count is None else int(count[0])


def memory_mb(page: Page) -> float | None:
    """Largest memory that one rank tracked, MB (the program says: the true use is greater)."""
    peaks = [number(text.split()[0]) for text in page.values("|   Maximum") if text.split()]
    peaks += [
        number(text.split()[0])
        for text in page.values("| Peak value for overall tracked memory usage on task 0")
        if text.split()
    ]
    return max((peak for peak in peaks if peak is not None), default=None)
