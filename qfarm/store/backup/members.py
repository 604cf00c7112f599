"""Members: the ZIP file of a backup read with care, as it may come from elsewhere."""

import struct
import zipfile
from pathlib import Path
from typing import IO, BinaryIO, Final

from qfarm.store.backup.trust import BackupError

AGAIN: Final = "Use another backup; this one cannot be trusted in any part."
_LARGEST_TEXT: Final = 16 * 2**20  # bytes of a manifest or of metadata; qfarm's are some kB
_ENCRYPTED: Final = 0x61  # bits of a member's flags: encrypted, patched data, strongly encrypted
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def directory(file: BinaryIO, path: Path) -> zipfile.ZipFile:
    """Open a ZIP file and read its directory."""
    try:
        return zipfile.ZipFile(file)
    except (NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise BackupError(f"{path} is no ZIP file of qfarm: {error}", AGAIN) from None


def member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Open a member that is there, and written as qfarm writes."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise BackupError(f"there is no {name} in the backup", AGAIN) from None
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        raise BackupError(
            f"{name} in the backup is encrypted, or packed as qfarm does not",
            "Use a file as `qfarm backup` wrote it.",
        )
    try:
        return archive.open(info)
    except RuntimeError as error:  # the member's own header says other than the directory
        raise BackupError(f"{name} in the backup cannot be opened: {error}", AGAIN) from None


def text(archive: zipfile.ZipFile, name: str) -> bytes:
    """A whole member, unless it is too large to be read at once."""
    with member(archive, name) as stream:
        if archive.getinfo(name).file_size <= _LARGEST_TEXT:
            return stream.read(_LARGEST_TEXT)
    raise BackupError(f"{name} in the backup is larger than qfarm ever writes it", AGAIN)
