"""Numbers: is every number of a result there, readable, and in keeping with the others? Pure."""

import re
from typing import Final

import numpy as np

from qfarm.engines.aims.checks import BAD, SMALL_GAP, SPIN, check
from qfarm.engines.aims.functionals import VDW_METHOD
from qfarm.engines.aims.output import Output, properties
from qfarm.engines.base import Job
from qfarm.engines.mbd.selfcheck import self_check
from qfarm.verdict import LOOK
from qfarm_schemas.check import Check
from qfarm_schemas.elements import NUMBERS
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import Dispersion

PRINTED_TOLERANCE: Final = 1.1e-8
"""Ha: the table of energies has eight decimals."""

SMEARED: Final = 1e-4
"""eV: largest difference of total and free energy; more means partly occupied states. The
broadening (0.01 eV) is far below any gap that is accepted, where the difference is zero."""

CHARGE_TOLERANCE: Final = 0.01
SMALL_CHARGE: Final = 0.05
"""e: between the sum of Hirshfeld charges and the charge, from the integration grid: the first
times the root of the number of atoms, but not less than the second (recorded outputs: below
1.5e-3). Heavy atoms and diffuse anions strain the grid most; another charge is off by 1."""

ENERGY_TOLERANCE: Final = 1e-5
"""eV: between the total energy and the last table, which has eight decimals."""

NET_FORCE: Final = 1e-4
"""eV/A: largest component of the sum of the forces (recorded outputs: below 1e-14)."""


def of_numbers(job: Job, output: Output) -> tuple[Check, ...]:
    """Whether every number of a result is there, readable, and fits the others."""
    checks = (
        _energy(output),
        _energy_table(output),
        _rows("forces", len(output.forces), job),
        _forces(job, output),
        _dipole(output),
        _rows("Hirshfeld atoms", len(output.hirshfeld), job),
        _hirshfeld(job, output),
        _gap(output),
        _occupations(output),
        *_mbd(job, output),
    )
    return tuple(made for made in checks if made)


def _energy(output: Output) -> Check:
    found = "none" if output.energy is None else f"{output.energy:.6f} eV"
    count = output.page.count(properties.UNCORRECTED)
    passed = output.energy is not None and count == 1
    required = "one 'Total energy uncorrected'"
    return check("total energy", passed, required, found if count < 2 else f"{count}", BAD, LOOK)


def _energy_table(output: Output) -> Check | None:
    """The energy is the one of the last table: that one has the dispersion in it."""
    table = properties.table_energy(output.page)
    if output.energy is None or table is None:
        return None
    apart = abs(output.energy - table)
    return check(
        "total energy in the last table",
        apart <= ENERGY_TOLERANCE,
        f"the same within {ENERGY_TOLERANCE:.0e} eV",
        f"{apart:.1e} eV apart",
        BAD,
        LOOK,
    )


def _rows(name: str, count: int, job: Job) -> Check:
    wanted = job.fragment.n_atoms
    return check(name, count == wanted, f"{wanted} rows", f"{count} rows", BAD, LOOK)


def _forces(job: Job, output: Output) -> Check | None:
    """One table, whose sum is zero: FHI-aims takes the net force out before it prints."""
    if len(output.forces) != job.fragment.n_atoms:
        return None
    tables = properties.force_tables(output.page)
    net = float(np.abs(np.sum(output.forces, axis=0)).max())
    found = f"{net:.1e} eV/A" if tables == 1 else f"{tables} tables of forces"
    required = f"one table, sum <= {NET_FORCE:.0e} eV/A"
    return check("net force", tables == 1 and net <= NET_FORCE, required, found, BAD, LOOK)


def _dipole(output: Output) -> Check:
    found = "none" if output.dipole is None else "printed"
    if output.dipole is None and output.page.count(properties.DIPOLE) > 1:
        found = "several that differ"
    return check("dipole moment", output.dipole is not None, "printed", found, BAD, LOOK)


