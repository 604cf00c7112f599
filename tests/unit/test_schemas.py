"""Schemas: identity, canonical hashing, validation, round trips."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from qfarm_schemas.base import canonical_json
from qfarm_schemas.config import (
    EngineConfig,
    FarmConfig,
    LeaseConfig,
    LevelRule,
    Partition,
    Policy,
    Protocol,
)
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, Dispersion, LevelOfTheory
from support.build import result

WATER = Fragment(
    numbers=[8, 1, 1],
    positions=[[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]],
)

coordinates = arrays(
    np.float64, (3, 3), elements=st.floats(-50, 50, allow_nan=False, width=64), fill=st.nothing()
)


def moved(shift: float, atom: int = 1, axis: int = 1) -> Fragment:
    positions = WATER.positions.copy()
    positions[atom, axis] += shift
    return WATER.model_copy(update={"positions": positions})


class TestFragmentIdentity:
    def test_is_pinned_for_ever(self) -> None:
        # A change of this value orphans every record of every farm.
        assert WATER.id == "fae3ae2bcf286e33ba9f5158323cff01eee6d1a39d8879c2d37028c6877207108"
        assert WATER.canonical_bytes()[:16] == b"qfarm.fragment.1"
        assert len(WATER.canonical_bytes()) == 16 + 8 * (3 + 3 + 9)

    @given(coordinates)
    def test_same_geometry_printed_with_ten_decimals_is_the_same(self, positions) -> None:
        rounded = np.round(positions, 10)
        printed = [[float(f"{x:.10f}") for x in row] for row in rounded]
        exact = Fragment(numbers=[8, 1, 1], positions=rounded)
        assert Fragment(numbers=[8, 1, 1], positions=printed).id == exact.id

    @given(
        atom=st.integers(0, 2),
        axis=st.integers(0, 2),
        shift=st.sampled_from([1e-9, -1e-9, 2.5e-9, 1e-3]),
    )
    def test_a_shift_of_a_billionth_is_another_fragment(self, atom, axis, shift) -> None:
        shifted = WATER.positions.copy()
        shifted[atom, axis] += shift
        assert Fragment(numbers=WATER.numbers, positions=shifted).id != WATER.id

    def test_negative_zero_is_zero(self) -> None:
        plus = Fragment(numbers=[1], positions=[[0.0, 0.0, 0.0]])
        assert Fragment(numbers=[1], positions=[[-0.0, 0.0, -0.0]]).id == plus.id

    @pytest.mark.parametrize("change", [{"charge": 2}, {"multiplicity": 3}])
    def test_charge_and_multiplicity_are_part_of_it(self, change) -> None:
        assert Fragment(numbers=WATER.numbers, positions=WATER.positions, **change).id != WATER.id

    @pytest.mark.parametrize(
        "change", [{"fragment_class": "dimer"}, {"tags": ("a",)}, {"source": "b.xyz#1"}]
    )
    def test_labels_are_not(self, change) -> None:
        other = Fragment(numbers=WATER.numbers, positions=WATER.positions, **change)
        assert other.id == WATER.id
        assert other != WATER

    def test_atom_order_counts(self) -> None:
        order = [1, 0, 2]
        other = Fragment(numbers=WATER.numbers[order], positions=WATER.positions[order])
        assert other.id != WATER.id

    def test_is_a_letter_and_a_digest(self) -> None:
        assert WATER.id[0] == "f"
        assert len(WATER.id) == 65
        int(WATER.id[1:], 16)

    @given(coordinates)
    def test_survives_json(self, positions) -> None:
        fragment = Fragment(numbers=[8, 1, 1], positions=positions, charge=-1, tags=("x",))
        again = Fragment.model_validate_json(fragment.model_dump_json())
        assert again == fragment
        assert np.array_equal(again.positions, fragment.positions)


class TestFragmentValidation:
    @pytest.mark.parametrize(
        ("numbers", "positions", "says"),
        [
            ([], [], "non-empty"),
            ([1], [[0, 0]], r"shape \(n, 3\)"),
            ([1, 1], [[0, 0, 0]], "2 numbers but 1 positions"),
            ([1], [[0, 0, float("nan")]], "NaN"),
            ([0], [[0, 0, 0]], "between 1 and 118"),
            ([119], [[0, 0, 0]], "between 1 and 118"),
            ([1.5], [[0, 0, 0]], "non-empty list of atomic numbers"),
        ],
    )
    def test_says_what_is_wrong(self, numbers, positions, says) -> None:
        with pytest.raises(ValidationError, match=says):
            Fragment(numbers=numbers, positions=positions)

    def test_arrays_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match="read-only"):
            WATER.positions[0, 0] = 1.0

    def test_does_not_share_memory_with_its_input(self) -> None:
        source = WATER.positions.copy()
        fragment = Fragment(numbers=WATER.numbers, positions=source)
        source[0, 0] = 9.0
        assert fragment.positions[0, 0] == 0.0

    def test_unknown_field_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="Extra inputs"):
            Fragment(numbers=[1], positions=[[0, 0, 0]], spin=2)

    def test_a_changed_copy_is_validated_and_has_an_id_of_its_own(self) -> None:
        assert WATER.id == WATER.model_copy().id
        assert WATER.model_copy(update={"charge": 2}).id != WATER.id
        with pytest.raises(ValidationError, match="NaN"):
            WATER.model_copy(update={"positions": WATER.positions * float("nan")})

    def test_compares_and_hashes_by_identity_and_labels(self) -> None:
        assert len({WATER, WATER.model_copy(), WATER.model_copy(update={"charge": 2})}) == 2
        assert WATER != "water"

    @pytest.mark.parametrize("dipole", [[0.0, 0.0], [[0.0, 0.0, 0.0]]])
    def test_other_arrays_check_their_shapes_too(self, dipole) -> None:
        with pytest.raises(ValidationError, match=r"expected shape \(3,\)"):
            result(dipole=dipole)
        with pytest.raises(ValidationError, match=r"expected shape \(n,\)"):
            result(hirshfeld_ratios=[[1.0]])

    def test_counts_electrons(self) -> None:
        assert WATER.n_electrons == 10
        cation = WATER.model_copy(update={"charge": 1})
        assert cation.n_electrons == 9


class TestLevel:
    PBE0 = LevelOfTheory(
        engine="pyscf", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="tight"
    )

    @pytest.mark.parametrize(
        "change",
        [
            {"engine": "aims"},
            {"method": "PBE"},
            {"mbd_beta": 0.83},
            {"basis": BasisTier.INTERMEDIATE},
            {"options": {"grid_level": 4}},
        ],
    )
    def test_every_field_is_part_of_the_id(self, change) -> None:
        fields = self.PBE0.model_dump() | change
        assert LevelOfTheory(**fields).id != self.PBE0.id

    def test_thresholds_are_part_of_the_id(self) -> None:
        fields = self.PBE0.model_dump()
        fields["thresholds"] = {"forces": 1e-3}
        assert LevelOfTheory(**fields).id != self.PBE0.id

    def test_is_pinned_for_ever(self) -> None:
        # Changed by a change of the hash or of a default, both of which orphan every record.
        assert self.PBE0.id == "lf4b9800f9a80c52717fb10362a82cca5973ff65cb2cda1c2f17b06c2b0214b35"

    def test_a_number_is_one_number_however_written(self) -> None:
        ids = {
            LevelOfTheory(engine="a", method="b", options={"temperature": value}).id
            for value in (300, 300.0)
        }
        assert len(ids) == 1

    def test_order_of_options_is_not(self) -> None:
        one = LevelOfTheory(engine="a", method="b", options={"x": 1, "y": 2})
        two = LevelOfTheory(engine="a", method="b", options={"y": 2, "x": 1})
        assert one.id == two.id

    def test_default_thresholds_are_those_of_qcell(self) -> None:
        assert self.PBE0.thresholds.model_dump() == {
            "energy": 1e-5,
            "eigenvalues": 1e-3,
            "density": 1e-5,
            "forces": 1e-4,
        }

    @pytest.mark.parametrize(
        ("dispersion", "beta"), [(Dispersion.MBD, None), (Dispersion.NONE, 0.85)]
    )
    def test_beta_belongs_to_mbd(self, dispersion, beta) -> None:
        with pytest.raises(ValidationError, match="mbd_beta"):
            LevelOfTheory(engine="a", method="b", dispersion=dispersion, mbd_beta=beta)


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": float("nan")})


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
def test_canonical_json_ignores_order(data) -> None:
    backwards = dict(reversed(list(data.items())))
    assert canonical_json(data) == canonical_json(backwards)
    assert json.loads(canonical_json(data)) == data


def test_every_failure_kind_has_a_budget() -> None:
    assert {kind.budget.value for kind in FailureKind} == {"chemistry", "node", "infrastructure"}


class TestConfig:
    def test_defaults_make_a_farm(self) -> None:
        assert [p.name for p in FarmConfig().partitions] == ["local"]

    def test_partition_names_are_unique(self) -> None:
        with pytest.raises(ValidationError, match="not unique: a, a"):
            FarmConfig(partitions=(Partition(name="a"), Partition(name="a")))

    def test_lease_outlives_two_heartbeats(self) -> None:
        with pytest.raises(ValidationError, match="at least twice"):
            LeaseConfig(seconds=15, heartbeat=10)

    def test_stage_names_are_unique(self) -> None:
        stage = {
            "name": "sp",
            "task": "single-point",
            "levels": [{"level": {"engine": "a", "method": "b"}}],
        }
        with pytest.raises(ValidationError, match="not unique: sp, sp"):
            Protocol(name="p", stages=(stage, stage))

    @pytest.mark.parametrize(
        ("rule", "fragment_class", "n_atoms", "fits"),
        [
            ({}, "dimer", 1, True),
            ({"max_atoms": 350}, "dimer", 350, True),
            ({"max_atoms": 350}, "dimer", 351, False),
            ({"min_atoms": 351}, "dimer", 350, False),
            ({"min_atoms": 351}, "dimer", 351, True),
            ({"classes": ["lipid"]}, "dimer", 10, False),
            ({"classes": ["lipid", "dimer"]}, "dimer", 10, True),
            ({"elements": ["H", "O", "C"]}, "dimer", 10, True),
            ({"elements": ["H"]}, "dimer", 10, False),
        ],
    )
    def test_a_rule_matches_class_size_and_elements(
        self, rule, fragment_class, n_atoms, fits
    ) -> None:
        rule = LevelRule(level={"engine": "a", "method": "b"}, **rule)
        assert rule.matches(fragment_class, n_atoms, frozenset({"H", "O"})) is fits

    def test_none_in_toml_switches_the_fallback_off(self) -> None:
        assert Policy(basis_above_350="none").basis_above_350 is None
        assert Policy().basis_above_350 is BasisTier.INTERMEDIATE

    @pytest.mark.parametrize(
        "command", ["srun -n {ranks} aims.x", "mpirun -np {ranks} aims.x", "'my aims' {threads}"]
    )
    def test_launch_lines(self, command) -> None:
        assert EngineConfig(command=command).command == command

    @pytest.mark.parametrize(
        "command",
        ["srun -n {tasks} aims.x", "aims.x {", "'open", "aims {0}", ""],
    )
    def test_a_launch_line_that_cannot_work_is_refused(self, command) -> None:
        with pytest.raises(ValidationError, match=r"ranks|threads|empty"):
            EngineConfig(command=command)
