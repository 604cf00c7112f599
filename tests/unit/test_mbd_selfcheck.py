"""The MBD self-check: real outputs pass it, and what does not belong together is caught."""

import re
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qfarm.engines.mbd import mbd_energy, mbd_energy_and_gradient
from qfarm.engines.mbd.selfcheck import LARGEST, self_check, tolerance
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.units import BOHR, DFTBPLUS_BOHR, HARTREE
from support.needs import shared_fixture

FloatArray = NDArray[np.float64]

BETA: Final = 0.83

VALENCE: Final = {"O": 6, "H": 1}
NUMBERS: Final = {"O": 8, "H": 1}


def h4() -> dict[str, Any]:
    """Four hydrogen atoms by FHI-aims: PBE with libMBD's beta, volumes of 8 decimals."""
    folder = shared_fixture("aims") / "mbd_rsscs_h4_pbe_light"
    text = (folder / "aims.out").read_text()
    rows = re.findall(r"^atom(.*)H$", (folder / "geometry.in").read_text(), re.M)
    free, bound = (
        np.array(re.findall(rf"{word} volume\s*:\s*(\S+)", text), dtype=float)
        for word in ("Free atom", "Hirshfeld")
    )
    printed = re.search(r"Libmbd: Evaluated energy:\s*(\S+)", text)
    assert printed is not None
    return {
        "numbers": np.ones(4, int),
        "positions": np.array([row.split() for row in rows], dtype=float),
        "ratios": bound / free,
        "beta": BETA,
        "printed": float(printed[1]),
    }


def water_dimer() -> dict[str, Any]:
    """Two water molecules by DFTB+; the ratio of an atom is 1 + (population - valence) / Z."""
    folder = shared_fixture("dftbplus") / "water2_sp"
    detailed = (folder / "detailed.out").read_text()
    geometry = (folder / "geometry.gen").read_text().splitlines()
    count, kinds = int(geometry[0].split()[0]), geometry[1].split()
    rows = [line.split() for line in geometry[2 : 2 + count]]
    symbols = [kinds[int(row[1]) - 1] for row in rows]
    table = detailed[detailed.index("Atomic net (on-site)") :].splitlines()[2 : 2 + count]
    population = np.array([float(line.split()[1]) for line in table])
    numbers = np.array([NUMBERS[symbol] for symbol in symbols])
    valence = np.array([VALENCE[symbol] for symbol in symbols])
    printed = re.search(r"Dispersion energy:\s+(\S+) H", detailed)
    assert printed is not None
    return {
        "numbers": numbers,
        "positions": np.array([row[2:5] for row in rows], dtype=float) / DFTBPLUS_BOHR * BOHR,
        "ratios": 1 + (population - valence) / numbers,
        "beta": BETA,
        "printed": float(printed[1]),
    }


def off(case: dict[str, Any]) -> float:
    own = mbd_energy(case["numbers"], case["positions"], case["ratios"], case["beta"])
    return abs(own / HARTREE - case["printed"])


@pytest.mark.parametrize("of", [h4, water_dimer])
def test_real_programs_pass(of: Any) -> None:
    case = of()
    error = off(case)
    print(f"{of.__name__}: {error:.1e} Ha, {error / abs(case['printed']):.1e} of the energy")
    assert error <= 2e-7 * abs(case["printed"])
    check = self_check(**case)
    assert check.passed
    assert (check.name, check.required) == (
        "MBD self-check",
        f"<= {tolerance(case['printed']):.1e} Ha from qfarm's own MBD",
    )
    assert check.found == f"{error:.1e} Ha"
    assert check.remedy == ""


@pytest.mark.parametrize("of", [h4, water_dimer])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda case: {"ratios": case["ratios"] * 1.01},
        lambda case: {"ratios": case["ratios"] + np.eye(len(case["ratios"]))[0] * 0.002},
        lambda case: {"ratios": np.ones_like(case["ratios"])},
        lambda case: {"beta": 0.85},
        lambda case: {"positions": case["positions"] * [1, 1.02, 1]},
        lambda case: {"positions": case["positions"] / BOHR},
        lambda case: {"numbers": np.where(case["numbers"] == 1, 2, 7)},
        lambda case: {"printed": case["printed"] * HARTREE},
        lambda case: {"printed": 0.0},
    ],
)
def test_what_does_not_belong_together_is_caught(of: Any, wrong: Any) -> None:
    case = of()
    check = self_check(**case | wrong(case))
    assert not check.passed
    assert check.kind is FailureKind.BAD_OUTPUT
    assert "kept scratch folder" in check.remedy


PAIR: Final = {
    "numbers": np.array([8, 8]),
    "positions": np.array([[0.0, 0, 0], [0, 0, 3.0]]),
    "ratios": np.array([0.9, 0.9]),
    "beta": BETA,
    "printed": -0.001,
}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"positions": np.zeros((2, 3))}, "gives no energy|printed"),
        ({"positions": np.array([[0.0, 0, 0], [0, 0, 0.2]]), "ratios": np.full(2, 30.0)}, "MBD "),
        ({"positions": np.full((2, 3), np.nan)}, "position"),
        ({"positions": np.zeros((3, 3))}, "shapes"),
        ({"ratios": np.array([0.9, np.nan])}, "ratios"),
        ({"ratios": np.array([0.9, -0.1])}, "ratios"),
        ({"numbers": np.array([8, 92])}, "92"),
        ({"beta": float("nan")}, "beta"),
        ({"beta": -0.83}, "beta"),
        ({"printed": float("nan")}, "nan"),
        ({"printed": float("inf")}, "inf"),
    ],
)
def test_what_gives_no_energy_is_a_failed_check(wrong: dict[str, Any], said: str) -> None:
    check = self_check(**PAIR | wrong)
    assert not check.passed
    assert re.search(said, check.found)


NUMBER: Final = st.floats(width=64)


@given(
    st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, st.integers(-1, 99)), max_size=4),
    NUMBER,
    NUMBER,
)
def test_never_raises(
    rows: list[tuple[float, float, float, float, int]], beta: float, printed: float
) -> None:
    columns = np.array(rows, dtype=float).reshape(-1, 5)
    numbers = columns[:, 4].astype(int)
    if len(numbers) > 1:  # also far less wild: two atoms of plausible ratios
        columns[0, 3] = columns[1, 3] = 0.9
    check = self_check(numbers, columns[:, :3], columns[:, 3], beta, printed)
    assert not check.passed or abs(printed) < 1e6


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_the_energy_alone_is_that_of_the_gradient(count: int) -> None:
    rng = np.random.default_rng(count)
    grid = np.array([(i, j, k) for i in range(3) for j in range(3) for k in range(3)])[:count]
    positions = grid * 2.2 + rng.uniform(-0.2, 0.2, (count, 3))
    arguments = (rng.choice([1, 6, 8], count), positions, rng.uniform(0.5, 1.0, count), 0.85)
    both = mbd_energy_and_gradient(*arguments).energy
    assert mbd_energy(*arguments) == pytest.approx(both, abs=1e-11, rel=1e-12)


@pytest.mark.parametrize("of", [h4, water_dimer])
def test_the_tolerance_is_far_above_what_real_programs_miss_it_by(of: Any) -> None:
    case = of()
    assert off(case) * 1000 < tolerance(case["printed"])


@given(st.floats(-100, 100))
def test_nothing_above_1e_6_ha_is_accepted(energy: float) -> None:
    assert 0 < tolerance(energy) <= LARGEST == 1e-6
