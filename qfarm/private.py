"""Files that hold a secret: read only if nobody but their owner can read them."""

import os
import shlex
import stat
from pathlib import Path
from typing import Final

from qfarm.errors import ConfigError

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_private(path: Path, holds: str) -> str:
    """Text of a file without the blanks around it.

    Parameters
    ----------
    path : Path
        The file.
    holds : str
        What it is for, in words: ``mongo.uri_file``.

    Raises
    ------
    ConfigError
        It is not there, others may read it, or it is empty; nothing of the content is told.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().strip()
    except OSError as error:
        what = f"{path}, the file of {holds}, cannot be read: {error.strerror}"
        raise ConfigError(what, f"Correct {holds}, or make the file readable for you.") from None
    except UnicodeDecodeError:
        what = f"{path}, the file of {holds}, is not text in UTF-8"
        raise ConfigError(what, f"Correct {holds}, or write the file anew.") from None
    if mode & _OTHERS:
        raise ConfigError(
            f"{path} holds a password and other users may read or change it "
            f"(mode {stat.S_IMODE(mode):04o})",
            f"Run `chmod 600 {shlex.quote(str(path))}`; if they could read it for long, ask for a "
            "new password.",
        )
    if not text:
        raise ConfigError(f"{path}, the file of {holds}, is empty", "Write one line into it.")
    return text
