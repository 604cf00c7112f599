"""The work of the benchmark: ethanol a million times, each a little different, and its results."""

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from pydantic import BaseModel

from qfarm.plan import Plan, workflow_key
from qfarm.store.protocol import Claim
from qfarm_schemas.attempt import Attempt, Cost, Rung, Success, Worker
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Provenance, Record
from qfarm_schemas.result import Convergence, Result, ScfIteration

GFN2 = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic")
PBE0 = LevelOfTheory(engine="pyscf", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="tight")
WORKER = Worker(name="w0", host="node1", pid=4711, started=datetime(2026, 1, 1, tzinfo=UTC))
LEASE = 3600.0

NUMBERS = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
POSITIONS = np.array(
    [
        (1.169, -0.407, 0.000),
        (0.000, 0.560, 0.000),
        (-1.190, -0.215, 0.000),
        (-1.947, 0.382, 0.000),
        (2.118, 0.136, 0.000),
        (1.131, -1.045, 0.886),
        (1.131, -1.045, -0.886),
        (0.050, 1.207, 0.886),
        (0.050, 1.207, -0.886),
    ]
)
N_ATOMS = len(NUMBERS)
STEP = 1e-8
"""A: by so much one fragment differs from the next; the id resolves 1e-10 A."""


def fragment(index: int) -> Fragment:
    """Ethanol, its first atom moved a little."""
    positions = POSITIONS.copy()
    positions[0, 0] += STEP * index
    return Fragment(
        numbers=NUMBERS,
        positions=positions,
        fragment_class="alcohol",
        tags=("bench",),
        source=f"ethanol.extxyz#{index}",
    )


@cache
def stages(partition: str | None = None) -> tuple[Stage, ...]:
    """Optimisation by GFN2-xTB, then PBE0+MBD."""
    relax = Stage(
        name="preopt",
        task=TaskKind.OPTIMISATION,
        level=GFN2,
        max_force=0.01,
        partition=partition,
    )
    point = Stage(name="single_point", task=TaskKind.SINGLE_POINT, level=PBE0, partition=partition)
    return relax, point


def plans(count: int, first: int = 0, partition: str | None = None) -> list[Plan]:
    """So many two-stage workflows."""
    chain = stages(partition)
    made = (fragment(index) for index in range(first, first + count))
    return [Plan(workflow_key(item, chain), item, chain) for item in made]


@cache
def _result() -> Result:
    random = np.random.default_rng(1)
    iterations = tuple(
        ScfIteration(energy=-4218.5, energy_change=10.0**-n, density_change=10.0**-n)
        for n in range(10)
    )
    return Result(
        numbers=NUMBERS,
        positions=POSITIONS,
        energy=-4218.6,
        energy_parts={"PBE0": -4218.5, "MBD": -0.1},
        forces=random.normal(size=(N_ATOMS, 3)),
        dipole=[0.0, 0.0, 0.39],
        charges={"hirshfeld": random.normal(size=N_ATOMS), "mulliken": random.normal(size=N_ATOMS)},
        hirshfeld_ratios=random.random(N_ATOMS),
        homo=-9.0,
        lumo=1.5,
        convergence=Convergence(energy=1e-6, eigenvalues=1e-4, density=1e-6, forces=1e-5),
        scf_trace=iterations,
        engine_version="pyscf 2.9.0",
    )


@cache
def _attempt() -> Attempt:
    started = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    return Attempt(
        key="w.s",
        number=1,
        fragment_id="f",
        stage="s",
        level_id="l",
        rung=Rung(scf="diis"),
        worker=WORKER,
        started=started,
        finished=started + timedelta(seconds=1.5),
        cost=Cost(wall_seconds=1.5, cpu_seconds=1.4, peak_memory_mb=250.0),
        outcome=Success(),
        scf_trace=_result().scf_trace,
        engine_version="pyscf 2.9.0",
    )


@cache
def _record() -> Record:
    return Record(
        key="w.s",
        fragment_id="f",
        fragment_class="alcohol",
        tags=("bench",),
        source="ethanol.extxyz#0",
        stage="s",
        level=PBE0,
        charge=0,
        multiplicity=1,
        result=_result(),
        provenance=Provenance(
            attempt=1,
            rung=Rung(scf="diis"),
            host="node1",
            partition="local",
            qfarm_version="0",
            finished=datetime(2026, 1, 1, tzinfo=UTC),
            cost=Cost(wall_seconds=1.5, cpu_seconds=1.4),
        ),
    )


def outcome(claim: Claim) -> tuple[Attempt, Record]:
    """What a worker would commit; copied without validation, which is not the store's work."""
    same = {"key": claim.key, "fragment_id": claim.submitted.id, "stage": claim.stage.name}
    level = claim.stage.level
    attempt = same | {"number": claim.number, "level_id": level.id, "worker": claim.worker}
    return (
        BaseModel.model_copy(_attempt(), update=attempt),
        BaseModel.model_copy(_record(), update=same | {"level": level}),
    )
