"""PySCF, imported without the user's configuration; the only module that imports it.

At import PySCF executes the first file it finds of ``PYSCF_CONFIG_FILE``, ``.pyscf_conf.py`` in
the current folder and ``~/.pyscf_conf.py`` (pyscf/__config__.py), which may change any default:
grids, cutoffs, tolerances. Two hosts would then give two numbers for one level of theory, so the
first of these names an empty file here, and variables that set defaults are out of sight.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CONFIGURATION: Final = Path(__file__).with_name("configuration.py")


@contextmanager
def _pinned() -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in list(os.environ) if name in _READ}
    os.environ["PYSCF_CONFIG_FILE"] = str(CONFIGURATION)
    try:
        yield
    finally:
        del os.environ["PYSCF_CONFIG_FILE"]
        os.environ.update(before)


_READ: Final = frozenset({"PYSCF_CONFIG_FILE", "PYSCF_ARGPARSE", "PYSCF_MAX_MEMORY"})

with _pinned():
    import pyscf
    from pyscf import dft, gto, lib
    from pyscf.data import elements
    from pyscf.scf import atom_ks

__all__ = ["atom_ks", "dft", "elements", "gto", "lib", "pyscf"]
