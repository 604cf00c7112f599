import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from qfarm import config
from qfarm.errors import ConfigError, StoreError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("QFARM_")]:
        monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "qfarm.toml"
    path.write_text(text)
    return path


def fault_of(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(folder)
    assert caught.value.remedy
    return caught.value.what


def test_without_a_file_defaults_hold_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    farm = config.load()
    assert farm.root == tmp_path.resolve()
    assert farm.folder == tmp_path.resolve() / ".qfarm"
    assert farm.scratch == farm.folder / "scratch"
    assert farm.mongo_folder == farm.folder / "mongo"
    assert farm.mongod is None
    assert farm.config.mongo.database == "qfarm"


def test_parent_folders_are_not_searched(tmp_path: Path) -> None:
    write(tmp_path, 'folder = "elsewhere"')
    below = tmp_path / "below"
    below.mkdir()
    assert config.load(below).config.folder == ".qfarm"


def test_environment_before_file_before_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 'folder = "mine"\n[mongo]\ndatabase = "of_file"\nport = 30000')
    monkeypatch.setenv("QFARM_MONGO__PORT", "30001")
    found = config.load(tmp_path).config
    assert (found.folder, found.mongo.database, found.mongo.port) == ("mine", "of_file", 30001)
    assert found.keep_scratch == "failed"


def test_empty_variable_counts_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "[mongo]\nport = 30000")
    monkeypatch.setenv("QFARM_MONGO__PORT", "")
    assert config.load(tmp_path).config.mongo.port == 30000


def test_partitions_from_file_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, '[[partitions]]\nname = "a"\n[[partitions]]\nname = "b"\nslots = 7')
    assert [p.slots for p in config.load(tmp_path).config.partitions] == [2, 7]
    monkeypatch.setenv("QFARM_PARTITIONS", '[{"name": "c"}]')
    assert [p.name for p in config.load(tmp_path).config.partitions] == ["c"]


def test_named_file_sets_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "farm.toml"
    path.write_text('folder = "f"\nscratch = "/fast"\n[mongo]\nmongod = "bin/mongod"')
    monkeypatch.setenv("QFARM_CONFIG", "other/farm.toml")
    farm = config.load(tmp_path)
    assert farm.root == path.parent
    assert farm.folder == path.parent / "f"
    assert farm.scratch == Path("/fast")
    assert farm.mongod == str(path.parent / "bin/mongod")


def test_named_file_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFARM_CONFIG", "absent.toml")
    assert str(tmp_path / "absent.toml") in fault_of(tmp_path)


def test_configuration_is_frozen(tmp_path: Path) -> None:
    farm = config.load(tmp_path)
    with pytest.raises(ValidationError):
        farm.config.folder = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        farm.root = tmp_path  # type: ignore[misc]


def test_every_fault_is_named_with_file_and_field(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'keep_scratch = "perhaps"\nfoldr = "x"\n[mongo]\nport = 80\n[[partitions]]\nslots = 0',
    )
    what = fault_of(tmp_path)
    assert what.startswith(str(path))
    for pattern in (
        r"keep_scratch: .*'never'.*, not 'perhaps'",
        r"foldr: there is no such field",
        r"mongo\.port: .*1024",
        r"partitions\[0\]\.slots: .*, not 0",
    ):
        assert re.search(pattern, what), pattern


def test_a_word_where_a_list_is_needed(tmp_path: Path) -> None:
    write(tmp_path, '[engines.aims]\nprologue = "module load x"')
    assert "engines.aims.prologue: a list in brackets is needed" in fault_of(tmp_path)
    assert '["module load x"]' in fault_of(tmp_path)


def test_fault_of_the_environment_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFARM_MONGO__PORT", "http")
    assert "mongo.port" in fault_of(tmp_path)
    assert "QFARM_MONGO__PORT" in fault_of(tmp_path)


def test_unknown_nested_variable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFARM_MONGO__PROT", "30000")
    assert "QFARM_MONGO__PROT, which is no setting" in fault_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("QFARM_SCRACTH", "QFARM_SCRATCH"),
        ("QFARM_MONGO_PORT", "QFARM_MONGO__PORT"),
        ("QFARM_MONGOO__PORT", "QFARM_MONGO__PORT"),
        ("QFARM_MONGO__PROT", "QFARM_MONGO__PORT"),
        ("QFARM_LEASE_SECONDS", "QFARM_LEASE__SECONDS"),
        ("QFARM_KEEP__SCRATCH", "QFARM_KEEP_SCRATCH"),
        ("QFARM_PARTITIONS__0__SLOTS", "QFARM_PARTITIONS"),
        ("QFARM_CONFG", "QFARM_CONFIG"),
        ("qfarm_config", "QFARM_CONFIG"),
    ],
)
def test_misspelt_variable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert name in caught.value.what
    assert f"Did you mean {meant}?" in caught.value.remedy


def test_variable_that_resembles_nothing_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFARM_LOG", "1")
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert "QFARM_LOG, which is no setting" in caught.value.what
    assert "QFARM_MONGO__URI" in caught.value.remedy


@pytest.mark.parametrize("name", ["QFARM_CI", "QFARM_SHARED"])
def test_other_variables_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    config.load(tmp_path)


@pytest.mark.parametrize("folder", ["", ".", "./", "sub/..", "..", "{root}", "/"])
def test_project_folder_is_no_farm_folder(tmp_path: Path, folder: str) -> None:
    write(tmp_path, f'folder = "{folder.format(root=tmp_path)}"')
    assert "folder: " in fault_of(tmp_path)
    assert "is the project folder, or one above it" in fault_of(tmp_path)


