"""The DFTB+ engine: DFTB3 with the 3ob-3-1 parameters and MBD, single points and optimisations.

The program (known to release 25.1 with libMBD 0.12.8) and the Slater-Koster files are the site's.
`hsd_input` writes the input, `stdout`, `tags`, `detailed` and `gen` read what the program leaves,
`output` makes the result, and `checks` says what it takes to believe it.

The two quantities of the verdict that DFTB+ prints:

- energy: the last entry of ``Diff electronic`` in the last SCC (`stdout.energy_change`).
- density: its ``SCC error``, the largest change of a charge, e.

It prints neither the change of the eigenvalue sum nor that of the forces, so a level must state
``thresholds.eigenvalues = "none"`` and ``thresholds.forces = "none"``.
"""

from collections.abc import Mapping
from typing import Final

from qfarm.costs.model import Start
from qfarm.engines.base import Command, EngineDefaults, Exit, Job, Parameters, Restart
from qfarm.engines.dftbplus import checks, costs, hsd_input, options, output
from qfarm.engines.dftbplus.parameters import slater_koster_files, symbols
from qfarm.engines.dftbplus.settings import LADDER
from qfarm.engines.endings import ending
from qfarm.engines.launch import launch
from qfarm.verdict import refused
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result


class DftbplusEngine(EngineDefaults):
    """DFTB+ as a program of the site."""

    name = "dftbplus"
    ladder = LADDER
    command = ("dftb+",)
    soft_stop = "stop_driver"
    restart = Restart(texts=(f"{hsd_input.PREFIX}.gen",))

    def parameters(self, fragment: Fragment, level: LevelOfTheory) -> Parameters:
        """Slater-Koster files of all pairs of elements, reached by a link."""
        names = slater_koster_files(symbols(fragment.numbers))
        return Parameters(names=names, linked=hsd_input.LINK)

    def basis_set(self, level: LevelOfTheory) -> None:
        """The parameters bring their basis."""

    def cost_size(self, level: LevelOfTheory, atoms: Mapping[int, int]) -> float:
        """Number of valence orbitals."""
        return float(costs.orbitals(atoms))

    def start_costs(self, level: LevelOfTheory, task: TaskKind) -> Start:
        """What a calculation costs on one core, as long as nothing was measured."""
        return costs.start(task)

    def refuse(self, fragment: Fragment, level: LevelOfTheory, task: TaskKind) -> str | None:
        """Why the engine cannot do this, naming the remedy; None when it can."""
        return options.refuse(fragment, level)

    def goes_on(self, job: Job) -> bool:
        """Whether the optimisation starts from the geometry that an earlier attempt left."""
        return hsd_input.left_geometry(job) is not None

    def write(self, job: Job) -> Mapping[str, str]:
        """Input files: one, geometry included."""
        return {hsd_input.NAME: hsd_input.text(job)}

    def run(self, job: Job) -> Command:
        """What to run in the folder that holds the input."""
        return launch(job, self.command)

    def parse(self, job: Job, files: Mapping[str, str], ended: Exit) -> Result | Failure:
        """Read the output; never raises.

        Of a run that did not end in order no number is read, for the files may be older than it.
        """
        found = output.read(job, files, ended)
        made = checks.run(found)
        outside = None if found.said.ended and ended.code == 0 else ending(files, ended)
        if outside and not found.said.error:
            seen = output.evidence(found) | outside.evidence
            return outside.model_copy(update={"checks": made, "evidence": seen})
        result = output.result(found) if checks.of_this_run(made) else None
        if result is None:
            return refused(made, output.evidence(found))
        return result.model_copy(update={"checks": made})


ENGINE: Final = DftbplusEngine()
