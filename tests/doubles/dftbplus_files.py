"""The DFTB+ double's files: results.tag, detailed.out, geo_end, band.out, in DFTB+'s format."""

from collections.abc import Iterable, Mapping

import numpy as np

from doubles import physics
from doubles.answer import Answer, fortran
from doubles.dftbplus_input import Input
from doubles.dftbplus_physics import FORCE, electronic, electrons, populations, total, valence
from doubles.dftbplus_text import energy_line, page
from qfarm_schemas.elements import SYMBOLS
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE


def left(given: Input, answer: Answer, step: int, converged: bool) -> Mapping[str, str]:
    """Files of a run that ends in order."""
    files = {
        "results.tag": results_tag(given, answer),
        "detailed.out": detailed_out(given, answer, step, converged),
    }
    if given.driver is not None:
        files |= {"geo_end.gen": gen(given, answer), "geo_end.xyz": xyz(answer, step)}
    return files


def results_tag(given: Input, answer: Answer) -> str:
    """The machine-readable results."""
    levels, filling = _orbitals(given, answer)
    rows = answer.forces[: answer.force_rows] / FORCE
    n_atoms = len(answer.molecule.numbers)
    moment = physics.dipole(answer.molecule) / DFTBPLUS_BOHR
    tags = (
        ("fermi_level", "1:1", [0.0]),
        ("number_of_electrons", "1:1", [electrons(answer.molecule)]),
        ("mermin_energy", "0:", [total(answer)]),
        ("extrapolated0_energy", "0:", [total(answer)]),
        ("eigenvalues", f"3:{len(levels)},1,1", levels),
        ("filling", f"3:{len(filling)},1,1", filling),
        ("forcerelated_energy", "0:", [total(answer)]),
        ("forces", f"2:3,{n_atoms}", rows.ravel()),
        ("gross_atomic_charges", f"1:{n_atoms}", physics.charges(answer.molecule)),
        ("dipole_moments", "2:3,1", moment),
    )
    return "".join(f"{name:<20s}:real:{shape}\n{_values(given)}" for name, shape, given in tags)


def _values(values: Iterable[float]) -> str:
    words = [f"{fortran(float(value), 15, exponent=3):>24s}" for value in values]
    return "".join("".join(words[i : i + 3]) + "\n" for i in range(0, len(words), 3))


def _orbitals(given: Input, answer: Answer) -> tuple[list[float], list[float]]:
    """Eigenvalues, Ha, and occupations."""
    count, filled = given.orbitals, electrons(answer.molecule) / 2
    occupation = np.clip(2 * (filled - np.arange(count)), 0, 2)
    n_filled = int(np.count_nonzero(occupation))
    levels = np.empty(count)
    levels[:n_filled] = answer.homo - 20 * np.linspace(1, 0, n_filled)
    levels[:n_filled][-1:] = answer.homo
    levels[n_filled:] = answer.lumo + np.arange(count - n_filled) * 0.1
    return list(levels / DFTBPLUS_HARTREE), list(occupation)


def detailed_out(given: Input, answer: Answer, step: int, converged: bool) -> str:
    """The results for people."""
    optimises = given.driver is not None
    where = (
        f"Geometry optimization step: {step}" if optimises else "Calculation with static geometry"
    )
    lines = [" Fermi distribution function", "", where, "", ""]
    lines += [f" Total charge:  {answer.molecule.charge:14.8f}", "", *_populations(answer), ""]
    lines += [*_energies(answer), "", "SCC converged", ""]
    if optimises:
        lines += ["Full geometry written in geo_end.{xyz|gen}", ""]
    lines += [*_forces(answer), "", *_dipole(answer), ""]
    if optimises:
        lines += ["Geometry converged" if converged else "!!! Geometry did NOT converge!", ""]
    return page(lines)


def _populations(answer: Answer) -> list[str]:
    charges, net = physics.charges(answer.molecule), populations(answer)
    gross = valence(answer.molecule) - charges
    lines = [" Atomic gross charges (e)", " Atom           Charge"]
    lines += [f"{i:5d}{charge:18.8f}" for i, charge in enumerate(charges, start=1)]
    lines += ["", "", " Atomic net (on-site) populations and hybridisation ratios"]
    lines += [" Atom       Population         Hybrid."]
    rows = enumerate(zip(net, 1 - net / valence(answer.molecule), strict=True), start=1)
    lines += [f"{i:5d}{population:17.8f}{hybrid:16.8f}" for i, (population, hybrid) in rows]
    lines += [
        "",
        f"Nr. of electrons (up): {electrons(answer.molecule):15.8f}",
        "Atom populations (up)",
    ]
    lines += [" Atom       Population"]
    return lines + [f"{i:5d}{population:17.8f}" for i, population in enumerate(gross, start=1)]


def _energies(answer: Answer) -> list[str]:
    repulsive = total(answer) - electronic(answer) - (answer.dispersion or 0.0)
    rows = [("Total Electronic energy", electronic(answer)), ("Repulsive energy", repulsive)]
    if answer.dispersion is not None:
        rows.append(("Dispersion energy", answer.dispersion))
    names = (
        "Total energy",
        "Extrapolated to 0",
        "Total Mermin free energy",
        "Force related energy",
    )
    return [
        energy_line(name, value) for name, value in (*rows, *((n, total(answer)) for n in names))
    ]


def _forces(answer: Answer) -> list[str]:
    rows = enumerate(answer.forces[: answer.force_rows] / FORCE, start=1)
    lines = [f"{i:5d}{x:20.12f}{y:19.12f}{z:19.12f}" for i, (x, y, z) in rows]
    largest = fortran(float(np.abs(answer.forces).max() / FORCE), 6)
    return ["Total Forces", *lines, "", f"Maximal derivative component:        {largest} au"]


def _dipole(answer: Answer) -> list[str]:
    moment = physics.dipole(answer.molecule) / DFTBPLUS_BOHR
    both = ((moment, "au"), (moment * 2.541746, "Debye"))
    return [f"Dipole moment:{x:14.8f}{y:14.8f}{z:14.8f} {unit}" for (x, y, z), unit in both]


def gen(given: Input, answer: Answer) -> str:
    """The geometry in GenFormat."""
    kinds = given.species
    rows = zip(answer.molecule.numbers, answer.molecule.positions, strict=True)
    lines = [f"{len(answer.molecule.numbers):5d}  C", " " + " ".join(kinds)]
    for i, (z, position) in enumerate(rows, start=1):
        words = "".join(f"{fortran(x, 10):>20s}" for x in position)
        lines.append(f"{i:5d}{kinds.index(SYMBOLS[z]) + 1:3d}{words}")
    return page(lines)


def xyz(answer: Answer, step: int) -> str:
    """The geometry in XYZ, with populations."""
    molecule = answer.molecule
    gross = valence(molecule) - physics.charges(molecule)
    rows = zip(molecule.numbers, molecule.positions, gross, strict=True)
    lines = [f"{len(molecule.numbers):5d}", f"Geometry Step: {step}"]
    for z, (x, y, w), population in rows:
        lines.append(f"{SYMBOLS[z]:>5s}{x:16.8f}{y:16.8f}{w:16.8f}{population:16.8f}")
    return page(lines)
