"""`prove` as tests, for ``pytest tests/gpu`` on a machine with a GPU; skipped elsewhere."""

import os
from importlib.util import find_spec

import pytest

from support.needs import need, need_gpu

need_gpu()
need(find_spec("gpu4pyscf"), "gpu4pyscf")

from gpu.cases import CASES, Case  # noqa: E402
from gpu.prove import prove  # noqa: E402
from qfarm.engines.gpu4pyscf import cuda  # noqa: E402

LARGEST = 13
"""Atoms; larger ones are for `prove` itself, for the CPU's sake."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.tier}-{case.rung}")
def test_the_gpu_gives_the_numbers_of_the_cpu(case: Case) -> None:
    if case.fragment.n_atoms > LARGEST:
        pytest.skip("takes minutes on the CPU")
    threads = len(os.sched_getaffinity(0))
    proof = prove(case, cuda.device(), threads, repeats=1, tight=False)
    assert proof.agrees, proof
    assert proof.version.startswith("gpu4pyscf ")
