"""The gpu4pyscf engine where there is no GPU: the same code, its device PySCF on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np

from qfarm.engines.gpu4pyscf import Gpu4pyscfEngine, compute
from qfarm.engines.pyscf import properties
from qfarm.engines.pyscf.convergence import FloatArray
from qfarm.engines.pyscf.library import dft


class Cpu:
    """A device whose memory is the host's."""

    def twin(self, solver: Any) -> Any:
        twin = solver.copy()
        twin.grids = dft.gen_grid.Grids(solver.mol)
        return twin

    def guess(self, density: Any) -> Any:
        return density

    def there(self, array: FloatArray) -> Any:
        return np.array(array)

    def back(self, value: Any) -> FloatArray:
        return np.array(value)

    def version(self) -> str:
        return f"no GPU, {properties.version()}"


class OnCpu(Gpu4pyscfEngine):
    """The engine, its child process without a GPU."""

    module = "support.gpu_on_cpu"


def main(folder: Path) -> None:
    """Compute as `qfarm.engines.gpu4pyscf.compute.main` does."""
    compute.main_on(folder, Cpu())
