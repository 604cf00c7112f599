"""What the conformance suite must know of each engine; a new engine is one entry."""

from dataclasses import dataclass

from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory

WATER = Fragment(
    numbers=[8, 1, 1],
    positions=[[0.010, -0.020, 0.119], [0.0, 0.790, -0.477], [0.0, -0.763, -0.450]],
)
"""A distorted water molecule, A: no symmetry hides an error, and every force is large."""


@dataclass(frozen=True)
class Case:
    """The cheapest way to a water molecule.

    Attributes
    ----------
    level : LevelOfTheory
        Cheapest level that the engine offers.
    tasks : tuple of TaskKind
        What it can do; the others it must refuse.
    library : str
        Module that may be loaded in the child process only.
    outputs : tuple of str
        Files without which there is no result.
    energy : tuple of float
        Bounds of the total energy of water, eV.
    force_tolerance : float
        eV/A: largest error of a force against finite differences of the energy, by what the
        method neglects or its grid adds.
    components : tuple of (int, int)
        Atom and axis of the forces to compare.
    """

    level: LevelOfTheory
    tasks: tuple[TaskKind, ...]
    library: str
    outputs: tuple[str, ...]
    energy: tuple[float, float]
    force_tolerance: float
    components: tuple[tuple[int, int], ...]


CASES = {
    "pyscf": Case(
        level=LevelOfTheory(
            engine="pyscf", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="intermediate"
        ),
        tasks=(TaskKind.SINGLE_POINT,),
        library="pyscf",
        outputs=("result.json",),
        energy=(-2080.0, -2073.0),
        force_tolerance=5e-3,  # grid level 3 up to 4 meV/A; MBD at fixed ratios up to 0.8
        components=((1, 1),),
    ),
    "tblite": Case(
        level=LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic"),
        tasks=(TaskKind.SINGLE_POINT, TaskKind.OPTIMISATION),
        library="tblite",
        outputs=("result.json",),
        energy=(-138.1, -137.8),
        force_tolerance=2e-4,  # third derivatives: (1e-3 A)^2 / 6 times about 300 eV/A^3
        components=((1, 1), (0, 2)),
    ),
}
