"""Forker: a process that has imported all it needs and forks others on request.

A worker that is killed 300 times must not pay 300 times for imports. The forker is started before
any thread or MongoDB client exists, and stays single-threaded. What it forks dies with it.
"""

import ctypes
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from qfarm.errors import UserError

TOLD: Final = os.EX_UNAVAILABLE
"""Exit code of a function that ended with a message to the user."""

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class Forker:
    """The side that asks.

    Attributes
    ----------
    pid : int
        Of the process that forks.
    """

    def __init__(
        self, pid: int, line: socket.socket, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.pid = pid
        self._line = line
        self._process = process
        self._buffer = b""
        self._ended: dict[int, int] = {}

    @classmethod
    def start(cls, modules: tuple[str, ...], environment: Mapping[str, str]) -> Self:
        """Start one that imports these modules first."""
        ours, theirs = socket.socketpair()
        words = [sys.executable, "-m", "chaos.forker", str(theirs.fileno()), *modules]
        started = subprocess.Popen(words, env=dict(environment), pass_fds=[theirs.fileno()])
        theirs.close()
        return cls(started.pid, ours, started)

    @classmethod
    def fork_here(cls) -> Self:
        """Fork one off this process, which must have a single thread."""
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _die_with(parent)
            serve(theirs)
            os._exit(0)
        theirs.close()
        return cls(pid, ours)

    def fork(self, function: str, arguments: Mapping[str, Any], out: Path) -> int:
        """Call ``module:function`` with these arguments in a fork; its pid. It prints to `out`."""
        request = {"function": function, "arguments": dict(arguments), "out": str(out)}
        self._line.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read()
            if "forked" in answer:
                return int(answer["forked"])
            self._note(answer)

    def ended(self) -> dict[int, int]:
        """Exit codes of those that ended since the last call; negative for signals."""
        while b"\n" in self._buffer or select.select([self._line], [], [], 0)[0]:
            self._note(self._read())
        ended, self._ended = self._ended, {}
        return ended

    def close(self) -> None:
        """End it, and with it all that it forked."""
        self._line.close()
        if self._process is not None:
            self._process.wait(10)

    def _note(self, answer: Mapping[str, Any]) -> None:
        self._ended[answer["ended"]] = answer["code"]

    def _read(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            received = self._line.recv(65536)
            if not received:
                raise EOFError("the forker is gone")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve(line: socket.socket) -> None:
    """Fork what is asked for and tell who ended, until the other side is gone."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.freeze()
    buffer = b""
    while True:
        for pid, code in _reaped():
            line.sendall(json.dumps({"ended": pid, "code": code}).encode() + b"\n")
        readable, _, _ = select.select([line.fileno(), woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
        if line.fileno() not in readable:
            continue
        try:
            received = line.recv(65536)
        except ConnectionError:
            return
        if not received:
            return
        *requests, buffer = (buffer + received).split(b"\n")
        for request in requests:
            pid = _fork(json.loads(request), line)
            line.sendall(json.dumps({"forked": pid}).encode() + b"\n")


def _reaped() -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))


def _fork(request: dict[str, Any], line: socket.socket) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        line.close()
        _child(request, parent)
    return pid


def _child(request: dict[str, Any], parent: int) -> NoReturn:
    code = os.EX_SOFTWARE
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with(parent)
        random.seed()  # or all forks would wait the same "random" times
        file = os.open(request["out"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        module, name = request["function"].split(":")
        code = getattr(importlib.import_module(module), name)(**request["arguments"]) or 0
    except UserError as error:
        print(error, file=sys.stderr)
        code = TOLD
    except BaseException:  # noqa: BLE001 - nothing may escape into the forker's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(os.EX_SOFTWARE)


if __name__ == "__main__":
    for _module in sys.argv[2:]:
        importlib.import_module(_module)
    serve(socket.socket(fileno=int(sys.argv[1])))
