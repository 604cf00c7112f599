"""The gpu4pyscf engine: levels of the engine pyscf, computed on a GPU in its place.

It has no levels of its own. A partition names it as the stand-in for pyscf, ::

    [partitions.engines.pyscf]
    by = "gpu4pyscf"

and records say ``engine = "pyscf"`` in their level, whoever has computed them; `engine_version` of
record and attempt tells which. So a stage may spill from a GPU partition to the CPU and back, and
the ladder of one reads the history of the other.

This module is pure and loads neither CuPy nor gpu4pyscf. In the child process `twin` runs SCF and
gradient on the device; all else is the code of `qfarm.engines.pyscf` on the converged density:
stability, Hirshfeld shares, MBD, dipole, matrices and the measures of convergence. The second-order
rung runs on the CPU, and closes on the GPU as all rungs do. `cuda` is all that is about the GPU.

`memory_mb` is of the host's memory; what the GPU holds, its slots share.
"""

from typing import Final

from qfarm.engines.pyscf import PyscfEngine
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory


class Gpu4pyscfEngine(PyscfEngine):
    """PBE0 (+ MBD@rsSCS) single points by gpu4pyscf in a child process, in place of pyscf."""

    name = "gpu4pyscf"
    module = "qfarm.engines.gpu4pyscf.compute"

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        """Refuse what pyscf refuses, and levels that name this engine."""
        if level.engine == self.name:
            return _OWN_LEVEL
        return super().refuse(fragment, level, task)


_OWN_LEVEL: Final = (
    "gpu4pyscf has no levels of its own, it computes those of pyscf: set engine = 'pyscf' in the "
    'level, and by = "gpu4pyscf" in [partitions.engines.pyscf] of the GPU partition'
)

ENGINE: Final = Gpu4pyscfEngine()
