"""The one place that starts schedulers' commands and local jobs; every command has a time limit."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qfarm.errors import UserError

SECONDS: Final = 30.0
"""Seconds that a scheduler's command may take."""


Started = subprocess.Popen[bytes]
"""A process that `detached` has started."""


class SchedulerAway(UserError):  # noqa: N818 (it is what happened, not a fault of ours)
    """A scheduler does not answer, or not in its own words: nothing is known of its jobs."""


@dataclass(frozen=True)
class Answer:
    """What a command gave.

    Attributes
    ----------
    code : int
        Exit code.
    out, err : str
        Standard output and error.
    """

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it said, errors first."""
        return "\n".join(part for part in (self.err.strip(), self.out.strip()) if part)


def environment(clean: str) -> dict[str, str]:
    """Our own environment without what would change a command's meaning; in English."""
    kept = {name: value for name, value in os.environ.items() if not re.match(clean, name)}
    return kept | {"LC_ALL": "C"}


def detached(words: Sequence[str], out: Path) -> Started:
    """Start a process of its own session, which outlives this one; what it says goes to `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as stream:
        return subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run(
    words: Sequence[str],
    clean: str = r"(?!)",
    standard_input: str | None = None,
    seconds: float = SECONDS,
) -> Answer:
    """Run a scheduler's command.

    Raises
    ------
    SchedulerAway
        It is not here, or it does not end in time.
    """
    if shutil.which(words[0]) is None:
        raise SchedulerAway(
            f"{words[0]} is not on the PATH of this machine",
            "Run the launcher where the scheduler's commands work, for instance on a login node.",
        )
    try:
        done = subprocess.run(
            words,
            env=environment(clean),
            input=standard_input,
            stdin=subprocess.DEVNULL if standard_input is None else None,
            capture_output=True,
            timeout=seconds,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise SchedulerAway(
            f"{words[0]} did not answer within {seconds:.0f} s",
            "The scheduler is overloaded or down; the launcher asks again.",
        ) from None
    return Answer(done.returncode, done.stdout, done.stderr)


def detach(script: Path, log: Path, extra: Mapping[str, str]) -> int:
    """Start a script of bash as a session of its own; its pid.

    It is no `Popen`, which would want to be waited for: whoever lives when it ends takes note.
    """
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    return os.posix_spawn(
        shutil.which("bash") or "/bin/bash",
        ["bash", str(script)],
        {**os.environ, **extra},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
