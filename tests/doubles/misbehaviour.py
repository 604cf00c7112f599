"""Misbehaviour by a plan: the JSON file that the environment variable DOUBLE_PLAN names.

The plan is a list of rules; the first that matches a run and still has runs to spoil counts::

    [{"match": {"elements": ["P"], "control": "many_body_dispersion"},
      "first": 2, "do": "crash-signal 9"}]

match : n_atoms (a number, or [least, most]), formula (Hill), elements (all of them are there),
    charge, program ("aims" or "dftbplus"), control (regular expression on the input text).
first : so many runs of each geometry; without it, every run. They are counted by files beside
    the plan, so that processes at the same time do not count twice.
do : a name of `TABLE`, with its argument after a blank.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.data import chemical_symbols

from doubles import physics
from doubles.answer import Answer
from doubles.physics import Molecule

VARIABLE: Final = "DOUBLE_PLAN"

OUT_OF_MEMORY: Final = (
    "slurmstepd: error: Detected 1 oom_kill event in StepId=4711.0. "
    "Some of the step tasks have been OOM Killed.\n"
)


@dataclass(frozen=True)
class Act:
    """What one run does; the default is to do everything right.

    Attributes
    ----------
    molecule, answer : callable
        Applied to the geometry before, and to the numbers after the calculation.
    cut : float or None
        Part of the output after which it ends.
    lines : int or None
        Lines of output after which it ends.
    code : int or None
        Exit code at the end in place of the program's; negative: the signal to die by.
    error : str
        Text on stderr.
    pause : float
        Seconds after each iteration.
    hang : float
        Seconds in the middle in which nothing is obeyed.
    ill_conditioned : bool
        Whether the overlap matrix is, unless the input overrides it.
    stale : bool
        Whether files of an older run stay and this one fails.
    """

    molecule: Callable[[Molecule], Molecule] = lambda molecule: molecule
    answer: Callable[[Answer], Answer] = lambda answer: answer
    cut: float | None = None
    lines: int | None = None
    code: int | None = None
    error: str = ""
    pause: float = 0.0
    hang: float = 0.0
    ill_conditioned: bool = False
    stale: bool = False


def _truncated(argument: str) -> Act:
    if "." in argument:
        return Act(cut=float(argument))
    return Act(lines=int(argument or 100))


def _with_nan(answer: Answer) -> Answer:
    forces = answer.forces.copy()
    forces[0, 0] = np.nan
    return replace(answer, forces=forces)


def _moved(molecule: Molecule) -> Molecule:
    positions = molecule.positions.copy()
    positions[0, 0] += 0.1
    return replace(molecule, positions=positions)


def _other_dispersion(answer: Answer, by: float) -> Answer:
    return replace(answer, dispersion=(answer.dispersion or 0.0) + by)


TABLE: Final[dict[str, Callable[[str], Act]]] = {
    "ok": lambda _: Act(),
    "scf-not-converged": lambda _: Act(answer=lambda a: replace(a, converged=False)),
    "small-gap": lambda _: Act(
        answer=lambda a: replace(a, converged=False, lumo=a.homo + 0.05),
    ),
    "crash-signal": lambda number: Act(cut=0.5, code=-int(number or 9)),
    "exit-code": lambda code: Act(code=int(code or 1)),
    "truncate": _truncated,
    "out-of-memory": lambda _: Act(cut=0.5, code=137, error=OUT_OF_MEMORY),
    "ill-conditioned": lambda _: Act(ill_conditioned=True),
    "hang": lambda seconds: Act(hang=float(seconds or 3600)),
    "slow": lambda seconds: Act(pause=float(seconds or 1)),
    "wrong-xc": lambda _: Act(answer=lambda a: replace(a, method="pbe")),
    "missing-force-row": lambda _: Act(
        answer=lambda a: replace(a, force_rows=a.force_rows - 1),
    ),
    "nan": lambda _: Act(answer=_with_nan),
    "stale-files": lambda _: Act(stale=True),
    "wrong-geometry": lambda _: Act(molecule=_moved),
    "mbd-off": lambda by: Act(answer=lambda a: _other_dispersion(a, float(by or 1e-5))),
}
"""Every misbehaviour by name; the argument comes as text, empty when there is none."""


def choose(program: str, text: str, molecule: Molecule) -> Act:
    """What this run has to do, by the plan; without a plan everything right."""
    named = os.environ.get(VARIABLE)
    if not named:
        return TABLE["ok"]("")
    plan = Path(named)
    for number, rule in enumerate(json.loads(plan.read_text())):
        if _matches(rule.get("match", {}), program, text, molecule) and _due(
            plan, f"{program}.{number}", rule.get("first"), molecule
        ):
            name, _, argument = rule["do"].partition(" ")
            return TABLE[name](argument)
    return TABLE["ok"]("")


def _matches(match: dict[str, Any], program: str, text: str, molecule: Molecule) -> bool:
    return all(_TESTS[name](wanted, program, text, molecule) for name, wanted in match.items())


def _size(wanted: int | list[int], molecule: Molecule) -> bool:
    least, most = wanted if isinstance(wanted, list) else (wanted, wanted)
    return least <= len(molecule.numbers) <= most


_TESTS: Final[dict[str, Callable[[Any, str, str, Molecule], bool]]] = {
    "n_atoms": lambda wanted, _p, _t, molecule: _size(wanted, molecule),
    "formula": lambda wanted, _p, _t, molecule: physics.formula(molecule) == wanted,
    "elements": lambda wanted, _p, _t, molecule: (
        set(wanted) <= {chemical_symbols[z] for z in molecule.numbers}
    ),
    "charge": lambda wanted, _p, _t, molecule: molecule.charge == wanted,
    "program": lambda wanted, program, _t, _m: program == wanted,
    "control": lambda wanted, _p, text, _m: re.search(wanted, text, re.MULTILINE) is not None,
}


def _due(plan: Path, rule: str, first: int | None, molecule: Molecule) -> bool:
    """Whether this run is among the first of its geometry; counts it."""
    if first is None:
        return True
    geometry = np.round(molecule.positions, 4).tobytes() + molecule.numbers.tobytes()
    counted = plan.with_suffix(".counts")
    counted.mkdir(exist_ok=True)
    name = f"{rule}.{hashlib.sha256(geometry).hexdigest()[:16]}"
    return any(_created(counted / f"{name}.{run}") for run in range(first))


def _created(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
