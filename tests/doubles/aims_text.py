"""The FHI-aims double's output from the first iteration on, in FHI-aims' own format."""

from typing import Final

import numpy as np

from doubles import physics
from doubles.aims_input import Input
from doubles.answer import Answer, fortran
from qfarm_schemas.elements import SYMBOLS
from qfarm_schemas.units import AIMS_HARTREE

RULE: Final = "-" * 60
FREE_VOLUMES: Final = {1: 10.31539447, 6: 37.62, 7: 28.9, 8: 23.74229847, 12: 93.92897117}
"""bohr^3; H, O and Mg as tight species give them, others made up."""

VIRTUAL: Final = 10
"""Empty states that are printed."""

NOT_CONVERGED: Final = """\
------------------------------------------------------------
** WARNING:
 * SELF-CONSISTENCY CYCLE DID NOT CONVERGE
** END OF WARNING
** WARNING:
 * USING YOUR PRESELECTED ACCURACY CRITERIA.
** END OF WARNING
** WARNING:
 * DO NOT RELY ON ANY FINAL DATA WITHOUT FURTHER CHECKS.
** END OF WARNING
 * NO POSTPROCESSING WILL BE DONE
"""


def iteration(
    given: Input, answer: Answer, number: int, changes: dict[str, float], last: bool
) -> str:
    """One SCF iteration; the last of a converging run prints the eigenvalues."""
    offset = changes["etot"] * (-1) ** number
    lines = [
        RULE,
        f"          Begin self-consistency iteration # {number:4d}",
        "",
        "  Date     :  20260101, Time     :  120000.000",
        RULE,
        "  Pulay mixing of updated and previous charge densities.",
        *_frontier(given, answer),
        *_energies(answer, answer.energy + offset, 0.0),
        "",
        "  Self-consistency convergence accuracy:",
        *_changes(given, changes),
        "",
    ]
    if last and answer.converged:
        lines += [*_eigenvalues(given, answer), *_frontier(given, answer)]
        lines += ["  Self-consistency cycle converged.", "", ""]
    elif last_without_forces(given, changes):
        lines += [
            "  Electronic self-consistency reached - switching on the force computation.",
            "",
            "",
        ]
    return page([*lines, *_iteration_timing(number)])


def last_without_forces(given: Input, changes: dict[str, float]) -> bool:
    """Whether the forces start in the next iteration."""
    if "forces" in changes or not given.wants_forces:
        return False
    return all(changes[name] <= given.thresholds[name] for name in changes)


def converged_end(given: Input, answer: Answer, done: int) -> str:
    """All after a converged SCF."""
    lines = []
    if answer.dispersion is not None:
        lines += _libmbd(given, answer)
    if "dipole" in given.outputs:
        lines += _dipole(answer)
    lines += _compact(given, answer, _total(answer))
    if "hirshfeld" in given.outputs:
        lines += [RULE, *_hirshfeld(answer), ""]
    lines += [*_final(_total(answer)), *_leaving(done), "          Have a nice day.", RULE]
    return page(lines)


def unconverged_end(given: Input, answer: Answer, done: int) -> str:
    """All after an SCF that did not converge, or was stopped."""
    compact = _compact(given, answer, answer.energy + 0.02)
    leaving = _leaving(done)
    tail = [RULE, "  *** scf_solver: SCF cycle not converged.", " "]
    return page(compact) + NOT_CONVERGED + page([*leaving, *tail])


def ill_conditioned() -> str:
    """The abort over a nearly singular overlap matrix."""
    return page(
        [
            "  Ill-conditioned overlap matrix detected.",
            "  | Lowest eigenvalue of the overlap matrix:   0.1000E-06",
            "  *** If you know what you are doing, set override_illconditioning .true.",
            "  *** check_ovlp: Ill-conditioned overlap matrix detected.",
        ]
    )


