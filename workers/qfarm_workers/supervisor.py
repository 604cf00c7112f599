"""The supervisor: a single-threaded process that forks one engine process at a time.

It is started by `qfarm_workers.process` as ``python -m qfarm_workers.supervisor`` and speaks JSON
lines over its standard streams. Requests::

    {"folder": ..., "module": ..., "function": ...}     run a Python function
    {"folder": ..., "argv": [...], "environment": {}}   run an executable
    {"kill": 5.0}                                       end what runs now; it has so many seconds

Answers: ``{"started": pid}``, then ``{"ended": {...}}``; or ``{"missing": why}`` when the program
is not there. Engine modules are imported once, here, so that an attempt pays for a fork and not
for imports. When its input ends the worker is dead: the engine's process group is killed and the
supervisor leaves. This file imports the standard library only.
"""

import ctypes
import errno
import faulthandler
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from qfarm_workers.children import children

MISSING: Final = os.EX_UNAVAILABLE
"""Exit code of a Python function that could not import what it needs."""

NO_MEMORY: Final = os.EX_OSERR
"""Exit code of a Python function that was refused memory."""

DISK_FULL: Final = os.EX_IOERR
"""Exit code of a Python function that found no space on the device."""

TO_LEAVE: Final = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
"""By which batch systems tell a job that it will be killed: Grid Engine and LSF by the second, LSF
by the third as well, 10 s before the first."""

HASTE: Final = 1.0
"""s: that an executable has to end when its worker has gone; of one that has ended, the rest."""

_POLL: Final = 0.02
"""s: between two looks whether it has."""

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h

_Request = dict[str, Any]


