"""How each engine is set up, in the words that the user types."""

import shlex
import sys
from collections.abc import Mapping
from typing import Final

from qfarm import sites
from qfarm.config import FILE
from qfarm.engines.base import Engine
from qfarm_schemas.config import Partition

WHEELS: Final[Mapping[str, str]] = {
    "gpu4pyscf": "gpu4pyscf-cuda12x>=1.9",
    "pyscf": "pyscf>=2.9",
    "tblite": "tblite>=0.4",
}
"""What pip installs for the engines that are Python libraries."""

MORE: Final[Mapping[str, str]] = {
    "gpu4pyscf": """
where `nvidia-smi` shows a GPU and CUDA 12; gpu4pyscf-cuda11x or gpu4pyscf-cuda13x for 11 or 13. It
computes levels of pyscf in partitions with
[partitions.engines.pyscf]
by = "gpu4pyscf\"""",
}
"""What else there is to know of them."""

LINES: Final[Mapping[str, str]] = {
    "aims": """[engines.aims]
command = "mpirun -n {ranks} /path/to/aims.x"  # your build of FHI-aims
ranks = 4
parameters = "/path/to/species_defaults/defaults_2020"
# prologue = ["module load ..."]  # when it needs modules""",
    "dftbplus": """[engines.dftbplus]
command = "/path/to/dftb+"  # conda-forge: conda install dftbplus
parameters = "/path/to/3ob-3-1"  # folder of the .skf files, from dftb.org
# prologue = ["module load ..."]  # when it needs modules""",
}
"""Tables of ``qfarm.toml`` for programs that the site brings."""


def cure_of(engine: Engine, partition: Partition, command: str | None, there: bool) -> str:
    """How to bring an engine that is not there.

    Parameters
    ----------
    engine : Engine
        What is not there.
    partition : Partition
        Whose workers do not find it.
    command : str or None
        The launch line that was set.
    there : bool
        Whether ``qfarm.toml`` has a table for the engine.
    """
    if engine.name in WHEELS:
        pip = f"{shlex.quote(sys.executable)} -m pip install '{WHEELS[engine.name]}'"
        return f"{pip}{MORE.get(engine.name, '')}"
    if command is None:
        return _lines(engine.name, sites.table(engine.name, partition), there)
    return (
        f"Correct in {FILE}, in the table {sites.table(engine.name, partition)}, the line\n"
        f'command = "{command}"\n'
        "If the file is there, make it executable (chmod +x FILE); else write its full path, or "
        "put it on PATH there, for instance by\n"
        f'prologue = ["module load {engine.name}"]'
    )


def _lines(name: str, table: str, there: bool) -> str:
    """What to write; without the heading when the table is `there`, which TOML allows once."""
    heading, _, rest = LINES.get(name, f'[engines.{name}]\ncommand = "..."').partition("\n")
    if there:
        return f"Write into {FILE}, in the table {table}, what of this is not there yet:\n{rest}"
    return f"Write into {FILE}:\n{heading}\n{rest}"
