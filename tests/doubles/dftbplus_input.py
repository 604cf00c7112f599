"""The DFTB+ double's input: what dftb_in.hsd asks for, and what is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import hsd
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from doubles.physics import Molecule

ANY: Final = "any"
"""The names below are the user's: elements, or words of a block nothing depends on."""

KNOWN: Final[dict[str, Any]] = {
    "Geometry": {"GenFormat": ANY},
    "Driver": {
        "GeometryOptimization": {
            "Optimizer": ANY,
            "MovedAtoms": ANY,
            "MaxSteps": ANY,
            "OutputPrefix": ANY,
            "Convergence": {"GradElem": ANY},
        }
    },
    "Hamiltonian": {
        "DFTB": dict.fromkeys(
            (
                *("SCC", "SCCTolerance", "MaxSCCIterations", "ConvergentSCCOnly"),
                *("ReadInitialCharges", "Mixer", "Charge", "ThirdOrderFull", "HubbardDerivs"),
                *("HCorrection", "MaxAngularMomentum", "Filling"),
            ),
            ANY,
        )
        | {
            "Dispersion": {
                "MBD": dict.fromkeys(("Beta", "NOmegaGrid", "KGrid", "ReferenceSet"), ANY)
            },
            "SlaterKosterFiles": {
                "Type2FileNames": dict.fromkeys(("Prefix", "Separator", "Suffix"), ANY)
            },
        }
    },
    "Options": dict.fromkeys(("WriteResultsTag", "WriteDetailedXML", "WriteDetailedOut"), ANY),
    "Analysis": {"PrintForces": ANY},
    "ParserOptions": {"ParserVersion": ANY},
}


@dataclass(frozen=True)
class Input:
    """dftb_in.hsd, parsed, and the folder that its paths start from."""

    text: str
    blocks: dict[str, Any]
    folder: Path

    @property
    def hamiltonian(self) -> dict[str, Any]:
        """The block ``DFTB``."""
        found: dict[str, Any] = self.blocks["Hamiltonian"]["DFTB"]
        return found

    @property
    def driver(self) -> dict[str, Any] | None:
        """The block of the optimisation; None for a single point."""
        found: dict[str, Any] | None = (self.blocks.get("Driver") or {}).get("GeometryOptimization")
        return found

    @cached_property
    def molecule(self) -> Molecule:
        """Geometry and charge."""
        numbers, positions = _gen(self.blocks["Geometry"]["GenFormat"])
        return Molecule(numbers, positions, charge=round(self.hamiltonian.get("Charge", 0)))

    @property
    def species(self) -> list[str]:
        """Symbols, in the order of the geometry."""
        return [str(word) for word in self.blocks["Geometry"]["GenFormat"][1]]

    @property
    def orbitals(self) -> int:
        """Number of basis functions, by the shells of MaxAngularMomentum."""
        shells = self.hamiltonian["MaxAngularMomentum"]
        sizes = {"s": 1, "p": 4, "d": 9}
        symbols = (chemical_symbols[z] for z in self.molecule.numbers)
        return sum(sizes[str(shells[symbol]).strip('"')] for symbol in symbols)

    @property
    def beta(self) -> float | None:
        """Beta of MBD; None without dispersion."""
        dispersion = self.hamiltonian.get("Dispersion")
        return float(dispersion["MBD"].get("Beta", 0.83)) if dispersion else None

    def missing(self) -> str | None:
        """The first Slater-Koster file that is not there."""
        files = (self.file(a, b) for a in self.species for b in self.species)
        return next((name for name in files if not (self.folder / name).is_file()), None)

    def file(self, first: str, second: str) -> str:
        """Name of the Slater-Koster file of a pair."""
        names = self.hamiltonian["SlaterKosterFiles"]["Type2FileNames"]
        prefix, separator, suffix = (
            str(names[key]).strip('"') for key in ("Prefix", "Separator", "Suffix")
        )
        return f"{prefix}{first}{separator}{second}{suffix}"

    def unknown(self) -> list[str]:
        """Paths of words that no block knows."""
        return list(_unknown(self.blocks, KNOWN, "dftbplusinput"))


def read(folder: Path) -> Input:
    """Read the input of a folder."""
    path = folder / "dftb_in.hsd"
    return Input(path.read_text(), hsd.load(str(path)), folder)


def _unknown(blocks: dict[str, Any], known: Any, path: str) -> Iterator[str]:
    for name, content in blocks.items():
        if known != ANY and name not in known:
            yield f"{path}/{name}"
        elif isinstance(content, dict) and known != ANY:
            yield from _unknown(content, known[name], f"{path}/{name}")


def _gen(rows: list[list[Any]]) -> tuple[Any, Any]:
    species, atoms = [str(word) for word in rows[1]], rows[2:]
    numbers = [atomic_numbers[species[int(row[1]) - 1]] for row in atoms]
    positions = [[float(x) for x in row[2:5]] for row in atoms]
    return np.array(numbers), np.array(positions)
