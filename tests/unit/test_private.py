"""Private files: addresses with passwords are read only if nobody else can read them."""

from pathlib import Path

import pytest

from qfarm import config
from qfarm.errors import ConfigError

URI = "mongodb://anna:s3cret@db.example.org:27017/?replicaSet=qfarm"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good file that a farm names."""
    for name in ("URI", "URI_FILE"):
        monkeypatch.delenv(f"QFARM_MONGO__{name}", raising=False)
    (tmp_path / "qfarm.toml").write_text('[mongo]\nuri_file = "anna.uri"\n')
    path = tmp_path / "anna.uri"
    path.write_text(f"{URI}\n")
    path.chmod(0o600)
    return path


def test_the_address_is_that_of_the_file(file: Path) -> None:
    farm = config.load(file.parent)
    assert config.given_uri(farm) == config.mongo_uri(farm) == URI
    assert "s3cret" not in repr(farm)


def test_the_environment_may_name_another(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.with_name("admin.uri")
    other.write_text("mongodb://admin")
    other.chmod(0o400)
    monkeypatch.setenv("QFARM_MONGO__URI_FILE", str(other))
    assert config.mongo_uri(config.load(file.parent)) == "mongodb://admin"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601, 0o604])
def test_what_others_may_read_or_change_is_refused(mode: int, file: Path) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}") as caught:
        config.mongo_uri(config.load(file.parent))
    assert f"chmod 600 {file}" in caught.value.remedy
    assert "s3cret" not in str(caught.value)


def test_a_missing_an_empty_and_a_strange_file(file: Path) -> None:
    farm = config.load(file.parent)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.mongo_uri(farm)
    file.write_text(" \n")
    with pytest.raises(ConfigError, match="empty"):
        config.mongo_uri(farm)
    file.unlink()
    with pytest.raises(ConfigError, match=r"mongo\.uri_file, cannot be read"):
        config.mongo_uri(farm)


def test_two_addresses_are_one_too_many(file: Path) -> None:
    (file.parent / "qfarm.toml").write_text(f'[mongo]\nuri_file = "anna.uri"\nuri = "{URI}"\n')
    with pytest.raises(ConfigError, match="both uri and uri_file") as caught:
        config.load(file.parent)
    assert "s3cret" not in str(caught.value)
