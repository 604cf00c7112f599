"""Units: each factor against an independent table."""

import pytest
from scipy import constants

from qfarm_schemas import units

CODATA = constants.physical_constants


@pytest.mark.parametrize(
    ("factor", "expected", "relative"),
    [
        (units.HARTREE, CODATA["Hartree energy in eV"][0], 2e-11),
        (units.BOHR, CODATA["Bohr radius"][0] * 1e10, 1e-9),
        (units.KELVIN, constants.k / constants.e, 1e-15),
        (units.KCAL_PER_MOL, constants.calorie * 1e3 / constants.N_A / constants.e, 1e-14),
        (
            units.HARTREE_PER_BOHR,
            CODATA["atomic unit of force"][0] / constants.e * constants.angstrom,
            1e-9,
        ),
    ],
)
def test_factor(factor, expected, relative) -> None:
    assert factor == pytest.approx(expected, rel=relative)
