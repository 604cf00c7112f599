"""Write the packaged table of free atoms for the Hirshfeld partition.

    python tools/make_free_atoms.py [FILE]

A few seconds on one core. Run it when the elements, bases or functional below change, or when the
radial grid of `qfarm.engines.hirshfeld` does; a test recomputes some atoms and compares.
"""

import sys
from pathlib import Path
from typing import Final

import numpy as np
from ase.data import chemical_symbols

import qfarm.engines
from qfarm.engines.hirshfeld import TABLE, compute_free_atom, table_key

NUMBERS: Final = (*range(1, 21), 35)  # H to Ca, and Br: QCell's elements and neighbours
BASES: Final = ("def2-svp", "def2-tzvp")
FUNCTIONAL: Final = "pbe0"


def main(path: Path) -> None:
    """Compute every free atom and write the table to `path`."""
    table = {
        table_key(symbol, basis, FUNCTIONAL): compute_free_atom(symbol, basis, FUNCTIONAL).density
        for basis in BASES
        for symbol in (chemical_symbols[number] for number in NUMBERS)
    }
    np.savez_compressed(path, **table)  # type: ignore[arg-type]


if __name__ == "__main__":
    default = Path(qfarm.engines.__path__[0]) / TABLE
    main(Path(sys.argv[1]) if sys.argv[1:] else default)
