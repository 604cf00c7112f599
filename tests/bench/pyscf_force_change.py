"""How the estimated force change compares with the difference of two full gradients.

Run ``OMP_NUM_THREADS=1 python tests/bench/pyscf_force_change.py``; prints the table of ADR 0002.
"""

import numpy as np
from ase import Atoms
from ase.build import molecule

from qfarm.engines.base import Job
from qfarm.engines.pyscf.convergence import convergence
from qfarm.engines.pyscf.properties import gradient
from qfarm.engines.pyscf.scf import solve
from qfarm.engines.pyscf.settings import settings
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory
from qfarm_schemas.units import HARTREE_PER_BOHR

DENSITY = (1e-3, 1e-4, 1e-5, 2e-6)
"""Where the SCF stops, e; everything else is left loose."""

OFF = {"conv_tol": 1.0, "conv_tol_grad": 1.0, "conv_tol_eigenvalues": 10.0}

CASES: tuple[tuple[str, int, int, BasisTier], ...] = (
    ("H2O", 0, 1, BasisTier.INTERMEDIATE),
    ("H2O", 0, 1, BasisTier.TIGHT),
    ("CH3OH", 0, 1, BasisTier.INTERMEDIATE),
    ("HCOOH", 0, 1, BasisTier.INTERMEDIATE),
    ("C2H6", 0, 1, BasisTier.TIGHT),
    ("OH", 0, 2, BasisTier.TIGHT),
    ("CH3", 0, 2, BasisTier.INTERMEDIATE),
    ("O2", 0, 3, BasisTier.INTERMEDIATE),
    ("CN", -1, 1, BasisTier.INTERMEDIATE),
    ("NaCl", 0, 1, BasisTier.INTERMEDIATE),
    ("PH3", 0, 1, BasisTier.INTERMEDIATE),
    ("C4H4NH", 0, 1, BasisTier.INTERMEDIATE),
)


def job(atoms: Atoms, charge: int, multiplicity: int, tier: BasisTier, density: float) -> Job:
    level = LevelOfTheory(engine="pyscf", method="PBE0", basis=tier)
    fragment = Fragment(
        numbers=atoms.numbers, positions=atoms.positions, charge=charge, multiplicity=multiplicity
    )
    stage = Stage(name="sp", task=TaskKind.SINGLE_POINT, level=level)
    return Job(fragment=fragment, stage=stage, scf={**OFF, "conv_tol_density": density})


def changes(asked: Job) -> tuple[float, float, float]:
    """Density change (e), estimated and true force change (eV/A) over the last iteration."""
    solution = solve(asked, settings(asked))
    trace = solution.trace
    assert trace.before is not None
    assert trace.after is not None
    _, used = gradient(solution.mean_field)
    found = convergence(trace.before, trace.after, used, trace.overlap)
    full = [
        used.method.grad_elec(state.mo_energy, state.mo_coeff, state.mo_occ)
        for state in (trace.before, trace.after)
    ]
    true = float(np.linalg.norm(full[1] - full[0], axis=1).max()) * HARTREE_PER_BOHR
    return found.density or 0.0, found.forces or 0.0, true


def main() -> None:
    print(
        "| molecule | basis | SCF stops at, e | density, e | true, eV/A | estimate, eV/A | ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, charge, multiplicity, tier in CASES:
        for stop in DENSITY:
            atoms = molecule(name)  # type: ignore[no-untyped-call]
            density, estimate, true = changes(job(atoms, charge, multiplicity, tier, stop))
            print(
                f"| {name}{_sign(charge)} | {tier.value} | {stop:.0e} | {density:.1e} |"
                f" {true:.1e} | {estimate:.1e} | {estimate / true:.2f} |",
                flush=True,
            )


def _sign(charge: int) -> str:
    return {-1: "-", 0: "", 1: "+"}[charge]


if __name__ == "__main__":
    main()
