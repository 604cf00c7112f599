"""Traces drawn as text, to the character."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.cli.draw import ASCII, binned, trace

SCF = [1e2, 3e1, -5.0, 0.4, -0.06, 0.004, 3e-4, 2e-5, 4e-6]


def test_a_point_below_the_line_has_reached_the_threshold() -> None:
    assert trace(SCF, 1e-5) == [
        "  1e+02 ┤●",
        "  1e+01 ┤ ●",
        "  1e+00 ┤  ●",
        "  1e-01 ┤   ●",
        "  1e-02 ┤    ●",
        "  1e-03 ┤     ●",
        "  1e-04 ┤      ●",
        "  1e-05 ┤┄┄┄┄┄┄┄●┄ limit",
        "  1e-06 ┤        ●",
        "        └─────────",
        "         1       9",
    ]


def test_small_height_joins_decades_and_ascii_needs_no_unicode() -> None:
    assert trace(SCF, 1e-5, height=5, ink=ASCII) == [
        "  1e+01 |oo",
        "  1e-02 |  ooo",
        "  1e-05 |.....ooo. limit",
        "  1e-08 |        o",
        "        +---------",
        "         1       9",
    ]


def test_what_has_no_logarithm() -> None:
    assert trace([None, 1, 0, inf, nan, 1e-1]) == [
        "  1e+00 ┤ ● ▴▴",
        "  1e-01 ┤  ▾  ●",
        "        └──────",
        "         1    6",
    ]


def test_limits_that_are_no_power_of_ten() -> None:
    assert trace([0.5, 0.06, 0.04], 0.05) == [
        "  5e-01 ┤●",
        "  5e-02 ┤┄●┄ limit",
        "  5e-03 ┤  ●",
        "        └───",
        "         1 3",
    ]


def test_one_value_and_none() -> None:
    assert trace([1.0]) == ["  1e+00 ┤●", "        └─", "         1"]
    assert trace([]) == trace([None, None], 1e-5) == trace([0.0, nan]) == []


def test_more_values_than_columns_show_the_largest() -> None:
    assert binned([1, 5, None, 2, 3], 3) == [5, 2, 3]
    assert binned([None, None, 1], 2) == [None, 1]
    lines = trace([1e-6, 1.0] * 50, 1e-3, width=19)
    assert lines[0] == "  1e+00 ┤●●●●●●●●●●"
    assert lines[-1] == "         1      100"


values = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(
    st.lists(values, max_size=60),
    st.one_of(st.none(), st.floats(1e-12, 1e3)),
    st.integers(20, 120),
    st.integers(3, 15),
)
def test_any_trace_fits_the_width_and_height(
    drawn: list[float | None], limit: float | None, width: int, height: int
) -> None:
    lines = trace(drawn, limit, width, height)
    points = [line.removesuffix(" limit") for line in lines]
    assert all(len(line) <= width for line in points)
    assert len(lines) <= height + 3
    if any(v is not None and 0 < abs(v) < inf for v in drawn):
        assert any("●" in line for line in lines)


@pytest.mark.parametrize("exponent", range(-14, 15))
def test_a_power_of_ten_sits_in_its_own_row(exponent: int) -> None:
    line = next(
        line for line in trace([10.0**exponent, 1e-15, 1e15], height=40) if line[9:10] == "●"
    )
    assert float(line.split()[0]) == pytest.approx(10.0**exponent)


def test_the_limit_sits_on_its_own_edge_despite_rounding() -> None:
    """log10(0.03) - 2 + 2 is not log10(0.03) in floating point."""
    line = next(line for line in trace([1.0, 0.04, 3e-4], 0.03, height=8) if "limit" in line)
    assert line == "  3e-02 ┤┄●┄ limit"