def page(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _frontier(given: Input, answer: Answer) -> list[str]:
    spin = given.spins == 2
    occupied = "1.00000000" if spin else "2.00000000"
    return [
        "",
        f"  Highest occupied state (VBM) at {answer.homo:16.8f} eV",
        f"  | Occupation number:      {occupied}",
        *(["  | Spin channel:        1"] if spin else []),
        "",
        f"  Lowest unoccupied state (CBM) at {answer.lumo:15.8f} eV",
        "  | Occupation number:      0.00000000",
        *(["  | Spin channel:        2"] if spin else []),
        "",
        f"  Overall HOMO-LUMO gap: {answer.lumo - answer.homo:15.8f} eV.",
        "",
    ]


def _energies(answer: Answer, total: float, dispersion: float) -> list[str]:
    """Components that add up to `total`, which includes `dispersion` (both eV)."""
    eigenvalues, hartree = 0.6 * answer.energy, -50.0
    xc = total - dispersion - eigenvalues - hartree
    rows = (
        ("Sum of eigenvalues            ", eigenvalues),
        ("XC energy correction          ", xc),
        ("XC potential correction       ", 0.0),
        ("Free-atom electrostatic energy", 0.0),
        ("Hartree energy correction     ", hartree),
        *(
            (("vdW energy correction         ", dispersion),)
            if answer.dispersion is not None
            else ()
        ),
        ("Entropy correction            ", 0.0),
    )
    totals = ("Total energy                  ", "Total energy, T -> 0          ")
    lines = ["  Total energy components:", *(_component(name, value) for name, value in rows)]
    lines += ["  | ---------------------------", _component(totals[0], total)]
    lines.append(_component(totals[1], total) + "  <-- do not rely on this value for anything")
    return [*lines, _component("Electronic free energy        ", total)]


def _component(name: str, value: float) -> str:
    return f"  | {name}:{value / AIMS_HARTREE:20.8f} Ha {value:20.8f} eV"


def _changes(given: Input, changes: dict[str, float]) -> list[str]:
    rho = fortran(changes["rho"], 4)
    if given.spins == 2:
        density = [f"  | Change of charge/spin density :  {rho}  {fortran(changes['rho'] / 2, 4)}"]
    else:
        density = [
            f"  | Change of charge density      :  {rho}",
            f"  | Change of unmixed KS density  :  {fortran(changes['rho'] * 1.4, 4)}",
        ]
    rows = (
        ("sum of eigenvalues", -changes["eev"], "eV"),
        ("total energy", changes["etot"], "eV"),
        ("forces", changes.get("forces"), "eV/A"),
    )
    printed = [(name, value, unit) for name, value, unit in rows if value is not None]
    return density + [f"  | Change of {n:<20s}: {fortran(v, 4):>11s} {u}" for n, v, u in printed]


def _eigenvalues(given: Input, answer: Answer) -> list[str]:
    electrons, unpaired = answer.molecule.electrons, answer.molecule.unpaired
    lines = ["  Writing Kohn-Sham eigenvalues.", ""]
    if given.spins == 1:
        return lines + _states(answer, electrons // 2, 2.0)
    up = (electrons + unpaired) // 2
    for name, count in (("up", up), ("down", electrons - up)):
        lines += [f"  Spin-{name} eigenvalues:", "", *_states(answer, count, 1.0), ""]
    return [
        *lines,
        "  Current spin moment of the entire structure :",
        f"  | N = N_up - N_down : {unpaired:7.2f}",
        f"  | S                 : {unpaired / 2:7.2f}",
        f"  | J                 : {unpaired + 1:7.2f}",
        "",
    ]


def _states(answer: Answer, count: int, occupation: float) -> list[str]:
    occupied = answer.homo - 20.0 * np.linspace(1.0, 0.0, count) if count > 1 else [answer.homo]
    empty = answer.lumo + np.arange(VIRTUAL)
    rows = [(occupation, e) for e in occupied[:count]] + [(0.0, e) for e in empty]
    return [
        "  State    Occupation    Eigenvalue [Ha]    Eigenvalue [eV]",
        *(
            f"  {i:5d}{f:14.5f}{e / AIMS_HARTREE:19.6f}{e:20.5f}"
            for i, (f, e) in enumerate(rows, 1)
        ),
    ]


def _iteration_timing(number: int) -> list[str]:
    return [
        RULE,
        f"  End self-consistency iteration # {number:5d}       :  max(cpu_time)  wall_clock",
        "  | Time for this iteration                     :        0.010 s         0.010 s",
        RULE,
        "",
    ]


def _libmbd(given: Input, answer: Answer) -> list[str]:
    dispersion = answer.dispersion or 0.0
    energy = fortran(dispersion, 17, exponent=3)
    return [
        "",
        "  Entering Libmbd.",
        f"  Libmbd: VdW method: {given.dispersion}",
        "  Libmbd: Performing Hirshfeld analysis...",
        "",
        *_hirshfeld(answer),
        "",
        "  Libmbd: Calculating MBD energy...",
        f"  Libmbd: Evaluated energy: {energy}",
        "",
        *_energies(answer, _total(answer), dispersion * AIMS_HARTREE),
        "",
        "  Leaving Libmbd.",
        "",
    ]


def _hirshfeld(answer: Answer) -> list[str]:
    rows = zip(
        answer.molecule.numbers, physics.charges(answer.molecule), answer.ratios, strict=True
    )
    lines = ["  Performing Hirshfeld analysis of fragment charges and moments."]
    rule = "  " + "-" * 70
    for number, (z, charge, ratio) in enumerate(rows, start=1):
        free = FREE_VOLUMES.get(int(z), 30.0 + 2.0 * int(z))
        lines += [
            rule,
            f"  | Atom {number:5d}: {SYMBOLS[z]}",
            f"  |   Hirshfeld charge        : {charge:15.8f}",
            f"  |   Free atom volume        : {free:15.8f}",
            f"  |   Hirshfeld volume        : {free * ratio:15.8f}",
            f"  |   Hirshfeld dipole vector : {0:15.8f} {0:16.8f} {0:16.8f}",
            f"  |   Hirshfeld dipole moment : {0:15.8f}",
        ]
    return [*lines, rule]


def _dipole(answer: Answer) -> list[str]:
    moment = physics.dipole(answer.molecule)
    electrons, ions = answer.molecule.electrons, int(answer.molecule.numbers.sum())
    return [
        "  " + RULE,
        "   Computing monopole / dipole moments for complete molecule:",
        f"  | Total electronic charge [e]         : {fortran(electrons, 15):>30s}",
        f"  | Total ionic charge [e]              : {fortran(ions, 15):>30s}",
        f"  | Total charge [e]                    : {fortran(answer.molecule.charge, 15):>30s}",
        "  | Total dipole moment [eAng]          :" + _row(moment),
        "",
    ]


def _compact(given: Input, answer: Answer, total: float) -> list[str]:
    energy = f"{fortran(total, 15):>30s} eV"
    lines = [
        "  Energy and forces in a compact form:",
        f"  | Total energy uncorrected      :{energy}",
        f"  | Total energy corrected        :{energy}  <-- do not rely on this value",
        f"  | Electronic free energy        :{energy}",
    ]
    if given.wants_forces:
        lines.append("  Total atomic forces (unitary forces cleaned) [eV/Ang]:")
        rows = answer.forces[: answer.force_rows]
        lines += [f"  |{number:5d}{_row(row)}" for number, row in enumerate(rows, start=1)]
    return [*lines, "", *_xc()]


def _xc() -> list[str]:
    rule = "  ------------------------------------ "
    start, end = "Start decomposition of the XC Energy ", "End decomposition of the XC Energy "
    return [rule, f"  {start}", rule, rule, f"  {end}", rule, ""]


def _row(values: physics.FloatArray) -> str:
    return "".join(f"{fortran(value, 15):>31s}" for value in values)


def _final(total: float) -> list[str]:
    return [
        "-" * 78,
        "  Final output of selected total energy values:",
        "",
        f"  | Total energy of the DFT / Hartree-Fock s.c.f. calculation      :{total:26.9f} eV",
        "  | For reference only, the value of 1 Hartree used in FHI-aims is :"
        f"{AIMS_HARTREE:26.9f} eV",
        "-" * 78,
    ]


def _leaving(done: int) -> list[str]:
    return [
        RULE,
        "          Leaving FHI-aims.",
        "          Date     :  20260101, Time     :  120001.000",
        "",
        "          Computational steps:",
        f"          | Number of self-consistency cycles          :{done:13d}",
        "          | Number of SCF (re)initializations          :            1",
        "",
        "          Detailed time accounting                     :  max(cpu_time)  wall_clock",
        "          | Total time                                  :        1.000 s         1.000 s",
        "          | Preparation time                            :        0.010 s         0.010 s",
        "",
    ]


def _total(answer: Answer) -> float:
    return answer.energy + (answer.dispersion or 0.0) * AIMS_HARTREE
