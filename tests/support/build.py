"""Valid values for tests of the pure layers; each test changes the field it is about."""

from datetime import UTC, datetime, timedelta

import numpy as np

from qfarm_schemas.attempt import Attempt, Failure, Outcome, Rung, Success, Worker
from qfarm_schemas.config import Policy, Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Convergence, Result

NOW = datetime(2026, 1, 1, tzinfo=UTC)

WATER = Fragment(
    numbers=[8, 1, 1],
    positions=[[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]],
    fragment_class="dimer",
    source="water.xyz#1",
)

PBE0 = LevelOfTheory(engine="pyscf", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="tight")

WORKER = Worker(name="w0", host="node1", pid=4711, started=NOW)


def stage(task: TaskKind = TaskKind.SINGLE_POINT, **fields: object) -> Stage:
    return Stage(**({"name": "single_point", "task": task, "level": PBE0} | fields))


def result(**fields: object) -> Result:
    good: dict[str, object] = {
        "numbers": WATER.numbers,
        "positions": WATER.positions,
        "energy": -2077.5,
        "energy_parts": {"PBE0": -2077.4, "MBD": -0.1},
        "forces": np.full((3, 3), 0.001),
        "dipole": [0.0, 0.0, 0.39],
        "hirshfeld_ratios": [0.93, 0.56, 0.56],
        "homo": -9.0,
        "lumo": 1.5,
        "convergence": Convergence(energy=1e-6, eigenvalues=1e-4, density=1e-6, forces=1e-5),
    }
    return Result(**(good | fields))


def failure(kind: FailureKind, cause: str = "it failed") -> Failure:
    return Failure(kind=kind, cause=cause, remedy=f"cure {kind.value}")


def attempt(outcome: Outcome | None = None, number: int = 1, **fields: object) -> Attempt:
    base: dict[str, object] = {
        "key": "w1.single_point",
        "number": number,
        "fragment_id": WATER.id,
        "stage": "single_point",
        "level_id": PBE0.id,
        "rung": Rung(scf="diis"),
        "worker": WORKER,
        "started": NOW,
        "finished": NOW + timedelta(seconds=5),
        "outcome": outcome or Success(),
    }
    return Attempt(**(base | fields))


def history(*kinds: FailureKind) -> tuple[Attempt, ...]:
    return tuple(attempt(failure(kind), number) for number, kind in enumerate(kinds, start=1))


GENEROUS = Policy(chemistry=100, node=100, infrastructure=100)
