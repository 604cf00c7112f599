"""The PySCF engine's pure side: what it refuses, its ladder, its files, its settings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qfarm import engines
from qfarm.engines import engine, inprocess, label
from qfarm.engines.base import Exit, Job, PythonCall
from qfarm.engines.pyscf.basis import TABLE, Basis
from qfarm.engines.pyscf.settings import Settings, grid_level, settings, tightness
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory, Thresholds
from support import build

PYSCF = engine("pyscf")
SINGLE_POINT = TaskKind.SINGLE_POINT


def level(**fields: object) -> LevelOfTheory:
    return LevelOfTheory(**(build.PBE0.model_dump() | fields))


def atoms(*numbers: int, **fields: object) -> Fragment:
    positions = [[0.0, 0.0, 2.0 * row] for row in range(len(numbers))]
    return Fragment(numbers=list(numbers), positions=positions, **fields)


def job(**fields: object) -> Job:
    return Job(**({"fragment": build.WATER, "stage": build.stage()} | fields))


def test_importing_the_engine_loads_no_pyscf() -> None:
    code = "import sys, qfarm.engines.pyscf; sys.exit('pyscf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "good",
    [
        level(),
        level(basis="intermediate", options={"grid_level": 5}),
        level(dispersion="none", mbd_beta=None),
        level(options={"matrices": True}),
        level(options={"matrices": "fock, overlap, density, core", "grid_level": 3}),
    ],
)
def test_accepts(good: LevelOfTheory) -> None:
    assert PYSCF.refuse(build.WATER, good, SINGLE_POINT) is None


@pytest.mark.parametrize(
    ("fragment", "bad", "task", "words"),
    [
        (build.WATER, level(), TaskKind.OPTIMISATION, "tblite"),
        (build.WATER, level(method="B3LYP"), SINGLE_POINT, "method = 'PBE0'"),
        (build.WATER, level(dispersion="mbd-nl"), SINGLE_POINT, "no MBD-NL"),
        (build.WATER, level(dispersion="intrinsic", mbd_beta=None), SINGLE_POINT, "'mbd'"),
        (build.WATER, level(basis="light"), SINGLE_POINT, "'light'"),
        (build.WATER, level(basis="none"), SINGLE_POINT, "tight or intermediate"),
        (build.WATER, level(options={"grid": 4}), SINGLE_POINT, "unknown option grid"),
        (build.WATER, level(options={"grid_level": 2}), SINGLE_POINT, "3 to 9"),
        (build.WATER, level(options={"grid_level": True}), SINGLE_POINT, "3 to 9"),
        (build.WATER, level(options={"grid_level": "4"}), SINGLE_POINT, "3 to 9"),
        (build.WATER, level(options={"matrices": "hessian"}), SINGLE_POINT, "names no matrix"),
        (build.WATER, level(options={"matrices": 2}), SINGLE_POINT, "true, false or names"),
        (atoms(53, 1), level(), SINGLE_POINT, "Z = 53"),
        (atoms(8, multiplicity=2), level(), SINGLE_POINT, "multiplicity 2"),
        (atoms(1, multiplicity=4), level(), SINGLE_POINT, "multiplicity 4"),
        (atoms(1, charge=1), level(), SINGLE_POINT, "no electron is left"),
    ],
)
def test_refuses_and_says_why(
    fragment: Fragment, bad: LevelOfTheory, task: TaskKind, words: str
) -> None:
    reason = PYSCF.refuse(fragment, bad, task)
    assert reason is not None
    assert words in reason


def test_krypton_is_the_heaviest() -> None:
    assert PYSCF.refuse(atoms(36), level(), SINGLE_POINT) is None
    assert PYSCF.refuse(atoms(37, multiplicity=2), level(), SINGLE_POINT) is not None


@pytest.mark.parametrize("aid", PYSCF.ladder.scf, ids=lambda aid: aid.name)
def test_every_rung_is_made_of_known_settings(aid: object) -> None:
    assert settings(job(scf=dict(aid.settings)))  # type: ignore[attr-defined]


def test_rungs_climb_from_plain_to_second_order() -> None:
    rungs = {aid.name: Settings.model_validate(aid.settings) for aid in PYSCF.ladder.scf}
    assert list(rungs) == ["diis", "damped", "level-shift", "newton"]
    assert [rung.aided for rung in rungs.values()] == [False, True, True, True]
    assert rungs["newton"].second_order


def test_a_rung_cannot_invent_settings() -> None:
    with pytest.raises(ValidationError):
        settings(job(scf={"temperature": 300.0}))


def test_rungs_leave_the_tolerances_alone() -> None:
    tolerances = {name for name in Settings.model_fields if name.startswith("conv_")}
    assert not [aid for aid in PYSCF.ladder.scf if tolerances & set(aid.settings)]


@given(st.floats(1e-3, 1e3), st.sampled_from(sorted(Thresholds.model_fields)))
def test_tighter_thresholds_tighten_the_scf_and_looser_do_not_loosen_it(
    factor: float, name: str
) -> None:
    changed = Thresholds(**{name: getattr(Thresholds(), name) * factor})
    assert tightness(changed) == pytest.approx(min(1.0, factor))


def test_tolerances_follow_tighter_thresholds() -> None:
    tight = build.stage(level=level(thresholds={"forces": 1e-5}))
    assert settings(job(stage=tight)).conv_tol_density == pytest.approx(2e-7)
    assert settings(job()).conv_tol_density == pytest.approx(2e-6)


def test_grid_is_finer_from_phosphorus_upward_unless_the_level_says() -> None:
    """Pinned: the id of a level hashes the option, not its default."""
    assert grid_level(level(), atoms(8, 14)) == 3
    assert grid_level(level(), atoms(8, 15)) == 4
    assert grid_level(level(options={"grid_level": 5}), atoms(15)) == 5
    assert grid_level(level(options={"grid_level": 3}), atoms(15)) == 3


def test_levels_are_labelled_as_chemists_write_them() -> None:
    assert label(level()) == "PBE0+MBD/def2-TZVP"
    assert label(level(basis="intermediate")) == "PBE0+MBD/def2-SVP"
    assert label(level(dispersion="none", mbd_beta=None)) == "PBE0/def2-TZVP"
    assert label(level(engine="aims", basis="light")) == "PBE0+MBD/light"
    xtb = {"engine": "tblite", "method": "GFN2-xTB", "basis": "none", "mbd_beta": None}
    assert label(level(**xtb, dispersion="intrinsic")) == "GFN2-xTB"


def test_a_basis_tier_keeps_its_meaning() -> None:
    """The id of a level hashes the tier, so what a tier means must never change."""
    assert dict(TABLE) == {
        BasisTier.TIGHT: Basis("def2-tzvp", "def2-TZVP", "def2-tzvp-jkfit"),
        BasisTier.INTERMEDIATE: Basis("def2-svp", "def2-SVP", "def2-svp-jkfit"),
    }, "add a row for another tier, or an option of the level: old ids would name other numbers"


def test_only_one_module_imports_pyscf() -> None:
    """`library` does it without the user's configuration."""
    folder = Path(engines.__path__[0])
    importing = re.compile(r"^\s*(import|from) pyscf\b", re.MULTILINE)
    found = {path.name for path in folder.rglob("*.py") if importing.search(path.read_text())}
    assert found == {"library.py"}


def test_job_goes_through_its_file_unchanged() -> None:
    asked = job(scf={"damp": 0.5}, threads=2)
    files = PYSCF.write(asked)
    assert Job.model_validate_json(files[inprocess.JOB]) == asked
    assert PYSCF.run(asked) == PythonCall("qfarm.engines.pyscf.compute")


def test_a_killed_child_leaves_a_failure() -> None:
    outcome = PYSCF.parse(job(), {"stderr.txt": "Killed"}, Exit(-9))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.CRASHED
    assert "signal 9" in outcome.cause


@pytest.mark.parametrize("text", ["", "{", "null", '{"energy": NaN}', "\x00"])
def test_garbage_is_a_failure(text: str) -> None:
    outcome = PYSCF.parse(job(), {inprocess.RESULT: text}, Exit(0))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.BAD_OUTPUT