def test_a_farm_needs_a_partition(tmp_path: Path) -> None:
    write(tmp_path, "partitions = []")
    assert "partitions: at least one is needed" in fault_of(tmp_path)


def test_faults_of_a_partition_have_no_consequences(tmp_path: Path) -> None:
    write(tmp_path, "[[partitions]]\nslots = 0")
    assert "at least one is needed" not in fault_of(tmp_path)


def test_broken_json_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFARM_PARTITIONS", "[{")
    assert fault_of(tmp_path).startswith("partitions: the value of QFARM_PARTITIONS in the env")
    assert "EnvSettingsSource" not in fault_of(tmp_path)


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "folder = \n")
    what = fault_of(tmp_path)
    assert str(path) in what
    assert "line 1" in what


SECRET = "mongodb://me:hunter2@h/"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (f'mongo = "{SECRET}"', "mongo: "),
        (f'[mongo]\nuri = ["{SECRET}"]', "mongo.uri: "),
        (f'[mongo]\nport = "{SECRET}"', "mongo.port: "),
        ('[mongo]\nport = "hunter2"', "mongo.port: "),
        ('[mongo]\ndatabase = "7hunter2"', "mongo.database: "),
        (f'[mongo.uri]\nx = "{SECRET}"', "mongo.uri: "),
        (f'[mongo]\n"{SECRET}" = 1', "there is no such field"),
        (f'"{SECRET}" = 1', "there is no such field"),
        (f'keep_scratch = "{SECRET}"', "keep_scratch: "),
        (f'[[partitions]]\nslots = "{SECRET}"', "partitions[0].slots: "),
    ],
)
def test_password_is_not_shown(tmp_path: Path, text: str, field: str) -> None:
    write(tmp_path, text)
    assert field in fault_of(tmp_path)
    assert "hunter2" not in fault_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QFARM_MONGO", SECRET),
        ("QFARM_MONGO", f'"{SECRET}"'),
        ("QFARM_MONGO", f'{{"uri": ["{SECRET}"]}}'),
        ("QFARM_MONGO", f'{{"uri": "{SECRET}'),
        ("QFARM_MONGO__PORT", SECRET),
        ("QFARM_MONGO__PORT", "hunter2"),
        ("QFARM_MONGO__DATABASE", "7hunter2"),
        ("QFARM_KEEP_SCRATCH", SECRET),
        ("QFARM_PARTITIONS", SECRET),
        ("QFARM_CONFIG", SECRET),
    ],
)
def test_password_of_the_environment_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert "hunter2" not in fault_of(tmp_path)


def test_whole_table_rules_are_told(tmp_path: Path) -> None:
    write(tmp_path, "[lease]\nseconds = 5.0\nheartbeat = 4.0")
    assert "lease: lease.seconds must be at least twice lease.heartbeat" in fault_of(tmp_path)


def test_mongo_uri_of_the_configuration_comes_first(tmp_path: Path) -> None:
    write(tmp_path, '[mongo]\nuri = "mongodb://h:1/?replicaSet=r"')
    assert config.mongo_uri(config.load(tmp_path)) == "mongodb://h:1/?replicaSet=r"


def test_mongo_uri_of_the_private_server(tmp_path: Path) -> None:
    farm = config.load(tmp_path)
    farm.mongo_folder.mkdir(parents=True)
    (farm.mongo_folder / "connection.json").write_text(json.dumps({"uri": "mongodb://x"}))
    assert config.mongo_uri(farm) == "mongodb://x"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no file"), ("{", "damaged"), ("{}", "damaged"), ("[]", "damaged")],
)
def test_no_mongo_says_what_to_run(tmp_path: Path, content: str | None, said: str) -> None:
    farm = config.load(tmp_path)
    farm.mongo_folder.mkdir(parents=True)
    if content is not None:
        (farm.mongo_folder / "connection.json").write_text(content)
    with pytest.raises(StoreError) as caught:
        config.mongo_uri(farm)
    assert said in caught.value.what
    assert "Error" not in caught.value.what
    assert "qfarm up" in caught.value.remedy


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """Subfolder, two deep, of a folder whose name needs quotes."""
    folder = tmp_path / "my farm" / "data" / "xyz"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("sign", ["qfarm.toml", ".qfarm/mongo/connection.json"])
def test_subfolder_of_a_farm_says_where_the_farm_is(below: Path, sign: str) -> None:
    above = below.parents[1]
    (above / sign).parent.mkdir(parents=True, exist_ok=True)
    (above / sign).write_text("")
    with pytest.raises(ConfigError) as caught:
        config.mongo_uri(config.load(below))
    assert str(above) in caught.value.what
    assert f"`cd '{above}'`" in caught.value.remedy
    assert "--here" in caught.value.remedy


@pytest.mark.parametrize("sign", ["qfarm.toml", ".qfarm/mongo/connection.json"])
def test_a_farm_of_its_own_below_another_is_left_alone(below: Path, sign: str) -> None:
    write(below.parents[1], "")
    (below / sign).parent.mkdir(parents=True, exist_ok=True)
    (below / sign).write_text("")
    config.refuse_below_a_farm(config.load(below))


def test_named_file_is_meant_wherever_one_is(below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(below.parents[1], "")
    (below / "mine.toml").write_text("")
    monkeypatch.setenv("QFARM_CONFIG", "mine.toml")
    config.refuse_below_a_farm(config.load(below))


def test_an_empty_farm_folder_above_is_no_farm(below: Path) -> None:
    (below.parents[1] / ".qfarm").mkdir()
    config.refuse_below_a_farm(config.load(below))
