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
        r"mongo\.port: .*1024, not 80",
        r"partitions\[0\]\.slots: .*, not 0",
    ):
        assert re.search(pattern, what), pattern


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
    assert "mongo.prot: there is no such field" in fault_of(tmp_path)


def test_misspelt_variable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFARM_SCRACTH", "/big")
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert "QFARM_SCRACTH" in caught.value.what
    assert "QFARM_SCRATCH" in caught.value.remedy


@pytest.mark.parametrize("name", ["QFARM_CI", "QFARM_SHARED", "QFARM_LOG"])
def test_other_variables_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    config.load(tmp_path)


def test_broken_json_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFARM_PARTITIONS", "[{")
    assert "partitions" in fault_of(tmp_path)


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "folder = \n")
    what = fault_of(tmp_path)
    assert str(path) in what
    assert "line 1" in what


def test_password_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path, '[mongo]\nuri = ["mongodb://me:secret@h"]')
    assert "mongo.uri" in fault_of(tmp_path)
    assert "secret" not in fault_of(tmp_path)


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


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_no_mongo_says_what_to_run(tmp_path: Path, content: str | None) -> None:
    farm = config.load(tmp_path)
    farm.mongo_folder.mkdir(parents=True)
    if content is not None:
        (farm.mongo_folder / "connection.json").write_text(content)
    with pytest.raises(StoreError) as caught:
        config.mongo_uri(farm)
    assert "qfarm up" in caught.value.remedy
