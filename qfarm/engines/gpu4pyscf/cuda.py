"""The GPU: the only module that imports CuPy and gpu4pyscf, and only when it is asked to.

An import of gpu4pyscf initialises CUDA, which no forked child can use after that. So the process
that forks must not do it: each attempt imports anew in its child, for some seconds.

What decides the number, with gpu4pyscf 1.9.0, so that it agrees with PySCF's within 1e-6 eV and
1e-5 eV/A (`tests/gpu/prove.py`):

================= ==========================================================================
grid              same tables, Treutler radii, NWChem pruning, Becke's partition with
                  Treutler's radii; no pruning by density (``small_rho_cutoff`` 0) in both
basis on the grid gpu4pyscf leaves out values below 1e-10; `SMALLEST` here
fitting           the same set by the same name, for Coulomb and exchange; Cholesky of the
                  metric, eigenvalues below 1e-7 left out when that fails, in both
three-centre      left out below 1e-14 (SCF), 1e-12 (nuclear attraction)
overlap           eigenvalues below 1e-6 left out, in both
precision         double throughout; gpu4pyscf has single precision only in its screening
gradient          with the answer of the fitting set, without that of the grid, in both
================= ==========================================================================

Neither library reads a user's configuration: `qfarm.engines.pyscf.library` is imported first.
"""

import traceback
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from qfarm.engines.pyscf.convergence import FloatArray
from qfarm.engines.pyscf.library import pyscf

SMALLEST: Final = 1e-12
"""Basis functions below this are left out at a grid point, e^(1/2) bohr^(-3/2)."""


class AbsentError(RuntimeError):
    """There is no GPU, or nothing that could use it; `trace` is the traceback."""

    def __init__(self, what: str, trace: str) -> None:
        super().__init__(what)
        self.trace = trace


@dataclass(frozen=True, eq=False)
class Cuda:
    """CuPy and gpu4pyscf, loaded, on the GPUs that ``CUDA_VISIBLE_DEVICES`` shows."""

    cupy: Any
    gpu4pyscf: Any

    def twin(self, solver: Any) -> Any:
        """Density-fitted Kohn-Sham object of gpu4pyscf like `solver`."""
        dft = self.gpu4pyscf.dft
        kind = dft.RKS if solver.mol.spin == 0 else dft.UKS
        twin = kind(solver.mol, xc=solver.xc).density_fit(auxbasis=solver.with_df.auxbasis)
        twin.small_rho_cutoff = 0
        return twin

    def guess(self, density: Any) -> Any:
        """Without the orbitals that PySCF hangs on it: gpu4pyscf wants them in its own shape."""
        return self.there(density)

    def there(self, array: FloatArray) -> Any:
        """Copy an array to the GPU."""
        return self.cupy.asarray(np.asarray(array), order="C")

    def back(self, value: Any) -> FloatArray:
        """Copy a number or an array to the host."""
        copied: FloatArray = self.cupy.asnumpy(value)
        return copied

    def version(self) -> str:
        """Libraries and GPU."""
        runtime, libxc = self.cupy.cuda.runtime, self.gpu4pyscf.dft.libxc
        count = int(runtime.getDeviceCount())
        name = runtime.getDeviceProperties(0)["name"].decode()
        gpus = name if count == 1 else f"{count} x {name}"
        return (
            f"gpu4pyscf {self.gpu4pyscf.__version__} on {gpus}, PySCF {pyscf.__version__}, "
            f"libxc {libxc.__version__}"
        )


def device() -> Cuda:
    """Load what computes on the GPU.

    Raises
    ------
    AbsentError
        gpu4pyscf or CuPy is not installed, or they find no GPU or no driver that suits them.
    """
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
        import gpu4pyscf
        from gpu4pyscf.dft import libxc, numint  # noqa: F401 - not loaded by the package itself
    except ImportError as error:
        what = f"gpu4pyscf cannot be loaded: {error}"
        raise AbsentError(what, traceback.format_exc(limit=-3)) from None
    except Exception as error:  # noqa: BLE001 - loading drivers may raise anything
        what = f"no GPU can be used: {error}"
        raise AbsentError(what, traceback.format_exc(limit=-3)) from None
    if count == 0:
        raise AbsentError("no GPU can be used: CUDA shows none", "")
    numint.AO_THRESHOLD = SMALLEST
    return Cuda(cupy, gpu4pyscf)
