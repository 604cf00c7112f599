"""What is required of a run of DFTB+ besides its exit code, which says nothing. Pure.

The order decides the kind of failure: the first check missed names it. So the program's own error
message comes before the exit code, both before the files they leave wanting, and whether the
geometry converged comes last, after everything that would make that word worthless.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.dftbplus import detailed, gen, messages
from qfarm.engines.dftbplus.hsd_input import PARSER_VERSION, PREFIX, start_geometry
from qfarm.engines.dftbplus.output import Output, dipole_of_charges, missing, numbers
from qfarm.engines.dftbplus.parameters import orbitals, valence
from qfarm.engines.inprocess import how_ended
from qfarm.engines.mbd.selfcheck import self_check
from qfarm.verdict import CLOSEST, LOOK, closest_distance
from qfarm_schemas.check import Check
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.units import BOHR, DFTBPLUS_BOHR

PRINTED: Final = 1e-9
"""Ha: energies of 10 decimals that differ by more are not the same number."""

FORCES_PRINTED: Final = 1e-11
"""Ha/bohr: likewise for forces, of 12 decimals."""

RATIOS_PRINTED: Final = 2e-8
"""Likewise for ratios, of 8 decimals as what they are made of."""

DIPOLE_TOLERANCE: Final = 1e-6
"""e bohr: rounding of geo_end.gen (1e-9 A) gives 7e-9 at 144 atoms; one wrong atom gives 1e-2."""

WHOLE: Final = 1e-3
"""Electrons by which the filling of a level may differ from 0 or 2."""

ELECTRONS: Final = 1e-6
"""Electrons by which sums may differ from whole numbers."""

_SEGFAULTS: Final = (-11, 139)
"""Also as a shell or an MPI launcher gives it on, 128 + signal."""


_CRASH: Final = "Read the last lines of the output."

_STACK: Final = (
    "DFTB+ dies so for two reasons. Too small a stack: then it happens on one partition, and "
    "`ulimit -s unlimited` in its prologue helps. Or MBD broke down while computing forces: then "
    "it happens everywhere with this fragment; look for atoms that are too close, and check "
    "mbd_beta of the level."
)


def run(output: Output) -> tuple[Check, ...]:
    """Every check that applies, in order.

    What a run left that did not end in order is not looked at: it may be older than the run.
    """
    began = tuple(check(output) for check in _RUN)
    if not all(check.passed for check in began):
        return began
    with np.errstate(all="ignore"):  # garbage like 1e300 overflows, which fails a check
        read = (check(output) for check in (*_FILES, *_NUMBERS, *_LAST))
        return began + tuple(check for check in read if check is not None)


def of_this_run(checks: tuple[Check, ...]) -> bool:
    """Whether the files can be of this run, and were finished in order."""
    return len(checks) > len(_RUN)


def _check(
    name: str,
    passed: bool,
    required: str,
    found: str,
    kind: FailureKind = FailureKind.BAD_OUTPUT,
    remedy: str = LOOK,
) -> Check:
    shown = "" if passed else remedy
    return Check(name=name, passed=passed, required=required, found=found, kind=kind, remedy=shown)


def _start(output: Output) -> Check:
    closest = closest_distance(start_geometry(output.job).positions)
    return _check(
        "closest atoms at the start",
        closest >= CLOSEST,
        f">= {CLOSEST} A",
        f"{closest:.3f} A",
        FailureKind.BAD_GEOMETRY,
        "Atoms lie on top of each other: check the submitted geometry.",
    )


def _message(output: Output) -> Check:
    error = output.said.error
    finished = max(0, len(output.said.steps) - 1)
    meaning = messages.meaning(error, finished) if error else messages.UNKNOWN
    found = " ".join(error.split()) or "none"
    return _check("error message", not error, "none", found, meaning.kind, meaning.remedy)


def _exit(output: Output) -> Check:
    code = output.ended.code
    remedy = _STACK if code in _SEGFAULTS else _CRASH
    found = "0" if code == 0 else f"the process {how_ended(output.ended)}"
    return _check("exit code", code == 0, "0", found, FailureKind.CRASHED, remedy)


def _fresh(output: Output) -> Check:
    """DFTB+ that stops early leaves the results of an earlier run as they are."""
    stale = output.ended.stale
    return _check("fresh folder", not stale, "nothing but the input", ", ".join(stale) or "fresh")


def _program(output: Output) -> Check:
    """A newer program reads the syntax that the input names; it prints its own version."""
    said = output.said
    passed = bool(said.release) and int(said.parser or 0) >= PARSER_VERSION
    found = f"release {said.release or 'not given'}, parser {said.parser or 'not given'}"
    required = f"a DFTB+ that knows parser version {PARSER_VERSION}"
    remedy = messages.INPUT.remedy if said.release else LOOK
    return _check("program", passed, required, found, remedy=remedy)


def _understood(output: Output) -> Check:
    ignored = output.said.ignored
    required = "every word understood"
    return _check("input", not ignored, required, ignored or required, remedy=messages.INPUT.remedy)


def _scc(output: Output) -> Check:
    failed = output.said.scc_failed or output.details.scc_failed
    found = "not converged, at one geometry at least" if failed else "converged"
    scc = messages.SCC
    return _check("SCC", not failed, "converged at every geometry", found, scc.kind, scc.remedy)


def _ended(output: Output) -> Check:
    ended = output.said.ended
    found = "there" if ended else "missing: the output is cut short"
    return _check("end of the output", ended, "the table of running times", found)


def _tags(output: Output) -> Check:
    lacks = missing(output)
    wanted = orbitals(output.job.fragment.numbers)
    required = f"whole, of {output.n_atoms} atoms and {wanted} orbitals"
    return _check("results.tag", not lacks, required, _without(lacks))


def _details(output: Output) -> Check:
    details = output.details
    parts = {
        "the SCC's end": details.scc_converged or details.scc_failed,
        "forces": len(details.forces) == output.n_atoms,
        "populations": len(details.populations) == output.n_atoms or not output.disperses,
        "energies": {detailed.TOTAL, detailed.ELECTRONIC, detailed.REPULSIVE}
        <= details.energies.keys(),
        "dipole": details.ended,
        "the optimiser's end": not output.optimises
        or details.geometry_converged
        or details.geometry_failed,
    }
    lacks = tuple(name for name, there in parts.items() if not there)
    return _check("detailed.out", not lacks, "whole", _without(lacks))


def _without(lacks: tuple[str, ...]) -> str:
    return f"without such {', '.join(lacks)}" if lacks else "whole"


def _geometry(output: Output) -> Check:
    geometry, fragment = output.geometry, output.job.fragment
    passed = geometry is not None and gen.same_atoms(geometry, fragment)
    found = "these" if passed else "unreadable" if geometry is None else "other atoms"
    return _check(f"{PREFIX}.gen", passed, "the submitted atoms in order", found)


def _electrons(output: Output) -> Check | None:
    known = numbers(output)
    if known is None:
        return None
    fragment = output.job.fragment
    wanted = float(valence(fragment.numbers).sum()) - fragment.charge
    passed = (
        abs(known.electrons - wanted) <= ELECTRONS
        and abs(float(known.fillings.sum()) - wanted) <= ELECTRONS
        and abs(float(known.charges.sum()) - fragment.charge) <= ELECTRONS
    )
    found = f"{known.electrons:g}, charges add up to {known.charges.sum():+.6f} e"
    return _check("valence electrons", passed, f"{wanted:g}", found)


def _closed_shell(output: Output) -> Check | None:
    known = numbers(output)
    if known is None:
        return None
    off = float(np.abs(known.fillings - 2.0 * (known.fillings > 1.0)).max())
    return _check(
        "filling of the levels",
        off <= WHOLE,
        "2 or 0 electrons each",
        f"off by up to {off:.3f}",
        FailureKind.NO_GAP,
        "There is no gap, or an odd electron: check charge and multiplicity, then submit the "
        "corrected fragment.",
    )


def _energies(output: Output) -> Check | None:
    """Total by both files, by the last step on stdout, and as the sum of its parts."""
    known, energies = numbers(output), output.details.energies
    if known is None or not output.said.steps:
        return None
    parts = (detailed.ELECTRONIC, detailed.REPULSIVE, detailed.DISPERSION)
    totals = (
        energies.get(detailed.TOTAL, np.nan),
        output.said.steps[-1].energy or np.nan,
        sum(energies.get(part, 0.0) for part in parts),
    )
    off = float(np.abs(np.array(totals) - known.energy).max())
    required = f"results.tag, detailed.out and the last step agree within {PRINTED:.0e} Ha"
    return _check("total energy", bool(off <= PRINTED), required, f"off by {off:.1e} Ha")


def _forces(output: Output) -> Check | None:
    known, printed = numbers(output), output.details.forces
    if known is None or printed.shape != known.forces.shape:
        return None
    off = float(np.abs(printed - known.forces).max())
    required = f"results.tag and detailed.out agree within {FORCES_PRINTED:.0e} Ha/bohr"
    return _check("forces", bool(off <= FORCES_PRINTED), required, f"off by {off:.1e} Ha/bohr")


def _dipole(output: Output) -> Check | None:
    """The dipole moment ties the charges to the geometry that qfarm believes they belong to."""
    known, geometry = numbers(output), output.geometry
    if known is None or geometry is None or len(geometry.numbers) != output.n_atoms:
        return None
    own = dipole_of_charges(known.charges, geometry.positions)
    off = float(np.abs(own - known.dipole).max())
    required = f"charges times positions, within {DIPOLE_TOLERANCE:.0e} e bohr"
    return _check("dipole", bool(off <= DIPOLE_TOLERANCE), required, f"off by {off:.1e} e bohr")


def _dispersion(output: Output) -> Check:
    there = detailed.DISPERSION in output.details.energies
    words = {True: "an MBD energy", False: "none"}
    required, found = words[output.disperses], words[there]
    return _check("dispersion", there == output.disperses, required, found)


def _populations(output: Output) -> Check | None:
    """The ratio beside each population ties it to the valence electrons that qfarm believes in."""
    details, atoms = output.details, output.job.fragment.numbers
    if not output.disperses or len(details.populations) != output.n_atoms:
        return None
    off = float(np.abs(1.0 - details.populations / valence(atoms) - details.hybridisation).max())
    required = f"fit their hybridisation ratios within {RATIOS_PRINTED:.0e}"
    return _check("on-site populations", off <= RATIOS_PRINTED, required, f"off by {off:.1e}")


def _self_check(output: Output) -> Check | None:
    energy, geometry = output.details.energies.get(detailed.DISPERSION), output.geometry
    beta = output.job.level.mbd_beta
    found = output.details.populations
    if not output.disperses or energy is None or geometry is None or beta is None:
        return None
    if len(geometry.numbers) != output.n_atoms or len(found) != output.n_atoms:
        return None
    same_in_bohr = geometry.positions * (BOHR / DFTBPLUS_BOHR)
    ratios = polarisability_ratios(found, geometry.numbers)
    return self_check(geometry.numbers, same_in_bohr, ratios, beta, energy)


def polarisability_ratios(
    populations: NDArray[np.float64], atoms: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Ratios by which DFTB+ scales the free-atom polarisabilities, shape (n_atoms,).

    One plus the excess of the net (on-site) population over the valence electrons, by the nuclear
    charge (charge population analysis: M. Stoehr, G. S. Michelitsch, J. C. Tully, K. Reuter,
    R. J. Maurer, J. Chem. Phys. 144, 151101 (2016)).

    Parameters
    ----------
    populations : (n_atoms,) float
        e.
    atoms : (n_atoms,) int
        Atomic numbers.
    """
    ratios: NDArray[np.float64] = 1.0 + (populations - valence(atoms)) / atoms
    return ratios


def _converged(output: Output) -> Check | None:
    if not output.optimises:
        return None
    said, details = output.said, output.details
    failed = said.geometry_failed or details.geometry_failed
    passed = said.geometry_converged and details.geometry_converged and not failed
    found = f"{'' if passed else 'not '}converged in {max(0, len(said.steps) - 1)} steps"
    relax = messages.RELAX
    return _check("geometry", passed, "converged", found, relax.kind, relax.remedy)


Made = Callable[[Output], Check | None]

_RUN: Final[tuple[Callable[[Output], Check], ...]] = (
    _start,
    _message,
    _exit,
    _fresh,
    _program,
    _understood,
)

_FILES: Final[tuple[Made, ...]] = (_scc, _ended, _tags, _details, _geometry)

_NUMBERS: Final[tuple[Made, ...]] = (
    _electrons,
    _closed_shell,
    _energies,
    _forces,
    _dipole,
    _dispersion,
    _populations,
    _self_check,
)

_LAST: Final[tuple[Made, ...]] = (_converged,)
