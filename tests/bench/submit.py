"""What the submission of a large batch costs, and what it costs to give the command again.

Run ``OMP_NUM_THREADS=1 python tests/bench/submit.py [--runs N] [FRAGMENTS ...]`` (20,000 and
100,000 unless told, once each). Starts a server of its own; writes a file of two-stage fragments
of 3 to 30 atoms with charges, classes, tags and names; runs ``qfarm submit`` on it, each time into
an empty database, then once more into the last. Prints medians of seconds, fragments per second,
processor seconds of the command and the peak memory of its largest process.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.collections import g2

from qfarm.store import server

QFARM = Path(sys.executable).with_name("qfarm")
ELEMENTS = {"H", "C", "N", "O", "F", "P", "S", "Cl"}
CLASSES = ("dimer", "trimer", "monomer", "peptide", "lipid")
MOST = 30


class Cost(NamedTuple):
    """Seconds of wall and processor time, and peak megabytes of the largest process."""

    wall: float
    cpu: float
    memory: float


def molecules() -> list[Atoms]:
    """Closed-shell molecules of G2 that every engine knows."""
    every = (g2[name] for name in g2.names)
    return [
        one
        for one in every
        if len(one) > 2 and set(one.symbols) <= ELEMENTS and one.numbers.sum() % 2 == 0
    ]


def cluster(known: list[Atoms], random: np.random.Generator) -> Atoms:
    """One to three molecules in a row, distorted."""
    whole = Atoms()
    for _ in range(random.integers(1, 4)):
        one = known[random.integers(len(known))][:]
        one.positions += random.normal(0, 0.03, (len(one), 3)) - one.positions.min(axis=0)
        if len(whole):
            one.positions[:, 0] += whole.positions[:, 0].max() + 2.5
        whole += one
    return whole[:MOST]


def frame(index: int, atoms: Atoms, random: np.random.Generator) -> str:
    """A frame of an extxyz file."""
    charge = int(random.integers(-1, 2))
    multiplicity = 1 if (atoms.numbers.sum() - charge) % 2 == 0 else 2
    words = (
        f"Properties=species:S:1:pos:R:3 charge={charge} multiplicity={multiplicity}",
        f"class={CLASSES[index % len(CLASSES)]}",
        f'tags="batch{index % 7},md" name=frag{index} pbc="F F F"',
    )
    rows = zip(atoms.symbols, atoms.positions, strict=True)
    lines = (f"{name:<2} {x:15.8f} {y:15.8f} {z:15.8f}" for name, (x, y, z) in rows)
    return "\n".join((str(len(atoms)), " ".join(words), *lines)) + "\n"


def write(path: Path, fragments: int) -> None:
    """Write a batch, the same each time."""
    random, known = np.random.default_rng(20260101), molecules()
    with path.open("w") as file:
        for index in range(fragments):
            file.write(frame(index, cluster(known, random), random))


def submitted(path: Path, uri: str, database: str) -> Cost:
    """Cost of submitting a file."""
    own = {"QFARM_MONGO__URI": uri, "QFARM_MONGO__DATABASE": database}
    began = time.perf_counter()
    with subprocess.Popen(
        [QFARM, "submit", path],
        env=os.environ | own,
        cwd=path.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said = process.stderr.read() if process.stderr else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        sys.exit(said)
    return Cost(wall, used.ru_utime + used.ru_stime, _megabytes(used))


def report(what: str, fragments: int, costs: list[Cost]) -> None:
    """Print medians."""
    wall, cpu, memory = (median(values) for values in zip(*costs, strict=True))
    print(
        f"{fragments:>8,} {what:<6} {wall:7.1f} s {fragments / wall:8,.0f} /s, "
        f"processor {cpu:6.1f} s, peak memory {memory:.0f} MB ({len(costs)} runs)",
        flush=True,
    )


def measure(folder: Path, uri: str, fragments: int, runs: int) -> None:
    """Measure one size."""
    path = folder / f"{fragments}.extxyz"
    write(path, fragments)
    costs = [submitted(path, uri, f"n{fragments}_{run}") for run in range(runs)]
    report("new", fragments, costs)
    report("again", fragments, [submitted(path, uri, f"n{fragments}_{runs - 1}")])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("fragments", type=int, nargs="*", default=[20_000, 100_000])
    parser.add_argument("--runs", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            uri = server.up(folder / "mongo").uri
            for fragments in asked.fragments:
                measure(folder, uri, fragments, asked.runs)
        finally:
            server.down(folder / "mongo", force=True)


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / 1000


if __name__ == "__main__":
    main()
