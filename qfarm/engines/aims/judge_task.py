"""Task: did the run compute what the job asked for? Checks on what FHI-aims says it read. Pure."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from qfarm.engines.aims.checks import BAD, check
from qfarm.engines.aims.functionals import DEFAULT_BETA, DISPERSION, WORDS, XC
from qfarm.engines.aims.output import Output, echo
from qfarm.engines.aims.output.page import number
from qfarm.engines.base import Job
from qfarm.verdict import LOOK
from qfarm_schemas.check import Check

GEOMETRY_TOLERANCE: Final = 1e-6
"""A: positions are printed with eight decimals."""

SPIN_TOLERANCE: Final = 0.02
"""Unpaired electrons: printed with two decimals."""


def of_task(job: Job, output: Output, files: Mapping[str, str]) -> tuple[Check, ...]:
    """Whether the run computed what the job asked for; a start-up may take another method."""
    inputs = [_input(output, files, name) for name in ("control.in", "geometry.in")]
    method = () if job.scf.get("start_up") else (_functional(job, output), _keyword(job, output))
    return (
        _version(output),
        *(made for made in inputs if made),
        _geometry(job, output),
        _electrons(job, output),
        _spin(job, output),
        *method,
    )


def _version(output: Output) -> Check:
    return check("version", bool(output.version), "printed", output.version or "none", BAD, LOOK)


def _input(output: Output, files: Mapping[str, str], name: str) -> Check | None:
    """The input as the program repeats it is the file that was written, comments aside."""
    repeated = echo.input_file(output.page, name)
    if name not in files or repeated is None:
        return None
    given, read = echo.statements(files[name].splitlines()), echo.statements(repeated)
    other = [" ".join(b or a) for a, b in _pairs(given, read) if a != b]
    found = f"{len(other)} other lines, the first: {other[0]}" if other else "the same"
    return check(f"{name} as read", not other, "as written", found)


def _pairs(
    first: list[tuple[str, ...]], second: list[tuple[str, ...]]
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    length = max(len(first), len(second))
    empty: tuple[str, ...] = ()
    padded = [lines + [empty] * (length - len(lines)) for lines in (first, second)]
    return list(zip(*padded, strict=True))


def _geometry(job: Job, output: Output) -> Check:
    found = _other_geometry(job, output)
    required = f"the job's, within {GEOMETRY_TOLERANCE:.0e} A, not periodic"
    return check("geometry as read", not found, required, found or "the same")


def _other_geometry(job: Job, output: Output) -> str:
    """How the printed geometry differs from the job's; empty when it does not."""
    printed = output.geometry
    if echo.periodic(output.page):
        return "a unit cell"
    if printed is None:
        return "no readable geometry"
    if printed.numbers != tuple(job.fragment.numbers.tolist()):
        return f"{len(printed.numbers)} other atoms"
    shift = float(np.abs(printed.positions - job.fragment.positions).max())
    return "" if shift <= GEOMETRY_TOLERANCE else f"an atom {shift:.1e} A away"


def _electrons(job: Job, output: Output) -> Check:
    counts = echo.electrons(output.page)
    expected = job.fragment.n_electrons
    wrong = [count for count in counts if count is None or abs(count - expected) > 1e-3]
    found = ", ".join(map(str, wrong[:3])) or (f"{expected}" if counts else "not printed")
    return check("electrons", bool(counts) and not wrong, f"{expected}", found)


def _spin(job: Job, output: Output) -> Check:
    wanted = job.fragment.multiplicity - 1
    channels, unpaired = echo.spin_channels(output.page), _unpaired(output)
    closed = wanted == 0 and channels == 1
    fits = unpaired is not None and abs(unpaired - wanted) <= SPIN_TOLERANCE
    found = f"{channels} spin channels, {'not printed' if unpaired is None else f'{unpaired:g}'}"
    if closed:
        found = "closed shell"
    return check("unpaired electrons", closed or (channels == 2 and fits), f"{wanted}", found)


def _unpaired(output: Output) -> float | None:
    """As printed after the SCF, else as fixed in control.in."""
    printed = echo.unpaired(output.page)
    if printed is not None or output.control is None:
        return printed
    fixed = echo.settings(output.control, "fixed_spin_moment")
    return number(fixed[0][0]) if len(fixed) == 1 and fixed[0] else None


def _functional(job: Job, output: Output) -> Check:
    """The functional that control.in named and, where it says so, the program used."""
    method = job.level.method
    keyword = XC.get(method)
    given = echo.settings(output.control or (), "xc")
    read = {" ".join(words).lower() for words in given}
    said = echo.functional(output.page)
    used = {name for name, words in WORDS.items() if any(text.startswith(words) for text in said)}
    named = read == {keyword} if output.control is not None else used == {method}
    found = " / ".join((*sorted(f"xc {text}" for text in read), *said[:1])) or "not printed"
    return check("functional", named and used <= {method}, f"{method} (xc {keyword})", found)


def _keyword(job: Job, output: Output) -> Check:
    """The dispersion that control.in asked for, as repeated in the output."""
    level = job.level
    wanted = DISPERSION.get(level.dispersion)
    required = f"{wanted} beta={level.mbd_beta:g}" if wanted else "none"
    if output.control is None:
        return check("dispersion asked for", False, required, "control.in is not repeated")
    given = echo.dispersion_keywords(output.control)
    found = "; ".join(" ".join(words) for words in given) or "none"
    return check("dispersion asked for", _asked(job, given), required, found)


def _asked(job: Job, given: list[tuple[str, ...]]) -> bool:
    level = job.level
    wanted = DISPERSION.get(level.dispersion)
    if wanted is None or level.mbd_beta is None:
        return not given
    if len(given) != 1 or given[0][0].lower() != wanted:
        return False
    read = echo.beta(given[0][1:])
    if read is None and len(given[0]) == 1:
        read = DEFAULT_BETA.get((level.dispersion, level.method))
    return read is not None and abs(read - level.mbd_beta) < 1e-9
