"""Programs that tests run as engine processes: they sleep, crash, eat memory, leave orphans."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from qfarm.engines import inprocess
from support.build import result


def nothing(folder: Path) -> None:
    """Do nothing."""


def hello(folder: Path) -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    (folder / "result.txt").write_text("42")


def surroundings(folder: Path) -> None:
    facts = {
        "cwd": str(Path.cwd()),
        "group": os.getpgid(0),
        "pid": os.getpid(),
        "environment": dict(os.environ),
        "masked": [int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "stdin": str(Path("/proc/self/fd/0").readlink()),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def sleep(folder: Path) -> None:
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)


def burn(folder: Path) -> None:
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass


def eat_memory(folder: Path) -> None:
    eaten = [bytearray(b"x" * 2**20) for _ in range(300)]
    time.sleep(600)
    print(len(eaten))


def eat_memory_in_a_child(folder: Path) -> None:
    code = "import time; x = b'x' * (300 * 2**20); time.sleep(600)"
    subprocess.run([sys.executable, "-c", code], check=True)


def crash(folder: Path) -> None:
    raise ValueError("a broken engine")


def segfault(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def disk_full(folder: Path) -> None:
    raise OSError(28, "No space left on device")


def no_memory(folder: Path) -> None:
    raise MemoryError


def no_library(folder: Path) -> None:
    import a_library_that_is_not_there  # type: ignore[import-not-found]  # noqa: F401


def leave_orphans(folder: Path) -> None:
    """Leave one process in the group and one that left it, and end well."""
    in_group = subprocess.Popen(["sleep", "600"])
    outside = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (folder / "orphans").write_text(f"{in_group.pid} {outside.pid}")
    os._exit(0)


def sleep_with_family(folder: Path) -> None:
    """Sleep with one process in the group and one that left it."""
    in_group = subprocess.Popen(["sleep", "600"])
    outside = subprocess.Popen(["sleep", "600"], start_new_session=True)
    pids = [os.getpid(), in_group.pid, outside.pid]
    (folder / "pids.part").write_text(" ".join(map(str, pids)))
    (folder / "pids.part").rename(folder / "pids")
    time.sleep(600)


def good(folder: Path) -> None:
    """Give a result that passes the verdict."""
    job = inprocess.read_job(folder)
    inprocess.save(folder, result(numbers=job.fragment.numbers, positions=job.fragment.positions))


def gated(folder: Path) -> None:
    """Give a good result once the file ``gate`` is there; say the pid in ``gate.pid`` before."""
    gate = Path(str(inprocess.read_job(folder).level.options["gate"]))
    announced = gate.with_suffix(".part")
    announced.write_text(str(os.getpid()))
    announced.rename(gate.with_suffix(".pid"))
    while not gate.exists():
        time.sleep(0.02)
    good(folder)


def devices(folder: Path) -> None:
    """Take some time; give a good result, with the GPUs that are seen as the engine's version."""
    job = inprocess.read_job(folder)
    time.sleep(float(job.level.options["seconds"]))
    seen, atoms = os.environ.get("CUDA_VISIBLE_DEVICES", "none"), job.fragment.n_atoms
    given = result(
        numbers=job.fragment.numbers,
        positions=job.fragment.positions,
        forces=[[0.0, 0.0, 0.001]] * atoms,
        hirshfeld_ratios=[0.9] * atoms,
        engine_version=f"sees {seen}",
    )
    inprocess.save(folder, given)
