"""Why jobs are pending: what the scheduler says, and which jobs somebody has to look at."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from qfarm.config import Farm
from qfarm.costs.model import CostModel
from qfarm.store.fleet import Fleet, JobNote, JobState
from qfarm_launchers import roster as rosters
from qfarm_launchers.keeper import Keeper
from qfarm_launchers.roster import Roster
from qfarm_launchers.schedulers.base import Queued, QueueState
from qfarm_launchers.waiting import PATIENCE, Stuck, why_pending
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_workers.appraisal import Foresight
from support.build import WORKER
from support.engines import look_up
from support.memory_fleet import Lines, MemoryBatch, MemoryFleet

QOS = "QOSMaxJobsPerUserLimit"


def note(number: int, state: JobState = JobState.PENDING) -> JobNote:
    return JobNote(f"cpu-{number}", "cpu", state, scheduler_id=str(number))


def queued(
    number: int, reason: str = "", state: QueueState = QueueState.PENDING
) -> dict[str, Queued]:
    return {str(number): Queued(str(number), f"cpu-{number}", state, reason)}


def test_the_commonest_reason_is_told() -> None:
    notes = [note(n) for n in range(3)]
    queue = queued(0, "Priority") | queued(1, QOS) | queued(2, QOS)
    assert why_pending(notes, queue) == f"3 pending ({QOS})"


def test_without_a_reason_nothing_is_said() -> None:
    assert why_pending([], queued(0, QOS)) == ""
    assert why_pending([note(0), note(1)], queued(0)) == ""
    assert why_pending([note(0, JobState.RUNNING)], queued(0, QOS)) == ""
    assert why_pending([note(0)], queued(0, "Job run at 12:00", QueueState.RUNNING)) == ""


def test_a_held_job_without_a_reason() -> None:
    held = queued(0, "", QueueState.OTHER)
    assert why_pending([note(0)], held) == "1 pending (held, suspended or in error)"


def test_a_job_that_is_stuck_is_told_once_and_again_after_it_was_free() -> None:
    notes, stuck = [note(0), note(1)], Stuck()
    held = queued(0, "state Eqw", QueueState.OTHER) | queued(1, QOS)
    assert stuck.look(notes, held, 0.0) == ()
    assert stuck.look(notes, held, PATIENCE) == ()
    assert stuck.look(notes, held, PATIENCE + 1) == (("cpu-0", "state Eqw"),)
    assert stuck.look(notes, held, PATIENCE + 2) == ()
    assert stuck.look(notes, queued(0) | queued(1), PATIENCE + 3) == ()
    assert stuck.look(notes, held, PATIENCE + 4) == ()
    assert stuck.look(notes, held, 2 * PATIENCE + 5) == (("cpu-0", "state Eqw"),)


def test_a_launcher_leaves_word_of_it_and_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = Partition(name="cpu", scheduler="slurm", slots=1, max_jobs=2)
    farm = Farm(tmp_path, FarmConfig(partitions=(cpu,)))
    memory, batch, log = MemoryFleet(), MemoryBatch(), Lines()
    fleet, lines, now = cast(Fleet, memory), cast(Any, log), 1000.0
    monkeypatch.setattr(rosters.time, "monotonic", lambda: now)
    keeper = Keeper(farm, cpu, fleet, Roster(cpu, fleet, batch, lines), WORKER, lines)
    assert keeper.take(free=False)
    foresight = Foresight(CostModel(), look_up, farm.config)
    memory.ready = 1
    keeper.look((), foresight)
    batch.jobs["1"] = replace(batch.jobs["1"], reason=QOS)
    now += 20
    keeper.look((), foresight)
    keeper.look((), foresight)
    decided = "1 stage is ready; 0 running and 1 pending jobs will do"
    assert memory.standing("cpu").look["why"] == f"{decided}; 1 pending ({QOS})"
    batch.jobs["1"] = replace(batch.jobs["1"], state=QueueState.OTHER, reason="held by admin")
    for _ in range(3):
        now += PATIENCE
        keeper.look((), foresight)
    (said,) = log.of("stuck")
    (order,) = batch.orders
    assert (said["job"], said["why"]) == (order.name, "held by admin")
