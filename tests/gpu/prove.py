"""Prove the GPU engine against the CPU engine, and measure its speed-up. Needs no network.

Run it on a machine with a GPU, in an environment with ``qfarm[gpu]``::

    python tests/gpu/prove.py --seconds 500 --out proof.json

It takes the fragments of `cases` one after another, from small to large, until the time is used up;
each by PySCF on all cores, once, and by gpu4pyscf, some times. Energies must agree within 1e-6 eV,
forces within 1e-5 eV/A, Hirshfeld ratios within 1e-5. Exit codes: 0 all agree, 1 one does not, 2
nothing was compared. ``--tight`` converges both further, which tells numerical differences from
what the SCF leaves open; ``--rehearse`` goes through the small ones without a GPU.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu.cases import CASES, Case
from qfarm.engines.gpu4pyscf import cuda
from qfarm.engines.gpu4pyscf.twin import Device, Twins
from qfarm.engines.pyscf import compute
from qfarm.engines.pyscf.library import lib
from qfarm_schemas.attempt import Failure
from qfarm_schemas.result import Result

ENERGY: Final = 1e-6  # eV
FORCES: Final = 1e-5  # eV/A
RATIOS: Final = 1e-5

REHEARSED: Final = 2
"""Cases of a rehearsal."""


@dataclass(frozen=True)
class Proof:
    """One comparison: largest differences (eV, eV/A), seconds, SCF iterations."""

    name: str
    atoms: int
    tier: str
    rung: str
    energy: float
    forces: float
    ratios: float
    cpu_seconds: float
    gpu_seconds: float
    cpu_iterations: int
    gpu_iterations: int
    version: str

    @property
    def agrees(self) -> bool:
        return self.energy < ENERGY and self.forces < FORCES and self.ratios < RATIOS

    @property
    def row(self) -> str:
        return (
            f"| {self.name} | {self.atoms} | {self.tier} | {self.rung} | {self.energy:.1e} "
            f"| {self.forces:.1e} | {self.ratios:.1e} | {self.cpu_iterations}/"
            f"{self.gpu_iterations} | {self.cpu_seconds:.2f} | {self.gpu_seconds:.2f} "
            f"| {self.cpu_seconds / self.gpu_seconds:.1f} | {'yes' if self.agrees else 'NO'} |"
        )


HEAD: Final = (
    "| fragment | atoms | basis | rung | dE, eV | dF, eV/A | d ratio | SCF | CPU, s | GPU, s "
    "| speed-up | agrees |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def prove(case: Case, device: Device, threads: int, repeats: int, tight: bool) -> Proof:
    """Compare one case; the GPU's time is the median of `repeats`."""
    job = case.job(threads, tight)
    with lib.with_omp_threads(threads):
        cpu, cpu_seconds = _timed(lambda: compute.compute(job))
        runs = [_timed(lambda: compute.compute(job, Twins(device))) for _ in range(repeats)]
    gpu = runs[0][0]
    return Proof(
        name=case.name,
        atoms=case.fragment.n_atoms,
        tier=case.tier,
        rung=case.rung,
        energy=abs(gpu.energy - cpu.energy),
        forces=float(np.abs(gpu.forces - cpu.forces).max()),
        ratios=float(np.abs(_ratios(gpu) - _ratios(cpu)).max()),
        cpu_seconds=cpu_seconds,
        gpu_seconds=statistics.median(seconds for _, seconds in runs),
        cpu_iterations=len(cpu.scf_trace),
        gpu_iterations=len(gpu.scf_trace),
        version=gpu.engine_version,
    )


def proofs(
    cases: Sequence[Case], device: Device, threads: int, repeats: int, tight: bool, until: float
) -> Iterator[Proof]:
    """Compare case by case; none begins after `until` on the monotonic clock."""
    for number, case in enumerate(cases):
        if time.monotonic() > until:
            left = ", ".join(f"{one.name} {one.tier}" for one in cases[number:])
            print(f"no time was left for: {left}", flush=True)
            return
        yield prove(case, device, threads, repeats, tight)


def _ratios(result: Result) -> np.ndarray:
    assert result.hirshfeld_ratios is not None
    return result.hirshfeld_ratios


def _timed(computed: Callable[[], Result | Failure]) -> tuple[Result, float]:
    began = time.perf_counter()
    outcome = computed()
    if isinstance(outcome, Failure):
        raise SystemExit(f"{outcome.kind}: {outcome.cause}\n{outcome.evidence}")
    return outcome, time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _asked(arguments)
    cases = CASES[:REHEARSED] if asked.rehearse else CASES
    until = time.monotonic() + asked.seconds
    device = _device(asked.rehearse)
    _timed(lambda: compute.compute(cases[0].job(asked.threads), Twins(device)))  # kernels are built
    print(f"{device.version()}; CPU: {asked.threads} threads\n\n{HEAD}", flush=True)
    found = []
    for proof in proofs(cases, device, asked.threads, asked.repeats, asked.tight, until):
        print(proof.row, flush=True)
        found.append(proof)
        if asked.out is not None:
            asked.out.write_text(json.dumps([asdict(one) for one in found], indent=1))
    if not found:
        return 2
    wrong = sum(not proof.agrees for proof in found)
    print(f"\n{len(found)} compared, {wrong} beyond {ENERGY:g} eV, {FORCES:g} eV/A")
    return int(wrong > 0)


def _device(rehearse: bool) -> Device:
    if not rehearse:
        return cuda.device()
    from support.gpu_on_cpu import Cpu

    return Cpu()


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="of the CPU engine")
    parser.add_argument("--repeats", type=int, default=3, help="of the GPU; the median counts")
    parser.add_argument("--seconds", type=float, default=500.0, help="begin nothing after them")
    parser.add_argument("--tight", action="store_true", help="converge both further")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, the small ones")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
