"""Interaction: energies of S22 dimers from exported records, beside CCSD(T)/CBS.

    qfarm submit s22/*.extxyz --protocol open-single-point
    qfarm run
    qfarm export s22.h5
    python interaction.py s22.h5 [--counterpoise]

A dimer counts when the file holds it and both its monomers at the geometry of S22 (P. Jurecka,
J. Sponer, J. Cerny, P. Hobza, Phys. Chem. Chem. Phys. 8, 1985 (2006), as shipped with ASE). The
reference values are those of ASE: T. Takatani, E. G. Hohenstein, M. Malagoli, M. S. Marshall,
C. D. Sherrill, J. Chem. Phys. 132, 144104 (2010).
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py
import numpy as np
from ase import Atoms
from ase.collections import s22
from ase.data.s22 import get_interaction_energy_cc, get_number_of_dimer_atoms
from rich import box
from rich.console import Console
from rich.table import Table

from qfarm.engines.pyscf.basis import TABLE
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.units import HARTREE, KCAL_PER_MOL

SAME: Final = 1e-5
"""A: ASE and the example files print six decimals."""


@dataclass(frozen=True)
class Found:
    """One record: geometry, energy and MBD part in eV, id of its level of theory."""

    atoms: Atoms
    energy: float
    mbd: float
    level_id: str


@dataclass(frozen=True)
class Interaction:
    """Interaction energy of one dimer, eV; `monomers` are its parts in order."""

    name: str
    dimer: Found
    monomers: tuple[Found, Found]

    @property
    def energy(self) -> float:
        """Dimer minus monomers at the dimer's geometry."""
        return self.dimer.energy - sum(monomer.energy for monomer in self.monomers)

    @property
    def mbd(self) -> float:
        """Share of MBD in it."""
        return self.dimer.mbd - sum(monomer.mbd for monomer in self.monomers)


def interactions(records: list[Found]) -> Iterator[Interaction]:
    """Find the dimers of S22 whose monomers are there, too, at the same level of theory."""
    for name in s22.names:
        complete = s22[name]
        first = get_number_of_dimer_atoms(name)[0]  # type: ignore[no-untyped-call]
        wanted = (complete, complete[:first], complete[first:])
        for level_id in sorted({record.level_id for record in records}):
            parts = [_find(atoms, level_id, records) for atoms in wanted]
            if all(parts):
                dimer, *monomers = (part for part in parts if part is not None)
                yield Interaction(name, dimer, (monomers[0], monomers[1]))


def superposition_error(pair: Interaction, level: LevelOfTheory) -> float:
    """Basis-set superposition error in eV: what the monomers gain from the partner's functions.

    S. F. Boys, F. Bernardi, Mol. Phys. 19, 553 (1970). Computed here with PySCF at the record's
    functional, basis, density fitting and grid. MBD has no basis and so no such error.
    """
    first = len(pair.monomers[0].atoms)
    symbols = list(pair.dimer.atoms.symbols)
    alone = sum(
        _energy(list(monomer.atoms.symbols), monomer.atoms.positions, level)
        for monomer in pair.monomers
    )
    ghosts = (
        symbols[:first] + [f"ghost-{symbol}" for symbol in symbols[first:]],
        [f"ghost-{symbol}" for symbol in symbols[:first]] + symbols[first:],
    )
    together = sum(_energy(names, pair.dimer.atoms.positions, level) for names in ghosts)
    return together - alone


def read(path: Path) -> tuple[list[Found], dict[str, LevelOfTheory]]:
    """Read records and levels from the HDF5 file."""
    with h5py.File(path) as file:
        groups = [group for members in file["records"].values() for group in members.values()]
        levels = {
            name: LevelOfTheory.model_validate_json(group.attrs["json"])
            for name, group in file["levels"].items()
        }
        return [_found(group) for group in groups], levels


def table(pairs: list[Interaction], errors: list[float]) -> Table:
    """One row a dimer, in kcal/mol."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Interaction energies, kcal/mol")
    made.add_column("S22 dimer")
    columns = ["from records", "MBD part"]
    columns += ["basis error", "corrected"] if errors else []
    for column in (*columns, "CCSD(T)/CBS"):
        made.add_column(column, justify="right")
    for number, pair in enumerate(pairs):
        values = [pair.energy, pair.mbd]
        if errors:
            values += [errors[number], pair.energy - errors[number]]
        reference = get_interaction_energy_cc(pair.name)  # type: ignore[no-untyped-call]
        cells = [f"{value / KCAL_PER_MOL:.2f}" for value in (*values, reference)]
        made.add_row(pair.name.replace("_", " "), *cells)
    return made


def main() -> None:
    """Read, compare, explain."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path, help="HDF5 file of `qfarm export`")
    parser.add_argument(
        "--counterpoise", action="store_true", help="compute the basis error with PySCF"
    )
    arguments = parser.parse_args()
    records, levels = read(arguments.dataset)
    pairs = list(interactions(records))
    if not pairs:
        parser.error(f"{arguments.dataset} holds no S22 dimer together with both its monomers")
    errors = (
        [superposition_error(pair, levels[pair.dimer.level_id]) for pair in pairs]
        if arguments.counterpoise
        else []
    )
    console = Console(highlight=False, width=100)
    console.print(table(pairs, errors))
    used = {pair.dimer.level_id for pair in pairs}
    names = ", ".join(TABLE[levels[name].basis].label for name in sorted(used))
    console.print(EXPLANATION.format(basis=names))


EXPLANATION: Final = (
    "Why the records bind too strongly: in the dimer each molecule borrows the basis functions of "
    "the other and lowers its energy, which the monomers alone cannot do. This basis-set "
    "superposition error belongs to the finite basis ({basis}), not to PBE0+MBD; --counterpoise "
    "computes it by giving each monomer the partner's functions without its atoms. What remains "
    "after the correction is the incompleteness of the basis (def2 sets of this size have no "
    "diffuse functions, which a hydrogen bond needs) and the error of the functional. The numeric "
    "orbitals of FHI-aims have smaller errors of both kinds, so records of different bases "
    "must never be mixed."
)


def _found(group: h5py.Group) -> Found:
    return Found(
        atoms=Atoms(group["atomic_numbers"][()], group["positions"][()]),
        energy=float(group["energy"][0]),
        mbd=float(group["energy_mbd"][0]) if "energy_mbd" in group else 0.0,
        level_id=group.attrs["level"],
    )


def _find(atoms: Atoms, level_id: str, records: list[Found]) -> Found | None:
    same = (
        record
        for record in records
        if record.level_id == level_id
        and np.array_equal(record.atoms.numbers, atoms.numbers)
        and np.abs(record.atoms.positions - atoms.positions).max() < SAME
    )
    return next(same, None)


def _energy(symbols: list[str], positions: np.ndarray, level: LevelOfTheory) -> float:
    from pyscf import dft, gto

    basis = TABLE[level.basis]
    atoms = list(zip(symbols, positions.tolist(), strict=True))
    molecule = gto.M(atom=atoms, basis=basis.name, verbose=0)
    solver = dft.RKS(molecule, xc=level.method).density_fit(auxbasis=basis.auxiliary)
    solver.grids.level = int(level.options.get("grid_level", 3))
    return float(solver.kernel()) * HARTREE


if __name__ == "__main__":
    main()
