"""What the PySCF engine costs above a bare PySCF call of the same work.

Run ``OMP_NUM_THREADS=1 python tests/bench/pyscf_overhead.py [REPEATS]``. Bare: PBE0 with density
fitting at the same tolerances and grid, gradient, dipole, Mulliken, Hirshfeld and MBD. Engine: the
same job from ``job.json`` to ``result.json``. Both run in turn in one process; CPU seconds.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import dft

from qfarm.engines import inprocess
from qfarm.engines.base import Job
from qfarm.engines.hirshfeld import hirshfeld
from qfarm.engines.mbd import mbd_energy_and_gradient
from qfarm.engines.pyscf import compute
from qfarm.engines.pyscf.basis import TABLE
from qfarm.engines.pyscf.scf import molecule
from qfarm.engines.pyscf.settings import grid_level, settings
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, Dispersion, LevelOfTheory
from qfarm_schemas.result import Result
from qfarm_schemas.units import HARTREE

METHANOL = [
    (6, -0.047, 0.664, 0.0),
    (8, -0.047, -0.758, 0.0),
    (1, -1.093, 0.969, 0.0),
    (1, 0.878, -1.046, 0.0),
    (1, 0.438, 1.071, 0.889),
    (1, 0.438, 1.071, -0.889),
]
WATER_DIMER = [
    (8, -1.551007, -0.114520, 0.0),
    (1, -1.934259, 0.762503, 0.0),
    (1, -0.599677, 0.040712, 0.0),
    (8, 1.350625, 0.111469, 0.0),
    (1, 1.680398, -0.373741, -0.758561),
    (1, 1.680398, -0.373741, 0.758561),
]  # S22, P. Jurecka et al., Phys. Chem. Chem. Phys. 8, 1985 (2006)
FRAGMENTS = {"water": WATER_DIMER[:3], "methanol": METHANOL, "water dimer": WATER_DIMER}


def job(rows: list[tuple[int, float, float, float]]) -> Job:
    level = LevelOfTheory(
        engine="pyscf",
        method="PBE0",
        dispersion=Dispersion.MBD,
        mbd_beta=0.85,
        basis=BasisTier.INTERMEDIATE,
    )
    fragment = Fragment(numbers=[row[0] for row in rows], positions=[row[1:] for row in rows])
    return Job(fragment=fragment, stage=Stage(name="sp", task=TaskKind.SINGLE_POINT, level=level))


def bare(asked: Job) -> float:
    """Total energy by plain PySCF calls, eV."""
    mol, tolerances = molecule(asked), settings(asked)
    mean_field = dft.RKS(mol, xc="PBE0").density_fit(TABLE[asked.level.basis].auxiliary)
    mean_field.chkfile = None
    mean_field.grids.level = grid_level(asked.level, asked.fragment)
    mean_field.conv_tol, mean_field.conv_tol_grad = tolerances.conv_tol, tolerances.conv_tol_grad
    mean_field.conv_check = False
    mean_field.kernel()
    mean_field.nuc_grad_method().kernel()
    mean_field.dip_moment(verbose=0)
    mean_field.mulliken_pop(verbose=0)
    return float(mean_field.e_tot) * HARTREE + _dispersion(asked, mean_field)


def _dispersion(asked: Job, mean_field: Any) -> float:
    fragment, basis = asked.fragment, TABLE[asked.level.basis].name
    density = mean_field._numint.get_rho(
        mean_field.mol, np.asarray(mean_field.make_rdm1()), mean_field.grids
    )
    shares = hirshfeld(mean_field.mol, mean_field.grids, density, basis=basis, xc="PBE0")
    beta = asked.level.mbd_beta
    assert beta is not None
    return mbd_energy_and_gradient(fragment.numbers, fragment.positions, shares.ratios, beta).energy


def engine(asked: Job) -> float:
    """Total energy by the engine, files included, eV."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in inprocess.write(asked).items():
            (folder / file).write_text(text)
        compute.main(folder)
        files = {path.name: path.read_text() for path in folder.iterdir()}
    return float(Result.model_validate_json(files[inprocess.RESULT]).energy)


def seconds(work: Callable[[Job], float], asked: Job) -> tuple[float, float, float]:
    """CPU seconds (user and system), user seconds alone, and the energy (eV)."""
    start = os.times()
    energy = work(asked)
    end = os.times()
    user = end.user - start.user
    return user + end.system - start.system, user, energy


def compare(name: str, asked: Job, repeats: int) -> None:
    """Print medians; system time is page faults of PySCF's buffers and swings on a busy host."""
    runs = np.array([(seconds(bare, asked), seconds(engine, asked)) for _ in range(repeats)])
    (plain, plain_user, _), (ours, ours_user, _) = np.median(runs, axis=0)
    paired = runs[:, 1, 0] / runs[:, 0, 0]
    difference = np.abs(runs[:, 1, 2] - runs[:, 0, 2]).max()
    print(
        f"{name:12s} bare {plain:5.2f} s, engine {ours:5.2f} s, ratio {ours / plain:.2f}"
        f" (paired: median {np.median(paired):.2f}, {paired.min():.2f} to {paired.max():.2f});"
        f" user time {plain_user:5.2f} s, {ours_user:5.2f} s, ratio {ours_user / plain_user:.2f};"
        f" energies differ by {difference:.0e} eV",
        flush=True,
    )


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    warm = job(FRAGMENTS["water"])
    bare(warm)
    engine(warm)
    for name, rows in FRAGMENTS.items():
        compare(name, job(rows), repeats)


if __name__ == "__main__":
    main()
