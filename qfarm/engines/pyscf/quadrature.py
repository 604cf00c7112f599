"""Quadrature: PySCF's numerical integration in blocks of one size."""

from collections.abc import Iterator
from typing import Any, Final

from qfarm.engines.pyscf.library import dft

BLOCK_MB: Final = 100
"""MB: basis functions and their derivatives on one block of grid points. PySCF takes 2000 whatever
memory it is told, which is most of what a small molecule needs, and slower: the block leaves the
cache and each of its pages is new. docs/adr/0002-pyscf-basis-and-thresholds.md has the figures."""


class Quadrature(dft.numint.NumInt):  # type: ignore[misc]
    """PySCF's integrator, whose blocks depend on the molecule alone.

    PySCF sizes them by the memory that happens to be free, so that the last digits of the energy
    would depend on what the process did before.
    """

    def block_loop(
        self,
        mol: Any,
        grids: Any,
        nao: int | None = None,
        deriv: int = 0,
        max_memory: float = BLOCK_MB,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Yield the blocks; `max_memory` is not heeded."""
        yield from super().block_loop(mol, grids, nao, deriv, BLOCK_MB, **kwargs)
