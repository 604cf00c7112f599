"""The self-test of a worker: what works here is claimed for, and nothing else."""

import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path

import pytest

from qfarm.config import Farm
from qfarm.engines import engine as real
from qfarm.sites import Missing
from qfarm_schemas.config import EngineConfig, FarmConfig, Partition
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory
from qfarm_workers import selftest, water
from qfarm_workers.selftest import Fit, engines_to_test, hindrance, verdict
from support import engines
from support.build import PBE0
from support.species import species_text

Usage = namedtuple("Usage", "total used free")

GOOD = selftest.Tested("tblite", True, version="0.4", seconds=0.1)
BAD = selftest.Tested("aims", False, "there is no executable 'aims.x'", "Put it on PATH.")


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Farm:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for engine processes
    return Farm(tmp_path, FarmConfig(scratch="scratch"))


def tried(farm: Farm, program: str, **settings: object) -> selftest.Tested:
    levels = [engines.level(program)]
    return selftest.test("test", farm, Partition(**settings), engines.look_up, levels)


def test_an_engine_that_works(farm: Farm) -> None:
    made = tried(farm, "good")
    assert (made.engine, made.ok, made.why) == ("test", True, "")
    assert made.seconds > 0.0
    assert not farm.scratch.exists() or list(farm.scratch.rglob("selftest")) == []


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("command-missing", "there is no executable 'an-executable-that-is-not-there' on PATH"),
        ("no_library", "a_library_that_is_not_there"),
        ("crash", "without a result"),
        ("segfault", "signal 11"),
        ("disk_full", "the scratch disk is full"),
        ("poison-write", "ZeroDivisionError"),
    ],
)
def test_an_engine_that_does_not(farm: Farm, program: str, why: str) -> None:
    made = tried(farm, program)
    assert not made.ok
    assert why in made.why
    assert made.remedy
    assert list(farm.scratch.rglob("selftest")) == []


def test_it_takes_the_time_it_has_and_no_more(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(water, "SECONDS", 0.3)
    made = tried(farm, "sleep")
    assert not made.ok
    assert "limit of 0.3 s" in made.why


def test_it_runs_in_the_scratch_folder_of_the_partition(
    farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    assert tried(farm, "good", scratch="$NODE_DISK/q").ok
    assert (tmp_path / "disk/q").is_dir()
    assert not (tmp_path / "scratch").exists()
    (tmp_path / "full").write_text("no folder")
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "full"))
    made = tried(farm, "good", scratch="$NODE_DISK/q")
    assert not made.ok
    assert "file system of the node" in made.why


def test_what_killed_tests_left_is_removed_but_not_what_runs(farm: Farm) -> None:
    above = farm.scratch / selftest.FOLDER / selftest.socket.gethostname()
    dead, alive = above / "4194399.test.l1", above / f"{os.getppid()}.test.l1"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
    assert tried(farm, "good").ok
    assert not dead.exists()
    assert alive.exists()


def test_an_engine_that_is_unknown(farm: Farm) -> None:
    made = selftest.test("amis", farm, Partition(), engines.look_up)
    assert (made.ok, made.why, made.remedy) == (
        False,
        "there is no engine 'amis'",
        "Engines: test.",
    )


def test_an_engine_without_any_level_to_try_may_be_claimed_for(farm: Farm) -> None:
    made = selftest.test("test", farm, Partition(), engines.look_up)
    assert made.ok
    assert made.why.startswith("nothing was tried")


def test_without_parameter_files(farm: Farm, tmp_path: Path) -> None:
    """A folder that is away is a fault of the node; one without files for H and O may be meant."""

    def tested(**settings: str) -> selftest.Tested:
        config = FarmConfig(engines={"aims": EngineConfig(**settings)})
        return selftest.test("aims", Farm(tmp_path, config), Partition(), real)

    assert not tested().ok
    away = tested(parameters="away")
    assert not away.ok
    assert "does not exist" in away.why
    (tmp_path / "species").mkdir()
    there = tested(parameters="species")
    assert there.ok
    assert "01_H_default" in there.why


