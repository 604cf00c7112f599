"""Archive: the file of a backup.

A ZIP file, written from front to back, that `unzip` and MongoDB's own tools understand::

    DATABASE/fireworks.bson              documents as `mongodump` writes them, one after another
    DATABASE/fireworks.metadata.json     options and indexes as `mongodump` writes them
    ...
    manifest.json                        what is in it; number and SHA-256 for each collection
    (comment)                            SHA-256 of the file, its own 64 digits read as zeros

So each byte is guarded: whatever is changed, missing or added, the sum in the comment tells it.
``unzip FILE -d dump; mongorestore dump`` restores without qfarm.
"""

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO, Final, NamedTuple, Self, cast
from urllib.parse import quote

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from qfarm.store.backup import members
from qfarm.store.backup.members import AGAIN
from qfarm.store.backup.trust import BackupError, refuse_names
from qfarm_schemas.base import Model

FORMAT: Final = "qfarm-backup"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
CHUNK: Final = 2**20
"""Bytes that are read at once."""

_LABEL: Final = b"qfarm-backup sha256:"
_ZEROS: Final = b"0" * 64
_TAIL: Final = len(_ZEROS)
_HEAD: Final = b"PK\x03\x04"
_LEVEL: Final = 1  # zlib: 6 makes a backup take half as long again, for a tenth less
_SMALLEST: Final = 5  # bytes of an empty document
_LARGEST: Final = 16 * 2**20 + 16_384  # bytes; MongoDB's limit for documents with its own fields


class Step(NamedTuple):
    """How far a part of the work is: `total` may be an estimate."""

    what: str
    done: int
    total: int


Report = Callable[[Step], None]


class Saved(Model):
    """A collection in a backup.

    Attributes
    ----------
    name : str
        Its name in the database.
    file : str
        Member of the archive with its documents.
    metadata : str
        Member of the archive with its options and indexes.
    documents, size : int
        Number of its documents and their bytes.
    sha256 : str
        Of the documents' bytes.
    """

    name: str
    file: str
    metadata: str
    documents: int = Field(ge=0)
    size: int = Field(ge=0)
    sha256: str


class Manifest(Model):
    """What a backup is.

    Attributes
    ----------
    format, format_version : str, int
        Of the file.
    schema_version : int
        Layout of the documents.
    qfarm_version, server_version : str
        Of the programs that made it.
    database : str
        Where it came from.
    cluster_time : tuple of int
        MongoDB's time that all documents are of: seconds since 1970, counter.
    taken : datetime
        When the backup was begun.
    collections : tuple of Saved
        The collections.
    left_out : tuple of str
        Views and capped collections, which are not in the backup.
    """

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    schema_version: int = Field(ge=1)
    qfarm_version: str
    server_version: str
    database: str
    cluster_time: tuple[int, int]
    taken: AwareDatetime
    collections: tuple[Saved, ...]
    left_out: tuple[str, ...] = ()

    @property
    def documents(self) -> int:
        """Number of all documents."""
        return sum(collection.documents for collection in self.collections)


class Tally:
    """Counts documents and sums up their bytes."""

    def __init__(self) -> None:
        self.documents = 0
        self.size = 0
        self._sum = hashlib.sha256()

    def add(self, documents: bytes, number: int) -> None:
        """Take `number` documents into account."""
        self.documents += number
        self.size += len(documents)
        self._sum.update(documents)

    @property
    def sha256(self) -> str:
        """SHA-256 of all bytes so far."""
        return self._sum.hexdigest()

    def exceeds(self, saved: Saved) -> bool:
        """Whether there is already more than was saved."""
        return self.documents > saved.documents or self.size > saved.size

    def fits(self, saved: Saved) -> bool:
        """Whether these are the documents that were saved."""
        found = (self.documents, self.size, self.sha256)
        return found == (saved.documents, saved.size, saved.sha256)


