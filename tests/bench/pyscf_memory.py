"""Peak memory of the PySCF engine on compact water clusters.

Run ``OMP_NUM_THREADS=1 python tests/bench/pyscf_memory.py TIER MEMORY_MB [WATERS]...``. Each
cluster runs in a process of its own, since the peak of a process never falls.
"""

import multiprocessing
import resource
import sys
import time

import numpy as np

from qfarm.engines.base import Job
from qfarm.engines.pyscf import compute
from qfarm.engines.pyscf.scf import molecule
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, Dispersion, LevelOfTheory

WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])
SPACING = 2.9
"""A, between oxygen atoms on a cubic lattice of 3 by 3 layers."""


def job(waters: int, tier: BasisTier, memory_mb: int) -> Job:
    level = LevelOfTheory(
        engine="pyscf", method="PBE0", dispersion=Dispersion.MBD, mbd_beta=0.85, basis=tier
    )
    sites = np.array([(n % 3, n // 3 % 3, n // 9) for n in range(waters)])
    positions = (WATER + SPACING * sites[:, None]).reshape(-1, 3)
    fragment = Fragment(numbers=np.tile([8, 1, 1], waters), positions=positions)
    stage = Stage(name="sp", task=TaskKind.SINGLE_POINT, level=level)
    return Job(fragment=fragment, stage=stage, memory_mb=memory_mb)


def measure(asked: Job) -> None:
    """Compute and print the peak."""
    start = time.process_time()
    outcome = compute.compute(asked)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    functions = molecule(asked).nao
    print(
        f"{asked.fragment.n_atoms:3d} atoms, {functions:4d} functions, {asked.memory_mb} MB allowed"
        f": peak {peak:.0f} MB, {seconds:.1f} s, {type(outcome).__name__}",
        flush=True,
    )


def main() -> None:
    tier, memory_mb = BasisTier(sys.argv[1]), int(sys.argv[2])
    for waters in [int(word) for word in sys.argv[3:]] or [1, 4]:
        asked = job(waters, tier, memory_mb)
        child = multiprocessing.get_context("spawn").Process(target=measure, args=(asked,))
        child.start()
        child.join()


if __name__ == "__main__":
    main()
