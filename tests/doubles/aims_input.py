"""The FHI-aims double's input: what control.in and geometry.in ask for."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase.data import atomic_numbers

from doubles.physics import Molecule

DENSITIES: Final = ("D_spin_01_kpt_000001.csc", "D_spin_02_kpt_000001.csc")
"""Restart files that ELSI writes, one for each spin channel."""

DEFAULTS: Final = {"rho": 1e-5, "eev": 1e-3, "etot": 1e-6}
"""Thresholds where control.in has none; without one, the change of forces does not count."""


@dataclass(frozen=True)
class Input:
    """control.in and geometry.in.

    Attributes
    ----------
    control, geometry : str
        Texts.
    words : dict
        Keyword -> rest of its line, of the last line that has it, above the species.
    tier : str
        ``light``, ``intermediate``, ``tight``, as the species blocks say.
    molecule : Molecule
        Geometry, charge, unpaired electrons.
    restarted : bool
        Whether a density was read.
    """

    control: str
    geometry: str
    words: dict[str, str]
    tier: str
    molecule: Molecule
    restarted: bool

    @property
    def spins(self) -> int:
        """Spin channels."""
        return 2 if self.words.get("spin", "none") == "collinear" else 1

    @property
    def dispersion(self) -> str:
        """``mbd-rsscs``, ``mbd-nl`` or nothing."""
        if "many_body_dispersion_nl" in self.words:
            return "mbd-nl"
        return "mbd-rsscs" if "many_body_dispersion" in self.words else ""

    @property
    def beta(self) -> float:
        """Range-separation parameter."""
        given = self.words.get("many_body_dispersion_nl", self.words.get("many_body_dispersion"))
        found = re.search(r"beta\s*=\s*([\d.]+)", given or "")
        return float(found.group(1)) if found else 0.83

    @property
    def thresholds(self) -> dict[str, float]:
        """Largest changes of the last iteration: rho, eev (eV), etot (eV), forces (eV/A)."""
        names = ("rho", "eev", "etot", "forces")
        given = {
            n: self.words[f"sc_accuracy_{n}"] for n in names if f"sc_accuracy_{n}" in self.words
        }
        return DEFAULTS | {name: float(value.split()[0]) for name, value in given.items()}

    @property
    def iterations(self) -> int:
        """Most iterations."""
        return int(self.words.get("sc_iter_limit", "1000"))

    @property
    def wants_forces(self) -> bool:
        """Whether forces are computed."""
        return self.words.get("compute_forces") == ".true." or "sc_accuracy_forces" in self.words

    @property
    def outputs(self) -> set[str]:
        """What ``output`` lines ask for."""
        return set(re.findall(r"^\s*output\s+(\w+)", self.control, re.MULTILINE))

    def written(self, done: int) -> tuple[str, ...]:
        """Density files written after so many iterations: ``elsi_restart write 5``."""
        task, _, every = self.words.get("elsi_restart", "").partition(" ")
        due = "write" in task and done % int(every or 1000) == 0
        return DENSITIES[: self.spins] if due else ()


def read(folder: Path) -> Input:
    """Read the input of a folder."""
    control = (folder / "control.in").read_text()
    geometry = (folder / "geometry.in").read_text()
    words = _words(control)
    symbols, positions, moments = _atoms(geometry)
    unpaired = float(words.get("fixed_spin_moment", sum(moments)))
    molecule = Molecule(
        numbers=np.array([atomic_numbers[symbol] for symbol in symbols]),
        positions=np.array(positions, dtype=float).reshape(-1, 3),
        charge=round(float(words.get("charge", "0").split()[0])),
        unpaired=round(unpaired),
    )
    restarts = "read" in words.get("elsi_restart", "") and (folder / DENSITIES[0]).is_file()
    return Input(control, geometry, words, _tier(control), molecule, restarts)


def _words(control: str) -> dict[str, str]:
    general = re.split(r"^\s*species\s", control, maxsplit=1, flags=re.MULTILINE)[0]
    lines = (line.split("#")[0].split(maxsplit=1) for line in general.splitlines())
    return {line[0]: line[1].strip() if len(line) > 1 else "" for line in lines if line}


def _tier(control: str) -> str:
    named = {tier.lower() for tier in re.findall(r'"(\w+)"\s+defaults', control)}
    return named.pop() if len(named) == 1 else "mixed"


def _atoms(geometry: str) -> tuple[list[str], list[list[str]], list[float]]:
    rows = [line.split() for line in geometry.splitlines()]
    atoms = [row for row in rows if row[:1] == ["atom"]]
    moments = [float(row[1]) for row in rows if row[:1] == ["initial_moment"]]
    return [row[4] for row in atoms], [row[1:4] for row in atoms], moments