def _hirshfeld(job: Job, output: Output) -> Check:
    """The partition is of these elements, and its charges add up to the charge."""
    symbols = [NUMBERS.get(atom.symbol) for atom in output.hirshfeld]
    same = symbols == job.fragment.numbers.tolist()
    total = sum(atom.charge for atom in output.hirshfeld)
    tolerance = max(SMALL_CHARGE, CHARGE_TOLERANCE * len(symbols) ** 0.5)
    fits = abs(total - job.fragment.charge) <= tolerance
    found = f"sum {total:+.4f} e" if same else "other elements"
    return check(
        "Hirshfeld charges", same and fits, f"sum {job.fragment.charge:+d} e", found, BAD, LOOK
    )


def _gap(output: Output) -> Check:
    gap = output.gap
    found = "no orbital energies" if gap is None else f"{gap:.3f} eV"
    kind, remedy = (BAD, LOOK) if gap is None else (FailureKind.NO_GAP, SPIN)
    passed = gap is not None and gap >= SMALL_GAP
    return check("gap of the last iteration", passed, f">= {SMALL_GAP} eV", found, kind, remedy)


def _occupations(output: Output) -> Check | None:
    """Total and free energy agree: no state is partly occupied."""
    free = properties.free_energy(output.page)
    if output.energy is None or free is None:
        return None
    apart = abs(output.energy - free)
    return check(
        "occupations",
        apart <= SMEARED,
        f"total and free energy within {SMEARED:.0e} eV",
        f"{apart:.1e} eV apart",
        FailureKind.NO_GAP,
        SPIN,
    )


def _mbd(job: Job, output: Output) -> tuple[Check, ...]:
    """The dispersion that was computed."""
    wanted = VDW_METHOD.get(job.level.dispersion)
    if wanted is None:
        return (_no_dispersion(output),)
    method = properties.vdw_method(output.page)
    checks = (
        check("dispersion computed", _same_method(method, wanted), wanted, method or "none"),
        _mbd_energy(output),
    )
    if job.level.dispersion is not Dispersion.MBD or not _partitioned(job, output):
        return checks
    return (*checks, _self_check(job, output))


def _same_method(said: str, wanted: str) -> bool:
    """In whatever case and with whatever dashes: no recorded output has MBD-NL."""
    plain = (re.sub(r"[^a-z]", "", name.lower()) for name in (said, wanted))
    return len(set(plain)) == 1


def _no_dispersion(output: Output) -> Check:
    computed = [
        value for value in (output.mbd_energy, properties.vdw_correction(output.page)) if value
    ]
    found = f"{computed[0]} Ha" if computed else "none"
    return check("dispersion computed", not computed, "none", found)


def _mbd_energy(output: Output) -> Check:
    """LibMBD's energy, the one in the table of energies."""
    energy, table = output.mbd_energy, properties.vdw_correction(output.page)
    required = "as libMBD says, in the total energy"
    if energy is None or table is None:
        lines = {"Libmbd": energy, "vdW energy correction": table}
        missing = " and ".join(name for name, value in lines.items() if value is None)
        return check("dispersion energy as printed", False, required, f"no {missing} line")
    return check(
        "dispersion energy as printed",
        abs(energy - table) <= PRINTED_TOLERANCE,
        required,
        f"{energy:.8f} Ha, {table:.8f} Ha in the total energy",
        BAD,
        LOOK,
    )


def _partitioned(job: Job, output: Output) -> bool:
    return output.mbd_energy is not None and len(output.hirshfeld) == job.fragment.n_atoms


def _self_check(job: Job, output: Output) -> Check:
    ratios = np.array([atom.volume / atom.free for atom in output.hirshfeld])
    beta, printed = job.level.mbd_beta or 0.0, output.mbd_energy or 0.0
    return self_check(job.fragment.numbers, job.fragment.positions, ratios, beta, printed)