class Writer:
    """Writes an archive, in constant memory.

    Parameters
    ----------
    file : BinaryIO
        New, empty file that can be read back to its end only.
    database : str
        Name of the folder in the archive.
    """

    def __init__(self, file: BinaryIO, database: str) -> None:
        self._file = file
        self._folder = quote(database, safe="")
        self._appending = _Appending(file)
        self._zip = zipfile.ZipFile(cast(BinaryIO, self._appending), "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._appending.abandoned = True  # or ZipFile ends the archive in some way when collected
        self._zip.close()

    def paths(self, collection: str) -> tuple[str, str]:
        """Members for the documents and for the metadata of a collection."""
        stem = f"{self._folder}/{quote(collection, safe='')}"
        return f"{stem}.bson", f"{stem}.metadata.json"

    @contextmanager
    def member(self, path: str) -> Iterator[IO[bytes]]:
        """Open a member to write to."""
        info = zipfile.ZipInfo(path, datetime.now(UTC).timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o600 << 16
        info._compresslevel = _LEVEL  # type: ignore[attr-defined]  # public from Python 3.13 on
        with self._zip.open(info, "w", force_zip64=True) as member:
            yield member

    def close(self, manifest: Manifest) -> None:
        """Write the manifest, the directory and the sum."""
        with self.member(MANIFEST) as member:
            member.write(manifest.model_dump_json(indent=1).encode())
        self._zip.comment = _LABEL + _ZEROS
        self._zip.close()
        self._file.seek(-_TAIL, io.SEEK_END)
        self._file.write(self._appending.sum.hexdigest().encode())


class Backup:
    """An archive that is whole.

    Attributes
    ----------
    manifest : Manifest
        What is in it.
    """

    def __init__(self, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self.manifest = manifest
        self._zip = archive

    def metadata(self, saved: Saved) -> str:
        """Options and indexes of a collection, as extended JSON."""
        try:
            return members.text(self._zip, saved.metadata).decode()
        except UnicodeDecodeError:
            raise BackupError(f"{saved.metadata} in the backup is no text", AGAIN) from None

    def documents(self, saved: Saved) -> Iterator[bytes]:
        """Documents of a collection, one by one.

        Raises
        ------
        BackupError
            They are not what the manifest says: more of them at once, others at the end.
        """
        tally = Tally()
        wrong = BackupError(f"{saved.file} in the backup is not what its manifest says", AGAIN)
        with members.member(self._zip, saved.file) as member:
            for document in _documents(member, saved.file):
                tally.add(document, 1)
                if tally.exceeds(saved):
                    raise wrong
                yield document
        if not tally.fits(saved):
            raise wrong


@contextmanager
def opened(path: Path, report: Report = lambda _: None) -> Iterator[Backup]:
    """Open an archive and verify each of its bytes, then give access to it.

    Raises
    ------
    BackupError
        It is none, damaged, cut off, or of a later format.
    """
    try:
        with path.open("rb") as file:
            _verify(file, path, report)
            file.seek(0)
            with members.directory(file, path) as archive:
                yield Backup(archive, _manifest(archive, path))
    except OSError as error:
        said = error.strerror or str(error)
        raise BackupError(f"cannot read {path}: {said}", "Name a file of `qfarm backup`.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:  # changed under our eyes
        raise BackupError(f"{path} is damaged: {error}", AGAIN) from None


def check(path: Path, report: Report = lambda _: None) -> Manifest:
    """Verify a backup: the whole file, then each document against the manifest.

    Raises
    ------
    BackupError
        It is none, or damaged.
    """
    with opened(path, report) as backup:
        for saved in backup.manifest.collections:
            for number, _ in enumerate(backup.documents(saved)):
                if number % 5000 == 0:
                    report(Step(f"checking {saved.name}", number, saved.documents))
            report(Step(f"checking {saved.name}", saved.documents, saved.documents))
        return backup.manifest


def count(documents: bytes) -> int:
    """Number of BSON documents that stand one after another."""
    number = position = 0
    while position < len(documents):
        position += struct.unpack_from("<i", documents, position)[0]
        number += 1
    return number


class _Appending:
    """A file that can only be appended to; so ZipFile never goes back and one sum is enough."""

    def __init__(self, file: BinaryIO) -> None:
        self.sum = hashlib.sha256()
        self.abandoned = False
        self._file = file

    def write(self, data: bytes) -> int:
        if self.abandoned:
            return len(data)
        self.sum.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        if not self.abandoned:
            self._file.flush()


def _verify(file: BinaryIO, path: Path, report: Report) -> None:
    if file.read(len(_HEAD)) != _HEAD:
        raise BackupError(f"{path} is no backup of qfarm", "Name a file of `qfarm backup`.")
    size = file.seek(0, io.SEEK_END)
    end = _TAIL + len(_LABEL)
    file.seek(max(0, size - end))
    if file.read(len(_LABEL)) != _LABEL:
        raise BackupError(f"{path} is cut off, or no backup of qfarm", AGAIN)
    said = file.read(_TAIL)
    if _sum(file, size - _TAIL, report) != said:
        raise BackupError(f"{path} is damaged: its SHA-256 is not the one it was given", AGAIN)


def _sum(file: BinaryIO, size: int, report: Report) -> bytes:
    """SHA-256 of the first `size` bytes and 64 zeros."""
    total = hashlib.sha256()
    file.seek(0)
    for begin in range(0, size, CHUNK):
        total.update(file.read(min(CHUNK, size - begin)))
        report(Step("verifying the file", min(begin + CHUNK, size), size))
    total.update(_ZEROS)
    return total.hexdigest().encode()


def _manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    try:
        text = members.text(archive, MANIFEST)
        head = _Head.model_validate_json(text)
        if head.format != FORMAT or head.format_version > FORMAT_VERSION:
            raise BackupError(
                f"{path} is of format {head.format} {head.format_version}; this qfarm knows "
                f"{FORMAT} up to {FORMAT_VERSION}",
                "Upgrade qfarm to the version that wrote it.",
            )
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        said = " ".join(str(error).split())[:200]
        raise BackupError(f"{path} has no manifest of a backup: {said}", AGAIN) from None
    refuse_names([saved.name for saved in manifest.collections])
    return manifest


class _Head(Model):
    """The part of a manifest that all versions of the format share."""

    model_config = ConfigDict(extra="ignore")

    format: str
    format_version: int


def _documents(member: IO[bytes], name: str) -> Iterator[bytes]:
    """Split a stream into BSON documents: each begins with its length."""
    while head := member.read(4):
        size = struct.unpack("<i", head)[0] if len(head) == 4 else 0
        if not _SMALLEST <= size <= _LARGEST:
            raise BackupError(f"{name} in the backup holds what is no document", AGAIN)
        body = member.read(size - 4)
        if len(body) != size - 4:
            raise BackupError(f"{name} in the backup ends within a document", AGAIN)
        yield head + body
