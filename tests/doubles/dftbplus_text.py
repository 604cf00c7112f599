"""The DFTB+ double's standard output, in the format of DFTB+ 25.1."""

from typing import Final

import numpy as np

from doubles.answer import Answer, fortran
from doubles.dftbplus_input import Input
from doubles.dftbplus_physics import FORCE, electronic, electrons, total
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE

RELEASE: Final = "25.1-qfarm-test-double"
"""One word; it goes into every record."""

BAR: Final = "|" + "=" * 79
RULE: Final = "-" * 80
UNCONVERGED: Final = "SCC is NOT converged, maximal SCC iterations exceeded"


def head(given: Input, answer: Answer, read_to_end: bool) -> str:
    """All before the first step; a faulty input is not read to its end."""
    lines = [BAR, "|", f"|  DFTB+ release {RELEASE}", "|", BAR, ""]
    lines += ["Reading input file 'dftb_in.hsd'", "Parser version: 14", "", RULE]
    if not read_to_end:
        return page(lines)
    kinds = given.species
    pairs = [given.file(a, b) for i, a in enumerate(kinds) for b in kinds[i:]]
    mode = "Static calculation" if given.driver is None else "Geometry optimisation relaxation"
    half = electrons(answer.molecule) / 2
    settings = (
        ("Mode:", mode),
        ("Self consistent charges:", "Yes"),
        ("SCC-tolerance:", f"{fortran(given.hamiltonian['SCCTolerance'], 6):>14s}"),
        ("Max. scc iterations:", f"{given.hamiltonian['MaxSCCIterations']:10d}"),
        ("Spin polarisation:", "No"),
        ("Nr. of up electrons:", f"{half:13.6f}"),
        ("Nr. of down electrons:", f"{half:13.6f}"),
        ("Periodic boundaries:", "No"),
    )
    lines += ["Reading SK-files:", *pairs, "Done.", "", ""]
    lines += ["Processed input in HSD format written to 'dftb_pin.hsd'", ""]
    lines += ["Starting initialization...", RULE]
    lines += [f"{name:<29s}{value}" for name, value in settings]
    lines += [
        "",
        f"{'Full 3rd order correction':<29s}{'Yes' if answer.method == 'DFTB3' else 'No'}",
    ]
    return page([*lines, "", RULE, ""])


def step(given: Input, answer: Answer, number: int, before: Answer | None) -> str:
    """One geometry step."""
    lines = [f"***  Geometry step: {number}", "", *_table(given, answer), ""]
    lines += [energy_line(name, total(answer)) for name in TOTALS]
    if given.driver is None:
        return page([*lines, "", ""])
    gradient = -answer.forces / FORCE
    moved = np.zeros(3) if before is None else answer.molecule.positions - before.molecule.positions
    change = total(answer) - (0.0 if before is None else total(before))
    moved = moved / DFTBPLUS_BOHR
    rows = (
        ("total energy", total(answer), "H ", "energy change", change, "H"),
        ("gradient norm", _norm(gradient), "H/a0", "max. gradient", _most(gradient), "H/a0"),
        ("step length", _norm(moved), "a0", "max. step", _most(moved), "a0"),
    )
    lines += ["", ">> Charges saved for restart in charges.bin", ""]
    lines += [f"{a:<13s}{b:15.7E} {c:<8s}{d:<13s}{e:15.7E} {f}" for a, b, c, d, e, f in rows]
    return page([*lines, "", RULE, ""])


def scc(given: Input, answer: Answer) -> str:
    """A first step whose SCC does not converge."""
    return page(["***  Geometry step: 0", "", *_table(given, answer)])


def end(given: Input, relaxed: bool, stopped: bool, stop_file: str) -> str:
    """The end of a run that ends in order."""
    lines = [f"Stop file '{stop_file}' found."] if stopped else []
    if given.driver is not None:
        lines += [] if relaxed else ["WARNING!", "-> !!! Geometry did NOT converge!"]
        lines += ["", "Geometry converged"] if relaxed else []
    rows = [RULE, f"{'DFTB+ running times':<46s}cpu [s]             wall clock [s]", RULE]
    rows += [f"{'SCC':<39s}+       0.28 (100.0%)       0.28 (100.0%)", RULE]
    rows += [f"{'Missing':<39s}+       0.00 (  0.0%)       0.00 (  0.0%)"]
    rows += [f"{'Total':<39s}=       0.28 (100.0%)       0.28 (100.0%)", RULE]
    return page([*lines, "", *rows])


def error(message: str) -> str:
    """An error that ends the program."""
    return page(["ERROR!", f"-> {message}"])


def not_converged() -> str:
    """The error after an SCC that does not converge."""
    warning = "WARNING!\n-> Dispersion contributions are not included in the energy\n"
    return warning + error(UNCONVERGED)


def missing_file(name: str) -> str:
    """The error over a Slater-Koster file that is not there."""
    return error(f"SK file with generated name '{name}' not found.") + page(
        [
            "   (search path(s): '.').",
            "Path: dftbplusinput/Hamiltonian/DFTB/SlaterKosterFiles/Type2FileNames",
            "",
        ]
    )


def unknown_words(paths: list[str]) -> str:
    """The error over words that the parser does not know."""
    lines = ["WARNING!", f"-> The following {len(paths)} node(s) have been ignored by the parser:"]
    for number, path in enumerate(paths, start=1):
        lines += [f"({number})", f"Path: {path}"]
    halt = "Code halting due to the presence of errors in dftb_in file."
    return page([*lines, ""]) + error(halt)


def page(lines: list[str]) -> str:
    """Lines as text."""
    return "\n".join(lines) + "\n"


TOTALS: Final = (
    "Total Energy",
    "Extrapolated to 0K",
    "Total Mermin free energy",
    "Force related energy",
)


def energy_line(name: str, hartree: float) -> str:
    """``Total energy:    -8.1514398956 H    -221.8120 eV``."""
    return f"{name + ':':<29s}{hartree:20.10f} H {hartree * DFTBPLUS_HARTREE:16.4f} eV"


def _table(given: Input, answer: Answer) -> list[str]:
    """SCC iterations; the change beside one is that of the iteration before it."""
    lines = [" iSCC Total electronic   Diff electronic      SCC error    "]
    before, change = 0.0, 0.0
    for number, (energy, wrong) in enumerate(_iterations(given, answer), start=1):
        words = (fortran(value, 8) for value in (energy, change, wrong))
        lines.append(f"{number:5d}" + "".join(f"{word:>18s}" for word in words))
        change, before = energy - before, energy
    return lines


def _iterations(given: Input, answer: Answer) -> list[tuple[float, float]]:
    """Electronic energy, Ha, and error of the charges, e, of each iteration."""
    limit, most = given.hamiltonian["SCCTolerance"], given.hamiltonian["MaxSCCIterations"]
    made: list[tuple[float, float]] = []
    wrong = 0.8
    while len(made) < most:
        made.append((electronic(answer) + 0.01 * wrong**2, wrong))
        if wrong <= limit:
            break
        wrong = wrong / 8 if answer.converged else 0.05 + 0.04 * (-1) ** len(made)
    return made


def _norm(values: np.ndarray) -> float:
    return float(np.linalg.norm(values))


def _most(values: np.ndarray) -> float:
    return float(np.abs(values).max())
