"""The verdict: every check bites, and says what it found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.verdict import CLOSEST, Subject, closest_distance, judge, outcome, refused
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.check import Check
from qfarm_schemas.config import TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import LevelOfTheory, Thresholds
from qfarm_schemas.result import Convergence
from support.build import PBE0, WATER, result, stage
from support.matrices import matrices

REACHED = Convergence(energy=1e-6, eigenvalues=1e-4, density=1e-6, forces=1e-5)
XTB = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic")


def verdict(task: TaskKind = TaskKind.SINGLE_POINT, level: LevelOfTheory = PBE0, **fields: object):
    subject = Subject(result(**fields), stage(task, level=level, max_force=0.01), WATER)
    return judge(subject)


def missed(**fields: object) -> list[str]:
    return [check.name for check in verdict(**fields) if not check.passed]


def kind(**fields: object) -> FailureKind:
    found = outcome(verdict(**fields))
    assert isinstance(found, Failure)
    assert found.remedy
    return found.kind


def test_a_good_result_is_accepted() -> None:
    checks = verdict()
    assert outcome(checks) == Success()
    assert {check.name for check in checks} >= {
        "atoms",
        "rows",
        "finite numbers",
        "SCF total energy change",
        "SCF eigenvalue sum change",
        "SCF density change",
        "SCF forces change",
        "HOMO-LUMO gap",
        "energy parts",
        "dispersion energy",
        "closest atoms",
        "geometry",
    }


class TestChecksOfTheEngine:
    GOOD = Check(name="exit code", required="0", found="0", passed=True)
    BAD = Check(
        name="last line",
        required="the end",
        found="cut",
        passed=False,
        kind=FailureKind.CRASHED,
        remedy="Look.",
    )

    def test_they_come_first_and_mean_what_they_say(self) -> None:
        checks = verdict(checks=(self.GOOD, self.BAD), energy=float("nan"))
        assert checks[:2] == (self.GOOD, self.BAD)
        found = outcome(checks)
        assert isinstance(found, Failure)
        assert (found.kind, found.remedy) == (FailureKind.CRASHED, "Look.")
        assert "finite numbers" in found.cause

    def test_an_output_without_numbers_is_refused_by_them(self) -> None:
        found = refused((self.GOOD, self.BAD), {"stdout.txt": "..."})
        assert found.checks == (self.GOOD, self.BAD)
        assert found.evidence == {"last line": "cut", "stdout.txt": "..."}

    def test_nothing_missed_means_nothing_to_refuse(self) -> None:
        with pytest.raises(ValueError, match="every check passed"):
            refused((self.GOOD,))


class TestThresholds:
    def test_what_the_level_does_not_require_is_not_judged(self) -> None:
        level = PBE0.model_copy(update={"thresholds": Thresholds(forces="none")})
        reached = REACHED.model_copy(update={"forces": None})
        names = [check.name for check in verdict(level=level, convergence=reached)]
        assert "SCF forces change" not in names
        assert "SCF density change" in names
        assert missed(convergence=reached) == ["SCF forces change"]

    NAMES = (
        ("energy", 1e-5),
        ("eigenvalues", 1e-3),
        ("density", 1e-5),
        ("forces", 1e-4),
    )

    @pytest.mark.parametrize(("name", "limit"), NAMES)
    def test_at_the_limit_passes_above_it_does_not(self, name, limit) -> None:
        at = REACHED.model_copy(update={name: limit})
        above = REACHED.model_copy(update={name: limit * 1.001})
        assert missed(convergence=at) == []
        assert len(missed(convergence=above)) == 1
        assert kind(convergence=above) is FailureKind.THRESHOLD_MISSED

    @pytest.mark.parametrize(("name", "limit"), NAMES)
    @pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1.0])
    def test_missing_nan_and_large_negative_values_fail(self, name, limit, value) -> None:
        assert len(missed(convergence=REACHED.model_copy(update={name: value}))) == 1

    @given(st.sampled_from([name for name, _ in NAMES]), st.floats(1e-12, 1e3))
    def test_agrees_with_plain_comparison(self, name, value) -> None:
        found = missed(convergence=REACHED.model_copy(update={name: value}))
        assert bool(found) is (value > getattr(PBE0.thresholds, name))

    def test_the_levels_own_thresholds_count(self) -> None:
        loose = PBE0.model_copy(update={"thresholds": Thresholds(forces=1e-2)})
        reached = REACHED.model_copy(update={"forces": 5e-3})
        assert missed(convergence=reached, level=loose) == []
        assert missed(convergence=reached) == ["SCF forces change"]

    def test_says_required_and_found(self) -> None:
        checks = verdict(convergence=REACHED.model_copy(update={"forces": 5e-3}))
        (check,) = [check for check in checks if not check.passed]
        assert (check.required, check.found) == ("<= 0.0001 eV/A", "5.00e-03 eV/A")
        failed = outcome(checks)
        assert isinstance(failed, Failure)
        assert "required <= 0.0001 eV/A, found 5.00e-03 eV/A" in failed.cause
        assert failed.evidence == {"SCF forces change": "5.00e-03 eV/A"}


class TestShapes:
    def test_other_atoms(self) -> None:
        assert missed(numbers=[8, 1, 9]) == ["atoms"]
        assert kind(numbers=[1, 8, 1]) is FailureKind.BAD_OUTPUT

    @pytest.mark.parametrize(
        "fields",
        [
            {"forces": np.zeros((2, 3))},
            {"positions": np.zeros((4, 3))},
            {"hirshfeld_ratios": [0.9]},
            {"charges": {"mulliken": [0.0, 0.0]}},
        ],
    )
    def test_wrong_number_of_rows(self, fields) -> None:
        assert missed(**fields) == ["rows"]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize(
        "name",
        ["energy", "forces", "dipole", "hirshfeld_ratios", "homo", "lumo", "spin_squared"],
    )
    def test_not_finite(self, name, bad) -> None:
        values = np.array(getattr(result(spin_squared=0.75), name))
        spoilt = bad if values.ndim == 0 else np.full_like(values, bad)
        assert "finite numbers" in missed(**{name: spoilt})

    @pytest.mark.parametrize(
        "fields",
        [
            {"charges": {"mulliken": [0.0, float("nan"), 0.0]}},
            {"energy_parts": {"PBE0": float("nan"), "MBD": -0.1}},
        ],
    )
    def test_not_finite_within_named_values(self, fields) -> None:
        assert missed(**fields) == ["finite numbers"]

    def test_a_limit_is_shown_as_it_is(self) -> None:
        level = PBE0.model_copy(update={"thresholds": Thresholds(energy=2.5e-5)})
        required = {check.name: check.required for check in verdict(level=level)}
        assert required["SCF total energy change"] == "<= 2.5e-05 eV"

    def test_ratios_may_be_absent(self) -> None:
        assert missed(hirshfeld_ratios=None) == []


class TestPhysics:
    def test_parts_must_sum_to_the_energy(self) -> None:
        assert missed(energy=-2077.4) == ["energy parts"]
        assert missed(energy_parts={}, level=XTB) == []

    def test_mbd_must_be_there_when_the_level_has_it(self) -> None:
        assert missed(energy_parts={"PBE0": -2077.5}) == ["dispersion energy"]
        assert missed(energy_parts={"GFN2-xTB": -2077.5}, level=XTB) == []

    def test_a_positive_dispersion_energy_is_none(self) -> None:
        assert missed(energy_parts={"PBE0": -2077.5, "MBD": 0.0}) == []
        assert missed(energy_parts={"PBE0": -2077.7, "MBD": 0.2}) == ["dispersion energy"]

    @pytest.mark.parametrize(("lumo", "ok"), [(-8.99, True), (-9.0, False), (-10.0, False)])
    def test_gap_is_positive(self, lumo, ok) -> None:
        assert (missed(lumo=lumo) == []) is ok

    def test_no_gap_is_reported_as_such(self) -> None:
        assert kind(lumo=-10.0) is FailureKind.NO_GAP

    def test_without_a_lumo_there_is_no_gap_to_judge(self) -> None:
        assert "HOMO-LUMO gap" not in {check.name for check in verdict(lumo=None)}

    def test_unstable_solutions_are_refused(self) -> None:
        assert kind(stable=False) is FailureKind.UNSTABLE_SOLUTION
        assert missed(stable=True) == []
        assert "stability" not in {check.name for check in verdict(stable=None)}

    def test_a_single_point_does_not_move_atoms(self) -> None:
        assert missed(positions=WATER.positions + 1e-7) == ["geometry"]
        assert missed(positions=WATER.positions + 1e-10) == []

    def test_collapsed_atoms(self) -> None:
        positions = WATER.positions.copy()
        positions[1] = positions[0] + [0.0, 0.0, CLOSEST - 0.01]
        fields = {"task": TaskKind.OPTIMISATION, "positions": positions}
        assert missed(**fields, geometry_converged=True) == ["closest atoms"]
        assert kind(**fields, geometry_converged=True) is FailureKind.BAD_GEOMETRY


class TestOptimisation:
    def optimised(self, **fields: object) -> list[str]:
        return missed(task=TaskKind.OPTIMISATION, **({"geometry_converged": True} | fields))

    def test_may_move_atoms(self) -> None:
        assert self.optimised(positions=WATER.positions * 1.01) == []

    def test_largest_force_counts_by_atom(self) -> None:
        assert self.optimised(forces=[[0.0099, 0, 0]] + [[0, 0, 0]] * 2) == []
        assert self.optimised(forces=[[0.0099, 0.0099, 0]] + [[0, 0, 0]] * 2) == ["largest force"]

    @pytest.mark.parametrize("said", [False, None])
    def test_the_optimiser_must_say_so_too(self, said) -> None:
        assert self.optimised(geometry_converged=said) == ["largest force"]

    def test_fails_as_geometry(self) -> None:
        found = kind(task=TaskKind.OPTIMISATION, geometry_converged=False)
        assert found is FailureKind.GEOMETRY_NOT_CONVERGED


def test_the_first_missed_check_gives_the_kind_and_all_are_named() -> None:
    failed = outcome(verdict(stable=False, lumo=-10.0))
    assert isinstance(failed, Failure)
    assert failed.kind is FailureKind.UNSTABLE_SOLUTION
    assert set(failed.evidence) == {"stability", "HOMO-LUMO gap"}


def test_closest_distance() -> None:
    assert closest_distance(WATER.positions[:1]) == float("inf")
    assert closest_distance(WATER.positions) == pytest.approx(0.968, abs=1e-3)


MATRICES = LevelOfTheory(**(PBE0.model_dump() | {"options": {"matrices": True}}))


class TestMatrices:
    """Of water, whose ten electrons stand in a basis of six functions."""

    S = np.eye(6) + 1e-3 * (1 - np.eye(6))
    F = np.diag(np.arange(6.0))

    def found(self, **fields: object) -> list[str]:
        good = matrices(6, fock=self.F, overlap=self.S, **fields)
        return missed(level=MATRICES, matrices=good)

    def test_good_ones_are_accepted(self) -> None:
        assert self.found() == []
        density = 10 * np.linalg.inv(self.S) / 6
        assert self.found(density=density) == []
        assert self.found(density=np.stack([density / 2, density / 2])) == []

    def test_those_asked_for_must_be_there(self) -> None:
        assert missed(level=MATRICES) == ["matrices"]
        assert missed(level=MATRICES, matrices=matrices(6, fock=None)) == ["matrices"]
        assert missed(matrices=matrices(6)) == []

    def test_a_number_that_is_none(self) -> None:
        for bad in (np.nan, np.inf):
            core = self.F.copy()
            core[0, 0] = bad
            assert self.found(core=core) == ["matrices"]

    @pytest.mark.parametrize(("by", "wrong"), [(0.9e-8, []), (1.1e-8, ["matrices"])])
    def test_symmetry(self, by: float, wrong: list[str]) -> None:
        core = self.F.copy()
        core[2, 1] += by
        assert self.found(core=core) == wrong

    def test_an_overlap_with_a_negative_eigenvalue(self) -> None:
        bad = self.S.copy()
        bad[0, 1] = bad[1, 0] = 1.1
        assert missed(level=MATRICES, matrices=matrices(6, overlap=bad)) == ["overlap matrix"]
        assert kind(matrices=matrices(6, overlap=bad)) is FailureKind.BAD_OUTPUT

    def test_the_electrons_are_counted(self) -> None:
        density = 10 * np.linalg.inv(self.S) / 6
        for bad in (density * (1 + 2e-6), np.stack([density, density])):
            assert self.found(density=bad) == ["electrons of the density matrix"]
