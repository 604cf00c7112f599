"""What each engine's cost grows with, on real formulae, and its start values."""

from collections.abc import Mapping

import pytest

from qfarm.costs.fit import guessed
from qfarm.engines import TABLE, engine
from qfarm.engines.aims import costs as aims
from qfarm.engines.pyscf import costs as pyscf
from qfarm.engines.pyscf.basis import HEAVIEST
from qfarm.engines.pyscf.basis import TABLE as BASES
from qfarm_schemas.config import TaskKind
from qfarm_schemas.elements import SYMBOLS, counts
from qfarm_schemas.level import BasisTier, LevelOfTheory

GLUCOSE = counts("C6H12O6")


def level(name: str, basis: str = "none") -> LevelOfTheory:
    return LevelOfTheory(engine=name, method="PBE0", basis=basis)


@pytest.mark.parametrize(
    ("name", "basis", "formula", "size"),
    [
        ("tblite", "none", "C6H12O6", 24),
        ("pyscf", "intermediate", "H2O", 24),
        ("pyscf", "tight", "H2O", 43),
        ("pyscf", "intermediate", "C2H6O4P", 132),
        ("dftbplus", "none", "H96O48", 288),
        ("dftbplus", "none", "CH4O4P", 33),
        ("aims", "tight", "H18O9", 621),
        ("aims", "tight", "C14H10", 696),
        ("aims", "tight", "O2", 78),
        ("aims", "light", "H4", 20),
        ("aims", "light", "H2O", 24),
        ("aims", "intermediate", "H2O", 33),
    ],
)
def test_sizes_of_real_formulae(name: str, basis: str, formula: str, size: float) -> None:
    """Recorded outputs of FHI-aims print its numbers, but for `intermediate`, where they count
    auxiliary functions, too: 52 with 5 for each H and 9 for O."""
    assert engine(name).cost_size(level(name, basis), counts(formula)) == size


@pytest.mark.parametrize("tier", BASES)
def test_basis_functions_are_those_of_pyscf(tier: BasisTier) -> None:
    gto = pytest.importorskip("pyscf.gto")
    for z in range(1, HEAVIEST + 1):
        shells = gto.basis.load(BASES[tier].name, SYMBOLS[z])
        count = sum((2 * shell[0] + 1) * (len(shell[1]) - 1) for shell in shells)
        assert pyscf.functions(tier, {z: 1}) == count, SYMBOLS[z]


@pytest.mark.parametrize("tier", BASES)
def test_a_molecule_has_the_functions_that_pyscf_counts(tier: BasisTier) -> None:
    gto = pytest.importorskip("pyscf.gto")
    water = gto.M(atom="O 0 0 0; H 0 0.76 0.59; H 0 -0.76 0.59", basis=BASES[tier].name)
    assert pyscf.functions(tier, counts("H2O")) == water.nao


@pytest.mark.parametrize("atoms", [{118: 1}, {37: 2, 1: 1}, {}])
def test_elements_that_an_engine_does_not_know_have_a_size_too(atoms: Mapping[int, int]) -> None:
    for name in TABLE:
        for tier in BasisTier:
            assert engine(name).cost_size(level(name, tier), atoms) >= sum(atoms.values())


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("task", TaskKind)
def test_start_values_are_of_the_order_that_is_known(name: str, task: TaskKind) -> None:
    at = level(name, "tight" if name in ("aims", "pyscf", "gpu4pyscf") else "none")
    start, size = engine(name).start_costs(at, task), engine(name).cost_size(at, GLUCOSE)
    seconds = guessed(start.seconds).predict(size)
    assert 0.01 < seconds.median < 3600
    assert 2 < seconds.upper95 / seconds.median < 20
    assert 50 < guessed(start.memory_mb).predict(size).median < 20_000


def test_aims_on_eight_cores_takes_what_its_output_says() -> None:
    start = aims.start()
    median = guessed(start.seconds).predict(621).median
    assert median * start.share(8) == pytest.approx(197, rel=0.1)


@pytest.mark.parametrize(
    ("formula", "atoms"),
    [
        ("C2H6O", {6: 2, 1: 6, 8: 1}),
        ("CHO", {6: 1, 1: 1, 8: 1}),
        ("ClNa", {17: 1, 11: 1}),
        ("", {}),
        ("Xy3C2", {6: 2}),
        ("C1H12C2", {6: 3, 1: 12}),
    ],
)
def test_formulae_are_counted(formula: str, atoms: Mapping[int, int]) -> None:
    assert counts(formula) == atoms
