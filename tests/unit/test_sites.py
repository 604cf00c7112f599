"""Sites: settings, parameter files and what is said of those that lack."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from qfarm import config, sites
from qfarm.config import Farm, load
from qfarm.engines import engine
from qfarm.engines.base import Engine, Parameters
from qfarm.errors import ConfigError
from qfarm.intake.examine import Once, Rejected
from qfarm.intake.problem import Flaw, Kind
from qfarm.plan import Plan
from qfarm.sites import Missing
from qfarm_schemas.config import EngineConfig, FarmConfig, Partition, Stage
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from support.build import PBE0, WATER
from support.engines import ProgramEngine, level
from support.intake import WATER_ATOMS, examiner, frame
from support.work import GFN2, PREOPT, SINGLE_POINT

SPECIES = {8: "08_O_default", 1: "01_H_default"}


class Species(ProgramEngine):
    """An engine that needs a file for each element, as FHI-aims does."""

    linked = ""

    def parameters(self, fragment: Fragment, level: LevelOfTheory) -> Parameters:
        elements = sorted(set(fragment.numbers.tolist()))
        names = tuple(f"{level.basis.value}/{SPECIES[z]}" for z in elements)
        return Parameters(names, self.linked)


class Pairs(Species):
    """An engine that needs the whole folder at hand, as DFTB+ does."""

    linked = "skf"


SPECIES_ENGINE: Engine = Species()
PAIRS_ENGINE: Engine = Pairs()
LEVEL = level("hello")


def farm_in(folder: Path, **test: Any) -> Farm:
    engines = {"test": EngineConfig(**test)} if test else {}
    return Farm(folder, FarmConfig(engines=engines))


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    write(tmp_path / "species/tight", {"08_O_default": "oxygen ä", "01_H_default": "hydrogen"})
    return farm_in(tmp_path, parameters="species", command="mpirun -n {ranks} 'aims x'", ranks=4)


def found(farm: Farm, engine: Engine = SPECIES_ENGINE, **more: Any) -> sites.Site:
    site = sites.site(farm, engine, WATER, LEVEL, **more)
    assert not isinstance(site, Missing), site
    return site


def lacks(farm: Farm, **more: Any) -> Missing:
    site = sites.site(farm, SPECIES_ENGINE, WATER, LEVEL, **more)
    assert isinstance(site, Missing)
    assert sites.missing(farm, SPECIES_ENGINE, WATER, LEVEL, **more) == site
    return site


def test_a_site_has_the_launch_line_and_the_texts(farm: Farm) -> None:
    site = found(farm)
    assert site.command == ("mpirun", "-n", "{ranks}", "aims x")
    assert site.ranks == 4
    assert site.texts == {"tight/08_O_default": "oxygen ä", "tight/01_H_default": "hydrogen"}
    assert len(site.digest) == 16
    assert int(site.digest, 16)


def test_a_linked_folder_gives_no_texts_but_the_same_digest(farm: Farm) -> None:
    site = found(farm, PAIRS_ENGINE)
    assert site.texts == {}
    assert site.digest == found(farm).digest
    assert sites.link(farm, PAIRS_ENGINE, WATER, LEVEL) == farm.root / "species"
    assert sites.link(farm, SPECIES_ENGINE, WATER, LEVEL) is None


def test_the_digest_follows_names_and_contents(farm: Farm) -> None:
    before, oxygen = found(farm).digest, farm.root / "species/tight/08_O_default"
    oxygen.write_text("oxygen b")
    os.utime(oxygen, ns=(1, 1))
    changed = found(farm)
    assert changed.digest != before
    assert changed.texts["tight/08_O_default"] == "oxygen b"
    hydrogen = oxygen.with_name("01_H_default")
    oxygen.write_text("hydrogen")
    hydrogen.write_text("oxygen b")
    assert found(farm).digest not in {before, changed.digest}


def test_files_are_read_once(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or real(path))
    for _ in range(100):
        found(farm, PAIRS_ENGINE)
    assert len(read) == 2


def test_engines_without_parameters_need_nothing(tmp_path: Path) -> None:
    for used, theory in ((engine("tblite"), GFN2), (engine("pyscf"), PBE0)):
        assert sites.site(farm_in(tmp_path), used, WATER, theory) == sites.Site()
        assert sites.missing(farm_in(tmp_path), used, WATER, theory) is None


def test_no_folder_is_said_with_the_line_to_write(tmp_path: Path) -> None:
    lack = lacks(farm_in(tmp_path))
    assert "tight/01_H_default" in lack.what
    assert '`parameters = "FOLDER"` into the table [engines.test] of qfarm.toml' in lack.remedy


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    lack = lacks(farm_in(tmp_path, parameters="nowhere"))
    assert str(tmp_path / "nowhere") in lack.what
    assert "[engines.test]" in lack.remedy


def test_every_file_that_lacks_is_named_and_the_tier_stays(farm: Farm) -> None:
    for name in ("08_O_default", "01_H_default"):
        (farm.root / "species/tight" / name).rename(farm.root / "species" / name)
    lack = lacks(farm)
    assert "tight/01_H_default, tight/08_O_default" in lack.what
    assert str(farm.root / "species") in lack.what
    assert "tier is never changed silently" in lack.remedy


def test_a_file_that_is_no_text(farm: Farm) -> None:
    (farm.root / "species/tight/08_O_default").write_bytes(b"\xff\xfe")
    site = sites.site(farm, SPECIES_ENGINE, WATER, LEVEL)
    assert isinstance(site, Missing)
    assert "08_O_default is not text in UTF-8" in site.what
    assert found(farm, PAIRS_ENGINE).digest


def test_a_folder_that_may_not_be_read(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    lack = lacks(farm)
    assert lack.what == f"{farm.root / 'species'} cannot be read: Permission denied"


def test_a_file_that_vanishes_before_it_is_read(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    (farm.root / "species/tight/08_O_default").unlink()
    site = sites.site(farm, PAIRS_ENGINE, WATER, LEVEL)
    assert isinstance(site, Missing)
    assert "08_O_default cannot be read: No such file" in site.what


def test_the_home_of_nobody(tmp_path: Path) -> None:
    assert "~nobody-at-all/x" in lacks(farm_in(tmp_path, parameters="~nobody-at-all/x")).what


def test_the_home_folder_and_absolute_paths(
    tmp_path: Path, farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere = tmp_path / "project"
    elsewhere.mkdir()
    for written in ("~/species", str(tmp_path / "species"), "../species"):
        assert found(farm_in(elsewhere, parameters=written)).digest == found(farm).digest


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("aims.x", ("aims.x",)),
        ("~/aims.x -v", ("HOME/aims.x", "-v")),
        ("srun -n {ranks} ~/aims.x a~b", ("srun", "-n", "{ranks}", "HOME/aims.x", "a~b")),
        ("./bin/aims.x", ("ROOT/bin/aims.x",)),
        ("/sw/aims.x ./x", ("/sw/aims.x", "./x")),
        ("~nobody-of-this-name/aims.x", ("ROOT/~nobody-of-this-name/aims.x",)),
    ],
)
def test_paths_of_the_launch_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "species/tight", {"08_O_default": "", "01_H_default": ""})
    site = found(farm_in(tmp_path, parameters="species", command=line))
    places = {"HOME": str(tmp_path / "home"), "ROOT": str(tmp_path)}
    expected = [word.replace("HOME", places["HOME"]) for word in words]
    assert site.command == tuple(word.replace("ROOT", places["ROOT"]) for word in expected)


def test_a_partition_has_settings_of_its_own(farm: Farm) -> None:
    gpu = Partition(name="gpu", engines={"test": EngineConfig(command="aims.gpu", ranks=1)})
    assert sites.settings(farm.config, gpu, "test").command == "aims.gpu"
    assert sites.settings(farm.config, Partition(), "test").ranks == 4
    assert sites.settings(farm.config, None, "other") == EngineConfig()
    assert "[partitions.engines.test] of partition 'gpu'" in lacks(farm, partition=gpu).remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[engines.amis]\nranks = 2", "engines.amis: no engine 'amis' (engines: "),
        (
            '[[partitions]]\nname = "a"\n[partitions.engines.amis]',
            "partitions[0].engines.amis: no engine 'amis' (engines: ",
        ),
    ],
)
def test_an_unknown_engine_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / config.FILE).write_text(text)
    with pytest.raises(ConfigError, match="is not valid") as caught:
        load(tmp_path)
    assert said in caught.value.what


def test_an_unknown_engine_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFARM_ENGINES", '{"amis": {}}')
    with pytest.raises(ConfigError, match=r"\[set by QFARM_ENGINES in the environment\]"):
        load(tmp_path)


def test_settings_of_known_engines_are_read(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_text("[engines.tblite]\nranks = 2")
    assert load(tmp_path).config.engines == {"tblite": EngineConfig(ranks=2)}


class Asked:
    """Remember what was asked for, and miss the files of a stage."""

    def __init__(self, missed: str = "") -> None:
        self.calls: list[tuple[str, int]] = []
        self._missed = missed

    def __call__(self, fragment: Fragment, stage: Stage) -> Flaw | None:
        self.calls.append((stage.name, fragment.n_atoms))
        return (
            Flaw(Kind.PARAMETERS, "a file lacks.", "Get it.")
            if stage.name == self._missed
            else None
        )


def test_missing_files_reject_a_fragment() -> None:
    rejected = examiner(lacking=Asked("preopt")).examine(frame())
    assert isinstance(rejected, Rejected)
    (problem,) = rejected.problems
    assert problem.flaw == Flaw(Kind.PARAMETERS, "stage 'preopt' (tblite): a file lacks", "Get it.")


def test_files_are_asked_for_only_when_the_engine_does_not_refuse() -> None:
    asked = Asked()
    found = examiner(lambda _, stage: "no" if stage.name == "preopt" else None, lacking=asked)
    assert isinstance(found.examine(frame()), Rejected)
    assert asked.calls == [("single_point", 3)]


def test_each_set_of_elements_is_asked_for_once() -> None:
    asked = Asked()
    once = examiner(lacking=Once(asked))
    for shift in range(5):
        moved = (WATER_ATOMS[0].replace("0.119", f"0.{120 + shift}"), *WATER_ATOMS[1:])
        assert isinstance(once.examine(frame(atoms=moved)), Plan)
    assert asked.calls == [("preopt", 3), ("single_point", 3)]
    once.examine(frame(atoms=("He 0 0 0",)))
    assert asked.calls[2:] == [("preopt", 1), ("single_point", 1)]


def test_partitions_and_levels_are_asked_for_on_their_own() -> None:
    asked = Asked()
    once = Once(asked)
    elsewhere = PREOPT.model_copy(update={"partition": "gpu"})
    other = PREOPT.model_copy(update={"level": SINGLE_POINT.level})
    for stage in (PREOPT, elsewhere, other, PREOPT):
        once(WATER, stage)
    assert len(asked.calls) == 3


@pytest.mark.parametrize(
    ("scratch", "place"),
    [
        ("$TMPDIR/q", "/node/tmp/q"),
        ("${TMPDIR}", "/node/tmp"),
        ("/local/$USER.$SLURM_JOB_ID", "/local/me.4711"),
        ("here/$USER", "{root}/here/me"),
        ("/plain", "/plain"),
        (None, "{root}/.qfarm/scratch"),
    ],
)
def test_the_scratch_folder_of_a_partition(tmp_path: Path, scratch: str, place: str) -> None:
    variables = {"TMPDIR": "/node/tmp", "USER": "me", "SLURM_JOB_ID": "4711"}
    found = sites.scratch_of(
        Farm(tmp_path, FarmConfig()), Partition(name="cpu", scratch=scratch), variables
    )
    assert str(found) == place.format(root=tmp_path)


def test_the_node_fills_in_its_own_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm, partition = Farm(tmp_path, FarmConfig()), Partition(name="cpu", scratch="$NODE_DISK/q")
    monkeypatch.setenv("NODE_DISK", "/disk7")
    assert sites.scratch_of(farm, partition) == Path("/disk7/q")
    for value in (None, ""):
        monkeypatch.delenv("NODE_DISK", raising=False)
        if value is not None:
            monkeypatch.setenv("NODE_DISK", value)
        with pytest.raises(ConfigError) as caught:
            sites.scratch_of(farm, partition)
        assert "scratch of partition 'cpu' is '$NODE_DISK/q'" in caught.value.what
        assert "no environment variable NODE_DISK" in caught.value.what
        assert "`prologue`" in caught.value.remedy
