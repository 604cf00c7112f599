"""One calculation in the child process: job in, result or failure out; never on the CPU alone."""

from pathlib import Path
from typing import Final

from qfarm.engines import inprocess
from qfarm.engines.base import Job
from qfarm.engines.gpu4pyscf import cuda
from qfarm.engines.gpu4pyscf.twin import Device, Twins
from qfarm.engines.pyscf import compute
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.result import Result


def main(folder: Path) -> None:
    """Compute the job in `folder` on a GPU and leave the outcome there."""
    try:
        device = cuda.device()
    except cuda.AbsentError as error:
        inprocess.save(folder, _absent(error))
        return
    main_on(folder, device)


def main_on(folder: Path, device: Device) -> None:
    """Compute the job in `folder` on `device` and leave the outcome there."""

    def computed(job: Job) -> Result | Failure:
        return _worded(compute.compute(job, Twins(device)))

    compute.main_by(folder, computed)


def _absent(error: cuda.AbsentError) -> Failure:
    return Failure(
        kind=FailureKind.ENGINE_MISSING,
        cause=str(error),
        evidence={"traceback": error.trace},
        remedy=REMEDY,
    )


def _worded(outcome: Result | Failure) -> Result | Failure:
    """Say of memory that it may be the GPU's."""
    if not isinstance(outcome, Failure) or outcome.kind is not FailureKind.OUT_OF_MEMORY:
        return outcome
    return outcome.model_copy(update={"remedy": f"{outcome.remedy} {_FEWER}"})


REMEDY: Final = (
    "Where workers of this partition run, `nvidia-smi` must show a GPU: the job must ask for it "
    "(gpus = 1 of the partition in qfarm.toml). Then install for its CUDA: "
    "pip install 'qfarm[gpu]' for CUDA 12, gpu4pyscf-cuda11x or gpu4pyscf-cuda13x for 11 or 13. "
    'Or leave out by = "gpu4pyscf", and the CPU computes.'
)

_FEWER: Final = (
    "If the GPU's own memory was short, let fewer slots share it: slots = gpus of the partition."
)