def test_the_program_that_a_partition_names_is_tried(farm: Farm, tmp_path: Path) -> None:
    double = Path(__file__).parents[1] / "doubles" / "aims_double.py"
    for symbol, name in (("H", "01_H_default"), ("O", "08_O_default")):
        path = tmp_path / "species" / "light" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(species_text(symbol, "light"))
    own = EngineConfig(command=f"{sys.executable} {double}", parameters="species")
    made = selftest.test("aims", farm, Partition(engines={"aims": own}), real)
    assert made.ok, made.why
    assert made.version
    gone = own.model_copy(update={"command": "/nowhere/aims.x"})
    assert not selftest.test("aims", farm, Partition(engines={"aims": gone}), real).ok


def test_a_stand_in_is_tried_in_the_place_of_its_engine(farm: Farm) -> None:
    """Where no GPU is, it is the stand-in that fails."""
    on_gpu = Partition(engines={"pyscf": EngineConfig(by="gpu4pyscf")})
    made = selftest.test("pyscf", farm, on_gpu, real)
    assert made.engine == "pyscf"
    assert "gpu4pyscf" in made.version + made.why


def test_a_real_engine(farm: Farm) -> None:
    pytest.importorskip("tblite")
    made = selftest.test("tblite", farm, Partition(), real)
    assert made.ok, made.why
    assert "tblite" in made.version


def nothing_lacks(fragment: Fragment, level: LevelOfTheory) -> None:
    """Every parameter file is there."""


def test_the_cheapest_level_that_can_be_tried() -> None:
    tiers = (BasisTier.TIGHT, BasisTier.LIGHT, BasisTier.INTERMEDIATE)
    queued = [PBE0.model_copy(update={"engine": "aims", "basis": tier}) for tier in tiers]
    other = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic")
    best = water.cheapest(real("aims"), [other, *queued], nothing_lacks)
    assert best is not None
    assert best.basis is BasisTier.LIGHT

    def only_tight(fragment: Fragment, level: LevelOfTheory) -> Missing | None:
        return None if level.basis is BasisTier.TIGHT else Missing("it lacks", "get it")

    best = water.cheapest(real("aims"), queued, only_tight)
    assert best is not None
    assert best.basis is BasisTier.TIGHT


def test_a_level_that_water_is_refused_at_is_not_tried() -> None:
    odd = PBE0.model_copy(update={"method": "no-such-functional"})
    assert water.cheapest(real("pyscf"), [odd], nothing_lacks) == water.LEVELS["pyscf"][0]


LEVELS: Mapping[str, str] = {"l1": "tblite", "l2": "aims", "l3": "aims", "l4": "pyscf"}


def test_engines_to_test() -> None:
    assert engines_to_test(Partition(), LEVELS) == ("aims", "pyscf", "tblite")
    assert engines_to_test(Partition(takes_engines=("aims", "dftbplus")), LEVELS) == ("aims",)
    assert engines_to_test(Partition(), LEVELS, known={"aims", "tblite"}) == ("pyscf",)
    assert engines_to_test(Partition(), {}) == ()


def test_the_verdict() -> None:
    fit = verdict([GOOD, BAD])
    assert fit == Fit(frozenset({"tblite"}), (BAD,))
    assert not fit.useless
    assert fit.why == "aims fails with water: there is no executable 'aims.x'. Put it on PATH."
    assert verdict([BAD]).useless
    assert not verdict([]).useless  # nothing was asked for
    assert not verdict([GOOD]).useless


def test_a_later_test_stands_in_for_an_earlier_one() -> None:
    fit = verdict([GOOD, BAD])
    mended = verdict([selftest.Tested("aims", True)], fit)
    assert mended == Fit(frozenset({"tblite", "aims"}))
    broken = verdict([selftest.Tested("tblite", False, "it broke")], fit)
    assert broken.good == frozenset()
    assert [test.engine for test in broken.bad] == ["aims", "tblite"]
    assert verdict([], fit) == fit


def test_nothing_is_in_the_way_here(tmp_path: Path) -> None:
    assert hindrance(tmp_path / "new" / "scratch") is None


def test_a_scratch_folder_that_is_full_or_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    found = hindrance(tmp_path / "file")
    assert found is not None
    assert f"{tmp_path / 'file'} cannot be written" in found.what
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 40 * 2**20))
    found = hindrance(tmp_path)
    assert found is not None
    assert "is full (40 MB free)" in found.what
    assert "`scratch` of the partition" in found.remedy


def test_a_broken_python_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "PACKAGES", ("numpy", "a_package_that_is_not_there"))
    found = hindrance(tmp_path)
    assert found is not None
    assert "a_package_that_is_not_there cannot be imported: ModuleNotFoundError" in found.what