@dataclass
class Channel:
    """JSON lines over two pipes; the worker and the supervisor hold one each."""

    reader: int
    writer: int
    _buffer: bytearray = field(default_factory=bytearray)

    def ready(self, timeout: float) -> bool:
        """Whether `read` has something to say within `timeout` seconds, be it the end."""
        return b"\n" in self._buffer or bool(select.select([self.reader], [], [], timeout)[0])

    def read(self) -> dict[str, Any] | None:
        """Wait for the next message; None when the other side has gone."""
        while b"\n" not in self._buffer:
            received = os.read(self.reader, 65536)
            if not received:
                return None
            self._buffer += received
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        message: dict[str, Any] = json.loads(line)
        return message

    def send(self, message: Mapping[str, Any]) -> None:
        """Send; that the other side has gone is noticed by the next `read`."""
        try:
            os.write(self.writer, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            return

    def close(self) -> None:
        """Close both pipes."""
        os.close(self.reader)
        os.close(self.writer)


def take_streams() -> Channel:
    """Move the channel away from the standard streams, where a stray print would spoil it."""
    channel = Channel(os.dup(0), os.dup(1))  # dup gives descriptors that exec closes
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return channel


def serve(channel: Channel) -> None:
    """Run what is asked for, one at a time, until the worker has gone."""
    while (request := channel.read()) is not None:
        if "kill" in request:  # it crossed with the end of what it was meant for
            continue
        answer = _run(request, channel)
        if answer is None:
            return
        channel.send(answer)


def _run(request: _Request, channel: Channel) -> dict[str, Any] | None:
    try:
        program = _program(request)
    except Exception:  # noqa: BLE001 - importing foreign code may raise anything
        return {"missing": traceback.format_exc(limit=-3)}
    began = time.monotonic()
    pid = _fork(program, Path(request["folder"]), channel)
    pidfd = os.pidfd_open(pid)
    channel.send({"started": pid})
    haste = HASTE if "argv" in request else 0.0
    told = _watch(pid, pidfd, channel, haste)
    ended = _reap(pid, began, haste)
    os.close(pidfd)
    if told and ended["code"] == 0:  # in order, but it may not have done what it was to do
        ended["code"] = -signal.SIGTERM
    return None if told is None else {"ended": ended}


def _program(request: _Request) -> Callable[[], None]:
    """Load what is asked for; the call of what comes back happens in the child."""
    folder = Path(request["folder"])
    if "module" in request:
        function = getattr(importlib.import_module(request["module"]), request["function"])
        return lambda: function(folder)
    argv, environment = list(request["argv"]), os.environ | dict(request["environment"])
    if shutil.which(argv[0], path=environment.get("PATH")) is None:
        raise FileNotFoundError(_unfit(argv[0]))
    environment["TMPDIR"] = str(folder)
    return lambda: os.execvpe(argv[0], argv, environment)  # noqa: S606 - argv comes from an engine


def _unfit(name: str) -> str:
    if Path(name).is_file():
        return f"the file {name!r} is not executable"
    return f"there is no executable {name!r}{'' if '/' in name else ' on PATH'}"


def _watch(pid: int, pidfd: int, channel: Channel, haste: float) -> bool | None:
    """Wait for the child's end; whether the worker wanted it, None when that has gone."""
    readable, _, _ = select.select([channel.reader, pidfd], [], [])
    if pidfd in readable:
        return False
    request = channel.read()
    _end_group(pid, haste if request is None else float(request["kill"]))
    select.select([pidfd], [], [])
    return None if request is None else True


def _reap(pid: int, began: float, haste: float) -> dict[str, Any]:
    """Collect the child; until `wait4` its pid cannot name anything else."""
    _end_group(pid, haste)  # what the child left behind in its group
    _, status, usage = os.wait4(pid, 0)
    stray = _reap_strays()
    return {
        "code": os.waitstatus_to_exitcode(status),
        "wall_seconds": time.monotonic() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime + stray,
        "peak_memory_mb": usage.ru_maxrss / 1024,  # Linux counts in KiB
    }


def _reap_strays() -> float:
    """Kill and collect descendants that left the group; they became children of ours."""
    cpu_seconds = 0.0
    while True:
        for pid in list(children(os.getpid())):
            os.kill(pid, signal.SIGKILL)
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return cpu_seconds
        cpu_seconds += usage.ru_utime + usage.ru_stime


def _end_group(pid: int, seconds: float) -> None:
    """End the group of a child that is not reaped yet; ask it to, and kill it after `seconds`.

    A launcher such as srun started its ranks through a daemon: only if it is asked, and has time,
    do they end with it. Killed, it leaves them behind on the cores of the job.
    """
    if seconds > 0 and _group_lives(pid):
        _signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while _group_lives(pid) and time.monotonic() < deadline:
            time.sleep(_POLL)
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the group of a child that is not reaped yet, be it before its `setsid`."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        os.kill(pid, number)


def _group_lives(group: int) -> bool:
    """Whether the child or another descendant in its group lives; a zombie does not."""
    family = list(children(os.getpid()))
    for pid in family:
        if _lives_in(group, pid):
            return True
        family.extend(children(pid))
    return False


def _lives_in(group: int, pid: int) -> bool:
    try:
        said = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    state, _, its_group, *_ = said.rpartition(")")[2].split()
    return state not in ("Z", "X") and group in (int(its_group), pid)  # pid: before its `setsid`


def _fork(program: Callable[[], None], folder: Path, channel: Channel) -> int:
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(program, folder, channel, supervisor)
    return pid


def _child(
    program: Callable[[], None], folder: Path, channel: Channel, supervisor: int
) -> NoReturn:
    code = os.EX_SOFTWARE
    try:
        _detach(channel, supervisor)
        _enter(folder)
        program()
        code = os.EX_OK
    except BaseException as error:  # noqa: BLE001 - nothing may escape into the supervisor's code
        code = _code(error)
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _detach(channel: Channel, supervisor: int) -> None:
    """Become a process group of its own that dies with the supervisor."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before the line above
        os._exit(os.EX_SOFTWARE)
    channel.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in TO_LEAVE:
        signal.signal(number, signal.SIG_DFL)


def _enter(folder: Path) -> None:
    """Make the scratch folder the place for output, core dumps and temporary files."""
    os.chdir(folder)
    for descriptor, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        opened = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    faulthandler.enable()  # a segmentation fault leaves its traceback in stderr.txt


def _code(error: BaseException) -> int:
    """Exit code by which the worker knows what kind of failure it was."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, ImportError):
        return MISSING
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    return os.EX_SOFTWARE


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # a full disk or a closed stream: the exit code tells


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    """Serve the worker on the standard streams.

    A batch system that ends a job signals all of its processes; this one must live on until the
    worker has heard how the engine ended.
    """
    for number in TO_LEAVE:
        signal.signal(number, signal.SIG_IGN)
    channel = take_streams()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    serve(channel)


if __name__ == "__main__":
    main()
