"""Fragments that the GPU is compared on, small ones first: closed and open shells, both bases."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from ase.io import read

from qfarm.engines.base import Job
from qfarm.engines.pyscf import LADDER
from qfarm.ladder import settings
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"

RADICALS: Final = {
    "hydroxyl": Fragment(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], multiplicity=2),
    "dioxygen": Fragment(numbers=[8, 8], positions=[[0, 0, 0], [0, 0, 1.207]], multiplicity=3),
    "methyl": Fragment(
        numbers=[6, 1, 1, 1],
        positions=[[0, 0, 0.05], [0, 1.078, 0], [0.934, -0.539, 0], [-0.934, -0.539, 0]],
        multiplicity=2,
    ),
}
"""Open shells, A; the examples have none."""

TIGHTER: Final = 1e-2
"""Factor of all SCF tolerances of a tight comparison."""


@dataclass(frozen=True)
class Case:
    """A fragment by its name, a basis tier and a rung of the ladder."""

    name: str
    tier: str
    rung: str = "diis"

    @property
    def fragment(self) -> Fragment:
        return fragments()[self.name]

    def job(self, threads: int, tight: bool = False) -> Job:
        """What both engines compute; `tight` leaves less to the end of the SCF."""
        factor = TIGHTER if tight else 1.0
        thresholds = {"energy": 1e-5, "eigenvalues": 1e-3, "density": 1e-5, "forces": 1e-4}
        level = LevelOfTheory(
            engine="pyscf",
            method="PBE0",
            dispersion="mbd",
            mbd_beta=0.85,
            basis=self.tier,
            thresholds={name: factor * value for name, value in thresholds.items()},
        )
        stage = Stage(name="single_point", task=TaskKind.SINGLE_POINT, level=level)
        aids = dict(settings(LADDER.scf, self.rung))
        memory_mb = 32000
        return Job(
            fragment=self.fragment, stage=stage, scf=aids, threads=threads, memory_mb=memory_mb
        )


CASES: Final = (
    Case("hydroxyl", "tight"),
    Case("hydroxyl", "intermediate", "newton"),
    Case("methyl", "tight"),
    Case("dioxygen", "intermediate", "level-shift"),
    Case("water_dimer", "tight"),
    Case("water_dimer", "intermediate", "damped"),
    Case("sodium_2_water", "tight"),
    Case("dimethyl_phosphate", "intermediate"),
    Case("trans_butane", "tight"),
    Case("formamide_dimer", "tight"),
    Case("dimethyl_phosphate", "tight"),
    Case("beta_d_glucopyranose", "intermediate"),
    Case("benzene_dimer", "tight"),
    Case("adenine_thymine", "tight"),
)


@cache
def fragments() -> dict[str, Fragment]:
    """By name: the examples and the radicals."""
    return dict(_examples()) | RADICALS


def _examples() -> Iterator[tuple[str, Fragment]]:
    for file in ("fragments.extxyz", "larger.extxyz"):
        for atoms in read(EXAMPLES / file, index=":"):
            yield (
                atoms.info["name"],
                Fragment(
                    numbers=atoms.numbers,
                    positions=atoms.positions,
                    charge=int(atoms.info["charge"]),
                    multiplicity=int(atoms.info["multiplicity"]),
                ),
            )
