"""Synthetic records for tests of export; equal arguments give equal records."""

import hashlib
from datetime import timedelta

import numpy as np

from qfarm_schemas.attempt import Cost, Rung
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Provenance, Record
from qfarm_schemas.result import Convergence, Result
from support.build import NOW, PBE0

GFN2 = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic")


def identity(prefix: str, number: int) -> str:
    return prefix + hashlib.sha256(str(number).encode()).hexdigest()


def result(number: int = 0, n_atoms: int = 6, **fields: object) -> Result:
    random = np.random.default_rng(number)
    parts = {"PBE0": float(-2000 * random.random()), "MBD": float(-random.random())}
    good: dict[str, object] = {
        "numbers": random.integers(1, 18, n_atoms),
        "positions": random.normal(size=(n_atoms, 3)),
        "energy": sum(parts.values()),
        "energy_parts": parts,
        "forces": random.normal(size=(n_atoms, 3)),
        "dipole": random.normal(size=3),
        "charges": {"hirshfeld": random.normal(size=n_atoms), "mulliken": np.zeros(n_atoms)},
        "hirshfeld_ratios": random.random(n_atoms),
        "homo": -9.1,
        "lumo": 1.3,
        "convergence": Convergence(energy=1e-6, eigenvalues=1e-4, density=1e-6, forces=1e-5),
        "notes": ("a note",),
        "engine_version": "pyscf 2",
    }
    return Result(**(good | fields))


def record(number: int = 0, n_atoms: int = 6, **fields: object) -> Record:
    good: dict[str, object] = {
        "key": f"{identity('w', number)}.single_point",
        "fragment_id": identity("f", number),
        "fragment_class": "dimer",
        "tags": ("s22", "water_dimer"),
        "source": f"dimers.extxyz#{number}",
        "stage": "single_point",
        "level": PBE0,
        "charge": -1,
        "multiplicity": 1,
        "result": result(number, n_atoms),
        "provenance": Provenance(
            attempt=2,
            rung=Rung(scf="damped"),
            host="node1",
            partition="local",
            qfarm_version="0.1.0",
            finished=NOW + timedelta(seconds=number),
            cost=Cost(wall_seconds=3.5, cpu_seconds=3.25),
        ),
    }
    return Record(**(good | fields))
