"""Backups of other hands: what they may ask of MongoDB, and how they are refused."""

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.store.backup import members
from qfarm.store.backup.archive import check, opened
from qfarm.store.backup.trust import BackupError, metadata, refuse_names, version_document
from unit.test_backup_archive import written


def text(index: dict[str, object], **options: object) -> str:
    return json.dumps({"options": options, "indexes": [{"name": "a", "key": {"a": 1}} | index]})


def test_what_qfarm_itself_writes_passes() -> None:
    found = metadata(
        text({"v": 2, "unique": True, "ns": "farm.x"}, collation={"locale": "de"}), "x"
    )
    assert found.indexes == [{"name": "a", "key": {"a": 1}, "v": 2, "unique": True}]
    assert metadata("{}", "x") == ({}, [])
    assert metadata(text({"name": "_id_"}), "x").indexes == []


@pytest.mark.parametrize(
    "bad",
    [
        text({"expireAfterSeconds": 1}),
        text({"name": "_id_", "expireAfterSeconds": 1}),
        text({}, validator={}),
        text({}, expireAfterSeconds=1),
        text({"name": 1}),
        text({"key": 1}),
        '{"options": []}',
        '{"indexes": {}}',
        '{"indexes": [1]}',
        '{"x": {"$oid": 1}}',
        "[",
        "[]",
        "[" * 100_000,
    ],
)
def test_more_than_holding_documents_is_refused(bad: str) -> None:
    with pytest.raises(BackupError) as caught:
        metadata(bad, "x")
    assert caught.value.remedy


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(any_text: str) -> None:
    try:
        metadata(any_text, "x")
    except BackupError as error:
        assert error.remedy  # noqa: PT017


@pytest.mark.parametrize(
    "names", [["a", "a"], [""], ["a$"], ["a\0"], ["system.x"], ["restoring.x"]]
)
def test_names_that_are_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="names a collection"):
        refuse_names(names)
    saved = written(tmp_path / "x").collections[0]
    wrong = tuple(saved.model_copy(update={"name": name}) for name in names)
    written(tmp_path / "x", collections=wrong)
    with pytest.raises(BackupError, match="names a collection"):
        check(tmp_path / "x")


@pytest.mark.parametrize("number", [2, True, 1.0, "1", None])
def test_version_that_is_not_the_manifests(number: object) -> None:
    with pytest.raises(BackupError, match="its manifest says 1"):
        version_document({"_id": "version", "version": number}, 1)


def test_version_document() -> None:
    good = {"_id": "version", "version": 1}
    assert version_document(None, 1) == version_document(good, 1) == good
    with pytest.raises(BackupError, match="being restored"):
        version_document(good | {"restoring": {}}, 1)


def test_more_than_the_manifest_says_is_not_unpacked(tmp_path: Path) -> None:
    saved = written(tmp_path / "x").collections[0]
    for field in ("documents", "size"):
        few = saved.model_copy(update={field: getattr(saved, field) // 2})
        written(tmp_path / "x", collections=(few,))
        read: list[bytes] = []
        with opened(tmp_path / "x") as backup, pytest.raises(BackupError, match="not what"):
            read.extend(backup.documents(few))
        assert 0 < len(read) < saved.documents


@pytest.mark.parametrize("field", ["metadata", "file"])
def test_members_of_others(tmp_path: Path, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = written(tmp_path / "x").collections[0]
    missing = saved.model_copy(update={field: "none"})
    with opened(tmp_path / "x") as backup:
        for change in (
            {"flag_bits": 1},
            {"compress_type": zipfile.ZIP_LZMA},
            {"file_size": 2**40},
        ):
            if field == "file" and "file_size" in change:
                continue
            with monkeypatch.context() as patch:
                info = backup._zip.getinfo(getattr(saved, field))
                for name, value in change.items():
                    patch.setattr(info, name, value)
                with pytest.raises(BackupError):
                    backup.metadata(saved) if field == "metadata" else list(backup.documents(saved))
        with pytest.raises(BackupError, match="there is no none"):
            backup.metadata(missing) if field == "metadata" else list(backup.documents(missing))


def test_manifest_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "x")
    monkeypatch.setattr(members, "_LARGEST_TEXT", 100)
    with pytest.raises(BackupError, match="larger than qfarm ever writes"):
        check(tmp_path / "x")
