"""The FHI-aims double's output up to the first iteration, in FHI-aims' own format.

Only marker lines are kept, as versions 231208 and 231212 print them; the version line says that
this is a test double.
"""

from typing import Final

import numpy as np

from doubles.aims_input import DENSITIES, Input
from doubles.aims_text import RULE, page
from doubles.answer import Answer
from qfarm_schemas.elements import SYMBOLS

VERSION: Final = "250101-qfarm-test-double"
"""One word, because parsers take the first; it goes into every record."""

THIN: Final = "  " + "-" * 71
FUNCTIONALS: Final = {
    "pbe0": "Using hybrid-PBE0 functionals.",
    "pbe": "Using PBE gradient-corrected functionals.",
    "hse06": "Using HSE-functional with OMEGA =  0.110000E+00 <units>.",
}


def head(given: Input, answer: Answer) -> str:
    """All before the first iteration."""
    parts = (
        _banner(),
        _echo("control.in", given.control),
        _echo("geometry.in", _geometry_of(given, answer)),
        _sizes(given, answer),
        _control_read(given, answer),
        _geometry_read(answer),
        _initialization(given),
    )
    return "".join(parts)


def _banner() -> str:
    return page(
        [
            RULE,
            "          Invoking FHI-aims ...",
            "",
            "          This is a test double, which computes nothing real.",
            RULE,
            "",
            "  Date     :  20260101, Time     :  120000.000",
            "  Time zero on CPU 1             :   0.100000000000000E+00  s.",
            "  Internal wall clock time zero  :           500000000.000  s.",
            "",
            "  FHI-aims created a unique identifier for this run for later identification",
            "  aims_uuid : 00000000-0000-0000-0000-000000000000",
            "",
            "  Build configuration of the current instance of FHI-aims",
            "  -------------------------------------------------------",
            f"  FHI-aims version      : {VERSION}",
            "  Commit number         : GITDIR-NOTFOUND",
            "",
            "  Using        1 parallel tasks.",
            "  Task        0 on host localhost reporting.",
            "",
            "  Obtaining array dimensions for all initial allocations:",
            "  ",
        ]
    )


def _echo(name: str, content: str) -> str:
    return page(
        [
            THIN,
            f"  Parsing {name} (first pass over file, find array dimensions only).",
            f"  The contents of {name} will be repeated verbatim below",
            "  unless switched off by setting 'verbatim_writeout .false.' .",
            f"  in the first line of {name} .",
            THIN,
            "  ",
            *(f"  {line}" for line in content.splitlines()),
            "  ",
            THIN,
            f"  Completed first pass over input file {name} .",
            THIN,
            "  ",
        ]
    )


def _geometry_of(given: Input, answer: Answer) -> str:
    """The file as it was read, which is another when the plan moved an atom."""
    if np.array_equal(given.molecule.positions, answer.molecule.positions):
        return given.geometry
    rows = zip(answer.molecule.numbers, answer.molecule.positions, strict=True)
    return page([f"atom {x:.16f} {y:.16f} {z:.16f} {SYMBOLS[n]}" for n, (x, y, z) in rows])


def _sizes(given: Input, answer: Answer) -> str:
    numbers = answer.molecule.numbers
    return page(
        [
            "",
            "  Basic array size parameters:",
            f"  | Number of species                 : {len(set(numbers.tolist())):8d}",
            f"  | Number of atoms                   : {len(numbers):8d}",
            f"  | Number of spin channels           : {given.spins:8d}",
            "",
        ]
    )


def _control_read(given: Input, answer: Answer) -> str:
    charge = answer.molecule.charge
    spin = "Spin treatment: Spin density functional theory - collinear spins."
    lines = [RULE, "          Reading file control.in.", RULE]
    lines.append(f"  XC: {FUNCTIONALS.get(answer.method, 'Using ' + answer.method)}")
    lines += [f"  {spin}"] if given.spins == 2 else []
    lines += [f"  Charged system requested: Charge = {charge:14.6E}."] if charge else []
    lines += ["  Using libMBD for calculating MBD and TS energies"] if given.dispersion else []
    lines += ["  Forces will be computed."] if given.wants_forces else []
    for z in sorted(set(answer.molecule.numbers.tolist())):
        lines += [" ", f"  Reading configuration options for species {SYMBOLS[z]:<20s}."]
        lines.append(f"  | Found nuclear charge : {z:8.4f}")
    return page([*lines, " ", "  Finished reading input file 'control.in'.", " ", RULE, ""])


def _geometry_read(answer: Answer) -> str:
    molecule, n_atoms = answer.molecule, len(answer.molecule.numbers)
    rows = zip(molecule.numbers, molecule.positions, strict=True)
    lines = [RULE, "          Reading geometry description geometry.in.", RULE]
    lines.append("  Input structure read successfully.")
    lines.append(
        f"  The structure contains {n_atoms:8d} atoms,  and a total of"
        f" {molecule.electrons:14.3f} electrons."
    )
    lines += ["", "  Input geometry:", "  | No unit cell requested.", "  | Atomic structure:"]
    lines.append("  |       Atom                x [A]            y [A]            z [A]")
    for number, (z, (x, y, w)) in enumerate(rows, start=1):
        lines.append(f"  |{number:5d}: Species {SYMBOLS[z]:<2s}  {x:21.8f} {y:16.8f} {w:16.8f}")
    return page([*lines, "", "  Finished reading input file 'geometry.in'.", " "])


def _initialization(given: Input) -> str:
    lines = [RULE, "          Begin self-consistency loop: Initialization.", "", RULE]
    if given.restarted:
        lines += [f"  Reading density matrix from file {DENSITIES[0]}"]
    return page([*lines, ""])
