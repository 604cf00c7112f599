"""Rows and views as a store gives them."""

from datetime import timedelta
from typing import Any

import numpy as np

from qfarm.store.protocol import Row, StageState, View
from qfarm_schemas.attempt import Attempt, Cost, Failure, Rung
from qfarm_schemas.check import Check
from qfarm_schemas.config import TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.record import Provenance, Record
from qfarm_schemas.result import OptimisationStep, ScfIteration
from support.build import NOW, PBE0, WATER, attempt, result, stage
from support.work import GFN2

PREOPT, SINGLE_POINT = "w1.preopt", "w1.single_point"

TRACE = [
    {"energy": -76.0 * 27.2 - change, "energy_change": change, "density_change": change / 10}
    for change in (1.0, 1e-2, 1e-4)
]

CAUSE = "every rung was tried (diis, newton); the last said: no convergence after 60 iterations"


def row(**fields: Any) -> Row:
    base: dict[str, Any] = {
        "fragment_id": WATER.id,
        "fragment_class": "dimer",
        "formula": "H2O",
        "n_atoms": 3,
        "tags": ("s22", "[red]"),
        "workflow": "w1",
        "key": SINGLE_POINT,
        "stage": "single_point",
        "position": 1,
        "level_id": PBE0.id,
        "state": StageState.READY,
        "attempts": 0,
        "updated": NOW,
    }
    return Row(**(base | fields))


def record(key: str = SINGLE_POINT, **fields: Any) -> Record:
    return Record(
        key=key,
        fragment_id=WATER.id,
        fragment_class="dimer",
        stage=key.split(".")[1],
        level=PBE0,
        charge=0,
        multiplicity=1,
        result=result(engine_version="pyscf 2", notes=("a note",), **fields),
        provenance=Provenance(
            attempt=1,
            rung=Rung(),
            host="node1",
            partition="local",
            qfarm_version="0",
            finished=NOW,
            cost=Cost(),
        ),
    )


def done_preopt() -> Attempt:
    steps = [
        OptimisationStep(energy=-5.0 - i, max_force=f) for i, f in enumerate((1.0, 0.1, 0.005))
    ]
    return attempt(key=PREOPT, stage="preopt", optimisation_trace=steps)


def failed(number: int, rung: str) -> Attempt:
    outcome = Failure(
        kind=FailureKind.SCF_NOT_CONVERGED,
        cause="no convergence after 60 iterations",
        evidence={"scf_trace": TRACE, "last energy": -2067.2},
        remedy="Check the multiplicity.",
    )
    check = Check(name="SCF density change", required="<= 1e-05 e", found="1e-04 e", passed=False)
    cost = Cost(wall_seconds=75.0, cpu_seconds=70.0, peak_memory_mb=512.4)
    return attempt(outcome, number, rung=Rung(scf=rung), cost=cost, checks=(check,))


def view_of_failed() -> View:
    """Optimised, then two failed attempts at the single point."""
    moved = WATER.positions + np.array([0.0, 0.0, 5.0])
    moved[1, 1] += 0.3
    return View(
        fragment=WATER,
        rows=(
            row(key=PREOPT, stage="preopt", position=0, state=StageState.DONE, attempts=1),
            row(state=StageState.FAILED, attempts=2, reason=CAUSE, remedy="Check the spin."),
        ),
        stages={
            PREOPT: stage(TaskKind.OPTIMISATION, name="preopt", level=GFN2),
            SINGLE_POINT: stage(),
        },
        attempts={
            PREOPT: (done_preopt(),),
            SINGLE_POINT: (failed(1, "diis"), failed(2, "newton")),
        },
        records={PREOPT: record(PREOPT, positions=moved)},
    )


def view_of_done() -> View:
    trace = tuple(ScfIteration.model_validate(line) for line in TRACE)
    return View(
        fragment=WATER,
        rows=(row(state=StageState.DONE, attempts=1, updated=NOW + timedelta(hours=1)),),
        stages={SINGLE_POINT: stage()},
        attempts={SINGLE_POINT: (attempt(scf_trace=trace),)},
        records={SINGLE_POINT: record()},
    )
