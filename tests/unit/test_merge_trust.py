"""A workflow of a backup is taken only if it is whole: each way to forge one is refused."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from qfarm.plan import Plan, stage_key
from qfarm.store import histories
from qfarm.store.codec import encode
from qfarm.store.entry import Foreign
from qfarm.store.merge import made, theirs
from qfarm.store.merge.index import Parts
from qfarm.store.merge.source import Source
from qfarm.store.planned import workflow_documents
from qfarm.store.protocol import Claim, StageState
from qfarm_schemas.failure import FailureKind
from support.work import attempt_of, failed, plans, record_of, worker

PLAN = plans(1)[0]
Doc = dict[str, Any]


class Shelf:
    """Stands for the index of a backup."""

    def __init__(self, plan: Plan) -> None:
        fragment, stages = plan.fragment, plan.stages
        self.documents = {fragment.id: {"_id": fragment.id} | encode(fragment)}
        self.documents |= {stage.id: {"_id": stage.id} | encode(stage) for stage in stages}

    def content(self, _: str, identity: str) -> Doc | None:
        return self.documents.get(identity)


class File:
    """A backup of one workflow: its first stage failed once, then gave a record."""

    def __init__(self) -> None:
        self.shelf = Shelf(PLAN)
        (planned,) = workflow_documents([PLAN], 3, 1)
        self.fireworks = [self._copied(item) for item in planned.fireworks]
        self.fireworks[0]["state"], self.fireworks[1]["state"] = "COMPLETED", "READY"
        bad, good = _claim(1), _claim(2)
        failure = failed(FailureKind.SCF_NOT_CONVERGED)
        every = (attempt_of(bad, failure), attempt_of(good, continued_from=1))
        self.attempts = [histories.attempt_document(item, "token", 1) for item in every]
        self.records = [{"_id": good.key, "store": {}} | encode(record_of(good))]

    def read(self) -> theirs.Theirs | Foreign:
        parts = Parts(PLAN.key, self.fireworks, self.attempts, self.records)
        return theirs.read(parts, Source(self.shelf, 0))  # type: ignore[arg-type]

    @staticmethod
    def _copied(firework: Doc) -> Doc:
        spec = firework["spec"]
        return firework | {"spec": spec | {"qfarm": dict(spec["qfarm"])}}


def _claim(number: int) -> Claim:
    stage, fragment = PLAN.stages[0], PLAN.fragment
    key, now = stage_key(PLAN.key, stage.name), datetime.now(UTC)
    return Claim(key, PLAN.key, fragment, fragment, stage, (), number, "token", worker(), now)


def test_whole_workflow() -> None:
    found = File().read()
    assert isinstance(found, theirs.Theirs)
    assert found.plan == PLAN
    assert [stage.state for stage in found.stages] == [StageState.DONE, StageState.READY]
    assert [stage.priority for stage in found.stages] == [3, 3]
    assert [len(stage.attempts) for stage in found.stages] == [2, 0]


def spec(file: File, **fields: Any) -> None:
    file.fireworks[0]["spec"].update(fields)


def entry(file: File, **fields: Any) -> None:
    file.fireworks[0]["spec"]["qfarm"].update(fields)


def content(file: File, which: int, **fields: Any) -> None:
    list(file.shelf.documents.values())[which].update(fields)


def attempt(file: File, which: int, **fields: Any) -> None:
    file.attempts[which].update(fields)


def record(file: File, **fields: Any) -> None:
    file.records[0].update(fields)


def result(file: File, **fields: Any) -> None:
    file.records[0]["result"].update(fields)


def outside(file: File, named: object) -> None:
    """Forces that stand in the collection `arrays`, which the record names so."""
    result(file, forces=REFERENCE)
    record(file, arrays=[named])


NAN = {"dtype": "<f8", "shape": [3, 3], "data": b"\xff" * 72}
TWO_ATOMS = {"dtype": "<f8", "shape": [2, 3], "data": bytes(48)}
REFERENCE = {
    "dtype": "<f8",
    "shape": [2**20, 2**20],
    "form": "full",
    "sha256": "0" * 64,
    "bytes": 2**43,
    "chunks": 2**21,
}

FORGED: list[tuple[str, Callable[[File], object]]] = [
    ("RunStage alone", lambda f: spec(f, _tasks=[{"_fw_name": "ScriptTask", "script": "rm"}])),
    ("unknown keys", lambda f: spec(f, _launch_dir="/")),
    ("_category", lambda f: spec(f, _category="gpu")),
    ("key does not belong", lambda f: entry(f, key="w1.preopt")),
    ("level of theory that it names", lambda f: entry(f, level_id="l0")),
    ("is not in the store", lambda f: entry(f, fragment_id="f" + "0" * 64)),
    ("different fragments or stages", lambda f: entry(f, stage_ids=[PLAN.stages[0].id] * 2)),
    ("each once", lambda f: entry(f, position=1)),
    ("each once", lambda f: entry(f, position=[])),
    ("each once", lambda f: f.fireworks.append(f.fireworks[0])),
    ("different fragments or stages", lambda f: f.fireworks.pop()),
    ("was changed", lambda f: content(f, 0, charge=1)),
    ("was changed", lambda f: content(f, 1, max_force=1.0)),
    ("cannot be read", lambda f: content(f, 1, shell="rm")),
    ("not in the store", lambda f: f.shelf.documents.popitem()),
    ("cannot be read", lambda f: attempt(f, 0, shell="rm")),
    ("not numbered", lambda f: attempt(f, 0, number=3)),
    ("not numbered", lambda f: attempt(f, 0, number=2)),
    ("none of its stages", lambda f: attempt(f, 0, key=PLAN.key + ".other")),
    ("of something else", lambda f: attempt(f, 0, fragment_id="f0")),
    ("its record is missing", lambda f: f.records.clear()),
    ("cannot be read", lambda f: record(f, shell="rm")),
    ("none of its stages", lambda f: f.records.append({"key": PLAN.key + ".other"})),
    ("of something else", lambda f: record(f, charge=1)),
    ("another level", lambda f: record(f, level=encode(PLAN.stages[1].level))),
    ("one attempt that succeeded", lambda f: f.records[0]["provenance"].update(attempt=1)),
    ("one attempt that succeeded", lambda f: f.attempts.pop()),
    ("NaN", lambda f: result(f, forces=NAN)),
    ("NaN", lambda f: result(f, energy=float("nan"))),
    ("not of the atoms", lambda f: result(f, positions=TWO_ATOMS)),
    ("cannot be read", lambda f: result(f, forces=REFERENCE)),
    ("does not name them", lambda f: record(f, arrays=["0" * 64])),
    ("larger than all", lambda f: outside(f, "0" * 64)),
    ("arrays of record", lambda f: outside(f, {})),
]


@pytest.mark.parametrize(("reason", "forge"), FORGED)
def test_forged_workflow_is_left_out(reason: str, forge: Callable[[File], object]) -> None:
    file = File()
    forge(file)
    found = file.read()
    assert isinstance(found, Foreign), found
    assert reason in found.reason


def test_later_stage_that_was_tried_too_early() -> None:
    file = File()
    key = stage_key(PLAN.key, PLAN.stages[1].name)
    early = file.attempts[0] | {"key": key, "stage": PLAN.stages[1].name}
    file.attempts, file.records = [early], []
    file.fireworks[0]["state"] = "READY"
    found = file.read()
    assert isinstance(found, Foreign)
    assert "is not done" in found.reason


def test_documents_of_fireworks_bring_nothing_that_it_would_act_on() -> None:
    """Names, states and launches are made anew; a reason stays a text."""
    file = File()
    file.fireworks[1] |= {
        "state": "FIZZLED",
        "name": "theirs",
        "lease": {"token": "t"},
        "launches": [17],
        "failure": {"reason": {"$where": "x"}, "extra": 1},
        "updated_on": "yesterday",
    }
    found = file.read()
    assert isinstance(found, theirs.Theirs)
    (whole,) = made.whole([found], 101, iter(range(11, 99)), "origin")
    first, second = whole.fireworks
    assert (first["fw_id"], first["launches"], first["archived_launches"]) == (101, [12], [11])
    assert (second["launches"], second["archived_launches"]) == ([], [])
    assert "lease" not in second
    assert second["failure"] == {"reason": "{'$where': 'x'}", "remedy": ""}
    assert "theirs" not in second["name"]
    assert "yesterday" not in second["updated_on"]
    assert [item["launch_dir"] for item in whole.histories.launches] == ["", ""]
    assert whole.workflow["fw_states"] == {"101": "COMPLETED", "102": "FIZZLED"}
    assert whole.workflow["state"] == "FIZZLED"


def test_failed_stage_says_why_and_does_nothing_to_a_terminal() -> None:
    file = File()
    file.fireworks[1] |= {"state": "FIZZLED"}
    found = file.read()
    assert isinstance(found, theirs.Theirs)
    assert "farm that it comes from" in (found.stages[1].failure or {})["reason"]
    file.fireworks[1] |= {"failure": {"reason": "no\x1b[2Jrung\nis left", "remedy": "r"}}
    found = file.read()
    assert isinstance(found, theirs.Theirs)
    assert found.stages[1].failure == {"reason": "no?[2Jrung\nis left", "remedy": "r"}
