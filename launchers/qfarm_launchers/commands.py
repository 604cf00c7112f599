"""The one place that starts schedulers' commands and local jobs; every command has a time limit."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from qfarm.errors import UserError

SECONDS: Final = 30.0
"""Seconds that a scheduler's command may take."""

KILL_SECONDS: Final = 1.0
"""Seconds that a killed command may take to end; one that hangs in a mount takes for ever."""

LARGEST: Final = 10_000_000
"""Bytes of what a launcher in the background has said before it is begun afresh."""

_left: Final[list[subprocess.Popen[str]]] = []
"""Commands that could not be ended: whoever starts the next one sees whether they have."""

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
    """Start a process of its own session, which outlives this one; what it says goes to `out`.

    What those before it said is kept: it may tell why the last one ended.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    full = out.exists() and out.stat().st_size > LARGEST
    with out.open("wb" if full else "ab", buffering=0) as stream:
        with suppress(OSError):  # a full disk
            stream.write(f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode())
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
    _left[:] = [one for one in _left if one.poll() is None]
    child = subprocess.Popen(
        words,
        env=environment(clean),
        stdin=subprocess.DEVNULL if standard_input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    try:
        out, err = child.communicate(standard_input, seconds)
    except subprocess.TimeoutExpired:
        raise SchedulerAway(
            f"{words[0]} did not answer within {seconds:.0f} s",
            "The scheduler is overloaded or down; the launcher asks again.",
        ) from None
    finally:
        if child.returncode is None:
            _give_up(child)
    return Answer(child.returncode, out, err)


def _give_up(child: subprocess.Popen[str]) -> None:
    """End a command; one that runs as another user or hangs in a mount is left to itself."""
    with suppress(PermissionError):
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(KILL_SECONDS)
    if child.returncode is None:
        _left.append(child)
    for pipe in (child.stdin, child.stdout, child.stderr):
        with suppress(OSError, ValueError):
            if pipe is not None:
                pipe.close()


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
