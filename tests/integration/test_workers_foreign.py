"""What someone with a submitter's rights plants in the queue never runs in a worker."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fireworks import FiretaskBase, Firework, PyTask, ScriptTask, Workflow
from pymongo import MongoClient
from pymongo.database import Database

from qfarm.store import contents, open_store
from qfarm.store.entry import RUN_STAGE
from qfarm.store.protocol import Selection, StageState, Store
from qfarm_schemas.attempt import Failure
from qfarm_schemas.level import LevelOfTheory
from qfarm_workers import log
from qfarm_workers.process import EngineProcess
from support import build
from support.engines import stage
from support.loops import Farm
from support.roles import addresses
from support.work import plans

__all__ = ["addresses"]

Addresses = Mapping[str, str]
Raw = Database[dict[str, Any]]


@pytest.fixture
def planter(addresses: Addresses, database: str) -> Iterator[Raw]:
    """The database as a submitter can write it with any tool."""
    with MongoClient[dict[str, Any]](addresses["submitter"]) as client:
        yield client[database]


@pytest.fixture
def submitter(addresses: Addresses, database: str) -> Iterator[Store]:
    with open_store(addresses["submitter"], database) as store:
        yield store


@pytest.fixture
def worker(
    addresses: Addresses, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Farm]:
    """Real pull loops with real engine processes, signed in with the role of a worker."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with (
        open_store(addresses["worker"], database) as store,
        EngineProcess(tmp_path / "scratch", threads=1) as process,
        log.to_file(tmp_path / "log.jsonl") as lines,
    ):
        yield Farm(store, tmp_path, process, lines)


def insert(planter: Raw, number: int, *tasks: Any) -> None:
    """Put a workflow in as FireWorks itself writes it."""
    plain = [task.to_dict() if isinstance(task, FiretaskBase) else task for task in tasks]
    firework = Firework([], name="foreign", fw_id=number, state="READY")
    planter["workflows"].insert_one(Workflow([firework]).to_db_dict())
    planter["fireworks"].insert_one(firework.to_db_dict() | {"spec": {"_tasks": plain}})


def test_tasks_of_fireworks_never_run(
    planter: Raw, submitter: Store, worker: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, folder = worker.folder / "ran", worker.folder
    (folder / "planted.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef run(): pass\n")
    monkeypatch.syspath_prepend(folder)
    script = ScriptTask.from_str(f"touch {marker}")
    insert(planter, 901, script)
    insert(planter, 902, PyTask(func="planted.run"))
    insert(planter, 903, {"_fw_name": RUN_STAGE}, script)
    insert(planter, 904, {"_fw_name": "{{planted.Task}}"})
    submitter.add(plans(1, stage("good")))
    assert worker.work() == 1, "the one of ours is computed all the same"
    assert not marker.exists()
    assert "planted" not in sys.modules
    refusals = {refusal.fw_id: refusal.reason for refusal in submitter.refusals()}
    assert sorted(refusals) == [901, 902, 903, 904]
    assert all("RunStage alone" in reason for reason in refusals.values())
    assert {item["state"] for item in planter["fireworks"].find({"fw_id": {"$gt": 900}})} == {
        "FIZZLED"
    }
    assert "refused" in (folder / "log.jsonl").read_text()
    (row,) = submitter.rows(Selection())
    assert row.state is StageState.DONE


def test_an_engine_that_there_is_not_ends_the_stage(submitter: Store, worker: Farm) -> None:
    """The engine's name is looked up in qfarm's own table; nothing is imported or started."""
    marker = worker.folder / "ran"
    level = LevelOfTheory(engine="os", method=f"system:touch {marker}", dispersion="none")
    (plan,) = plans(1, build.stage(level=level))
    submitter.add([plan])
    assert worker.work() > 0
    assert not marker.exists()
    (row,) = submitter.rows(Selection())
    assert row.state is StageState.FAILED
    assert "no engine 'os'" in row.reason
    outcomes = worker.outcomes(plan.fragment.id)
    assert all(isinstance(outcome, Failure) for outcome in outcomes)


def test_no_command_line_comes_from_the_database(
    planter: Raw, submitter: Store, worker: Farm, tmp_path: Path
) -> None:
    """Neither an entry nor a stage may hold one; that of a program is in qfarm.toml alone."""
    marker = tmp_path / "ran"
    own = stage("good")
    (plan,) = plans(1, own)
    foul = {"command": f"touch {marker}", "prologue": [f"touch {marker}"]}
    encoded = contents.encode(own)
    planter["stages"].insert_one({"_id": own.id} | encoded | foul)
    submitter.add([plan])
    assert worker.work() == 0
    (refusal,) = submitter.refusals()
    assert "stage" in refusal.reason
    assert "command" in refusal.reason
    submitter.add(plans(1, stage("good", name="second"), first=1))
    changed = {f"spec.qfarm.{name}": value for name, value in foul.items()}
    planter["fireworks"].update_one({"state": "READY"}, {"$set": changed})
    assert worker.work() == 0
    assert "command" in submitter.refusals()[1].reason
    assert not marker.exists()
