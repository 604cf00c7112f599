"""The file of a backup: every byte of it is guarded, and other programs can read it."""

import json
import subprocess
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qfarm.store.backup import archive
from qfarm.store.backup.archive import Manifest, Saved, Tally, Writer, check, opened
from qfarm.store.backup.trust import BackupError

DOCUMENTS = [bson.encode({"_id": number, "x": "y" * number}) for number in range(20)]


def written(path: Path, documents: Iterable[bytes] = DOCUMENTS, **fields: object) -> Manifest:
    """Write a backup of one collection."""
    with path.open("wb") as file, Writer(file, "farm") as writer:
        tally = Tally()
        name, metadata = writer.paths("fire/works")
        with writer.member(name) as member:
            for document in documents:
                tally.add(document, 1)
                member.write(document)
        with writer.member(metadata) as member:
            member.write(b"{}")
        saved = Saved(
            name="fire/works",
            file=name,
            metadata=metadata,
            documents=tally.documents,
            size=tally.size,
            sha256=tally.sha256,
        )
        base: dict[str, object] = {
            "schema_version": 1,
            "qfarm_version": "0",
            "server_version": "6",
            "database": "farm",
            "cluster_time": (1, 2),
            "taken": datetime(2026, 1, 1, tzinfo=UTC),
            "collections": (saved,),
        }
        manifest = Manifest(**(base | fields))
        writer.close(manifest)
    return manifest


def test_what_was_written_is_read(tmp_path: Path) -> None:
    manifest = written(tmp_path / "x")
    assert check(tmp_path / "x") == manifest
    with opened(tmp_path / "x") as backup:
        assert list(backup.documents(backup.manifest.collections[0])) == DOCUMENTS
        assert backup.metadata(backup.manifest.collections[0]) == "{}"


def test_other_programs_read_it(tmp_path: Path) -> None:
    written(tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "x") as found:
        assert found.testzip() is None
        assert found.namelist() == [
            "farm/fire%2Fworks.bson",
            "farm/fire%2Fworks.metadata.json",
            "manifest.json",
        ]
        assert bson.decode_all(found.read("farm/fire%2Fworks.bson"))[3] == {"_id": 3, "x": "yyy"}
        assert json.loads(found.read("manifest.json"))["format"] == "qfarm-backup"


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    written(tmp_path / "x")
    good = (tmp_path / "x").read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        (tmp_path / "x").write_bytes(bad)
        with pytest.raises(BackupError):
            check(tmp_path / "x")


def test_every_truncation_is_found(tmp_path: Path) -> None:
    written(tmp_path / "x")
    good = (tmp_path / "x").read_bytes()
    for length in range(len(good)):
        (tmp_path / "x").write_bytes(good[:length])
        with pytest.raises(BackupError):
            check(tmp_path / "x")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.integers(0, 2000), st.integers(0, 2000))
def test_every_replacement_is_found(tmp_path: Path, new: bytes, begin: int, length: int) -> None:
    """Bytes cut out, put in and put in place of others."""
    written(tmp_path / "x")
    good = (tmp_path / "x").read_bytes()
    bad = good[:begin] + new + good[begin + length :]
    (tmp_path / "x").write_bytes(bad)
    if bad == good:
        check(tmp_path / "x")
        return
    with pytest.raises(BackupError):
        check(tmp_path / "x")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_file_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BackupError) as caught:
        check(tmp_path / "x")
    assert caught.value.remedy


@pytest.mark.parametrize("wrong", ["documents", "size", "sha256"])
def test_manifest_that_does_not_fit(tmp_path: Path, wrong: str) -> None:
    """No damage of the file, but a mistake of whoever wrote it."""
    saved = written(tmp_path / "x").collections[0]
    other = saved.model_copy(update={wrong: "0" if wrong == "sha256" else 7})
    written(tmp_path / "x", collections=(other,))
    with pytest.raises(BackupError, match="not what its manifest says"):
        check(tmp_path / "x")


@pytest.mark.parametrize("documents", [[b"\x01\x00\x00\x00"], [b"\xff" * 8], [DOCUMENTS[5][:-1]]])
def test_what_is_no_document(tmp_path: Path, documents: list[bytes]) -> None:
    written(tmp_path / "x", documents)
    with pytest.raises(BackupError, match="document"):
        check(tmp_path / "x")


def test_later_format(tmp_path: Path) -> None:
    written(tmp_path / "x", format_version=archive.FORMAT_VERSION + 1)
    with pytest.raises(BackupError, match="format qfarm-backup 2") as caught:
        check(tmp_path / "x")
    assert "Upgrade" in caught.value.remedy


def test_zip_of_others(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as other:
        other.writestr("a", "b")
    with pytest.raises(BackupError, match="no backup of qfarm"):
        check(tmp_path / "x")
    with pytest.raises(BackupError, match="cannot read"):
        check(tmp_path / "none")
    with pytest.raises(BackupError, match="cannot read"):
        check(tmp_path)


def test_unzip_finds_it_sound(tmp_path: Path) -> None:
    """The program, where there is one: it reads the headers more strictly than Python."""
    from shutil import which

    program = which("unzip")
    if program is None:
        pytest.skip("there is no unzip")
    written(tmp_path / "x")
    done = subprocess.run([program, "-tq", tmp_path / "x"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
