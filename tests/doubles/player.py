"""The player: prints a double's output page by page and ends as the plan wants it."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from doubles.answer import Answer, End, Script
from doubles.misbehaviour import Act, choose
from doubles.physics import Molecule


class Task(Protocol):
    """What was found in the working folder."""

    @property
    def text(self) -> str:
        """The input text, by which rules of the plan may match."""

    @property
    def molecule(self) -> Molecule:
        """The geometry asked for."""

    def answer(self, molecule: Molecule) -> Answer:
        """Compute a geometry."""

    def script(self, answer: Answer, act: Act) -> Script:
        """What is printed then."""


class Cut(Exception):  # noqa: N818 - ends the output, is no error
    """The output ends here."""


@dataclass
class Screen:
    """stdout with room for so many lines."""

    room: int

    def show(self, text: str) -> None:
        """Print; raises Cut when there is no room for the rest."""
        lines = text.splitlines(keepends=True)
        sys.stdout.write("".join(lines[: self.room]))
        sys.stdout.flush()
        self.room -= len(lines)
        if self.room < 0:
            raise Cut


def perform(program: str, task: Task, folder: Path) -> int:
    """Run a double in `folder`; its exit code, negative for the signal that it must die by."""
    act = choose(program, task.text, task.molecule)
    script = task.script(act.answer(task.answer(act.molecule(task.molecule))), act)
    screen = Screen(_room(act, script))
    try:
        end = _play(act, script, screen, folder)
    except Cut:
        return _over(act, 0)
    leave(folder, end.files)
    return _over(act, end.code)


def _play(act: Act, script: Script, screen: Screen, folder: Path) -> End:
    screen.show(script.head)
    leave(folder, script.files)
    done = 0
    for step in script.steps:
        screen.show(step)
        done += 1
        leave(folder, script.during(done))
        time.sleep(act.pause or script.pause)
        if act.hang and done == min(2, len(script.steps)):
            _hang(act.hang)
        if (folder / script.stop_file).exists():
            break
    end = script.end(done)
    screen.show(end.text)
    return end


def leave(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files."""
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)


def _room(act: Act, script: Script) -> int:
    whole = (script.head, *script.steps, script.end(len(script.steps)).text)
    total = sum(text.count("\n") for text in whole)
    if act.lines is not None:
        return min(act.lines, total - 1)
    return sys.maxsize if act.cut is None else int(act.cut * total)


def _hang(seconds: float) -> None:
    """Do nothing, and let nobody ask to stop in order."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)


def _over(act: Act, code: int) -> int:
    sys.stderr.write(act.error)
    return code if act.code is None else act.code


def leave_with(code: int) -> NoReturn:
    """End this process by an exit code or, where it is negative, by a signal."""
    sys.stdout.flush()
    if code >= 0:
        sys.exit(code)
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    time.sleep(60)
    raise RuntimeError(f"signal {-code} did not end this process")
