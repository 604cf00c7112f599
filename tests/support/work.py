"""Work for a store: plans that differ, and how a worker ends its claims."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from qfarm.ladder import Done, GiveUp, Retry
from qfarm.plan import Plan, workflow_key
from qfarm.store.protocol import Claim, Store
from qfarm_schemas.attempt import Attempt, Failure, Outcome, Rung, Success, Worker
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Provenance, Record
from support.build import WATER, result, stage

GFN2 = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic")
PREOPT = stage(TaskKind.OPTIMISATION, name="preopt", level=GFN2, max_force=0.01)
SINGLE_POINT = stage()
LEASE = 60.0


def worker(name: str = "w0", partition: str = "local") -> Worker:
    started = datetime(2026, 1, 1, 12, 0, 0, 123457, tzinfo=UTC)
    return Worker(name=name, host="node1", pid=4711, started=started, partition=partition)


def water(index: int, **labels: Any) -> Fragment:
    """A water molecule stretched by `index` thousandths of an angstrom."""
    positions = np.array(WATER.positions)
    positions[0, 2] += 0.001 * index
    return Fragment(numbers=WATER.numbers, positions=positions, **labels)


def plan_of(fragment: Fragment, *stages: Stage) -> Plan:
    stages = stages or (PREOPT, SINGLE_POINT)
    return Plan(workflow_key(fragment, stages), fragment, stages)


def plans(count: int, *stages: Stage, first: int = 0) -> list[Plan]:
    return [plan_of(water(first + index), *stages) for index in range(count)]


def attempt_of(claim: Claim, outcome: Outcome | None = None, **fields: Any) -> Attempt:
    started = datetime(2026, 1, 1, 12, 30, 0, 654321, tzinfo=UTC)
    base: dict[str, Any] = {
        "key": claim.key,
        "number": claim.number,
        "fragment_id": claim.submitted.id,
        "stage": claim.stage.name,
        "level_id": claim.stage.level.id,
        "rung": Rung(scf="diis"),
        "worker": claim.worker,
        "started": started,
        "finished": started + timedelta(seconds=1.000001),
        "outcome": outcome or Success(),
    }
    return Attempt(**(base | fields))


def record_of(claim: Claim, shift: float = 0.25) -> Record:
    """A record whose geometry is the start moved by `shift` along x."""
    positions = np.add(claim.start.positions, [shift, 0.0, 0.0])
    return Record(
        key=claim.key,
        fragment_id=claim.submitted.id,
        fragment_class=claim.submitted.fragment_class,
        tags=claim.submitted.tags,
        source=claim.submitted.source,
        stage=claim.stage.name,
        level=claim.stage.level,
        charge=claim.submitted.charge,
        multiplicity=claim.submitted.multiplicity,
        result=result(numbers=claim.submitted.numbers, positions=positions),
        provenance=Provenance(
            attempt=claim.number,
            rung=Rung(scf="diis"),
            host=claim.worker.host,
            partition=claim.worker.partition,
            qfarm_version="0",
            finished=datetime(2026, 1, 1, tzinfo=UTC),
            cost={},
        ),
    )


def take(store: Store, who: Worker | None = None, lease: float = LEASE) -> Claim:
    """Claim, and give the first sign of life, which shows it to FireWorks."""
    claim = store.claim(who or worker(), lease)
    assert isinstance(claim, Claim), claim
    assert store.heartbeat(claim, lease)
    return claim


def finish(store: Store, claim: Claim) -> None:
    store.commit(claim, attempt_of(claim), Done(), record_of(claim))


def fail(store: Store, claim: Claim, kind: FailureKind = FailureKind.SCF_NOT_CONVERGED) -> None:
    """Commit a failure that is worth another rung."""
    retry = Retry(Rung(scf="damping"))
    store.commit(claim, attempt_of(claim, failed(kind)), retry)


def give_up(store: Store, claim: Claim, reason: str = "no rung is left") -> None:
    failure = failed(FailureKind.SCF_NOT_CONVERGED)
    store.commit(claim, attempt_of(claim, failure), GiveUp(reason, "check the charge"))


def failed(kind: FailureKind) -> Failure:
    return Failure(kind=kind, cause="it failed", evidence={"iterations": 100}, remedy="cure it")


def work_off(store: Store, who: Worker | None = None) -> list[str]:
    """Claim and finish until nothing is ready; the keys in order."""
    keys = []
    while (claim := store.claim(who or worker(), LEASE)) is not None:
        assert isinstance(claim, Claim), claim
        finish(store, claim)
        keys.append(claim.key)
    return keys


def states(store: Store) -> dict[tuple[str, str], int]:
    """Counts as a plain dictionary."""
    return {(item.stage, item.state.value): item.count for item in store.counts()}


def keys_of(plans: Iterable[Plan], stage: str) -> list[str]:
    return [f"{plan.key}.{stage}" for plan in plans]
