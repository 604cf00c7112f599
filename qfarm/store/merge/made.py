"""Made: documents for this farm, from what another farm found out.

FireWorks' documents are made anew, as a submission and commits here would have made them; from the
other farm come attempts, records, states, priorities and times.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from qfarm.store import documents, histories, launches
from qfarm.store.connection import Document
from qfarm.store.histories import OWN
from qfarm.store.lease import Lease
from qfarm.store.merge.theirs import Found, History, Theirs
from qfarm.store.planned import WorkflowDocuments, workflow_documents
from qfarm.store.protocol import StageState
from qfarm_schemas.attempt import Attempt, Success

_NAMES: Final[Mapping[StageState, str]] = {
    StageState.DONE: "COMPLETED",
    StageState.FAILED: "FIZZLED",
    StageState.CANCELLED: "DEFUSED",
}


class Histories(NamedTuple):
    """Documents of attempts, of their launches, and of records."""

    attempts: list[Document]
    launches: list[Document]
    records: list[Document]


class Made(NamedTuple):
    """All documents of a workflow."""

    theirs: Theirs
    workflow: Document
    fireworks: list[Document]
    histories: Histories


def whole(
    every: Sequence[Theirs], first_id: int, numbers: Iterator[int], origin: str
) -> list[Made]:
    """Documents of workflows that are not known here.

    Parameters
    ----------
    every : sequence of Theirs
        The workflows there.
    first_id : int
        Their fireworks get the ids from this on.
    numbers : iterator of int
        New ids of launches, one for each attempt.
    origin : str
        Takes the place of the fencing tokens, which are of no use here.
    """
    planned = workflow_documents([theirs.plan for theirs in every], 0, first_id)
    pairs = zip(every, planned, strict=True)
    return [_made(theirs, documents_, numbers, origin) for theirs, documents_ in pairs]


def _made(theirs: Theirs, planned: WorkflowDocuments, numbers: Iterator[int], origin: str) -> Made:
    names = _state_names(theirs.stages)
    fireworks, made = [], Histories([], [], [])
    for stage, firework, name in zip(theirs.stages, planned.fireworks, names, strict=True):
        own = [next(numbers) for _ in stage.attempts]
        fireworks.append(_entered(firework, stage, name, own))
        _write_down(made, stage, firework["fw_id"], own, 0, origin)
    workflow = planned.workflow | {
        "state": documents.chain_state(names),
        "fw_states": {str(item["fw_id"]): item["state"] for item in fireworks},
    }
    return Made(theirs, workflow, fireworks, made)


def adopted(
    stage: Found, fw_id: int, numbers: Iterator[int], before: int, origin: str
) -> tuple[Histories, list[int]]:
    """Histories of a stage that is done there, for a firework here; and the ids of its launches.

    Parameters
    ----------
    stage : Found
        The stage there.
    fw_id : int
        The firework here.
    numbers : iterator of int
        New ids of launches.
    before : int
        Attempts that were made here, which keep their numbers.
    origin : str
        See `whole`.
    """
    own = [next(numbers) for _ in stage.attempts]
    made = Histories([], [], [])
    _write_down(made, stage, fw_id, own, before, origin)
    return made, own


def last_launch(stage: Found, numbers: Sequence[int]) -> list[int]:
    """Launches that FireWorks is to see the state of a stage by; the others are archived."""
    if stage.state is StageState.DONE:
        every = zip(stage.attempts, numbers, strict=True)
        good = [launch for history, launch in every if _succeeded(history.attempt)]
        return good[:1]
    return list(numbers[-1:]) if stage.state is StageState.FAILED else []


def _state_names(stages: Sequence[Found]) -> tuple[str, ...]:
    """FireWorks' states; what ran or waited there is ready as soon as the stage before is done."""
    before = (StageState.DONE, *(stage.state for stage in stages))
    return tuple(
        _NAMES.get(stage.state) or ("READY" if previous is StageState.DONE else "WAITING")
        for previous, stage in zip(before, stages, strict=False)
    )


def _entered(planned: Document, stage: Found, name: str, own: Sequence[int]) -> Document:
    """The firework of a stage, with its state and what counts for it."""
    since = min(stage.entry.since, len(own))
    entry = planned["spec"]["qfarm"] | {"attempts": len(own), "since": since}
    shown = last_launch(stage, own)
    firework = planned | {
        "spec": planned["spec"] | {"qfarm": entry, "_priority": stage.priority},
        "state": name,
        "launches": shown,
        "archived_launches": sorted(set(own) - set(shown)),
    }
    if stage.failure is not None:
        firework["failure"] = stage.failure
    if stage.updated is not None:
        firework["updated_on"] = documents.iso(stage.updated)
    return firework


def _write_down(
    made: Histories, stage: Found, fw_id: int, numbers: Sequence[int], before: int, origin: str
) -> None:
    for history, launch in zip(stage.attempts, numbers, strict=True):
        made.attempts.append(_attempt(history, before, launch, origin))
        made.launches.append(_launch(history.attempt, launch, fw_id, before))
    if stage.record is not None:
        made.records.append(_record(stage, fw_id, before))


def _attempt(history: History, before: int, launch: int, origin: str) -> Document:
    number = history.attempt.number + before
    content = {name: value for name, value in history.document.items() if name not in OWN}
    content["number"] = number
    if before and content.get("continued_from") is not None:
        content["continued_from"] += before
    own = {"_id": histories.attempt_id(history.attempt.key, number)}
    return own | content | {"store": {"token": origin, "launch": launch}}


def _record(stage: Found, fw_id: int, before: int) -> Document:
    record = dict(stage.record or {})
    provenance = record["provenance"]
    record["provenance"] = provenance | {"attempt": provenance["attempt"] + before}
    own = {
        "workflow": stage.entry.workflow,
        "fw_id": fw_id,
        "level_id": stage.entry.level_id,
        "committed": _committed(record.get("store"), stage),
    }
    return record | {"_id": stage.entry.key, "store": own}


def _committed(store: object, stage: Found) -> datetime:
    """When the record was committed there."""
    said = store.get("committed") if isinstance(store, Mapping) else None
    return said if isinstance(said, datetime) else stage.attempts[-1].attempt.finished


def _launch(attempt: Attempt, launch_id: int, fw_id: int, before: int) -> Document:
    """FireWorks' launch of an attempt, without all that it would act on."""
    lease = Lease.model_construct(  # of validated parts
        token="",
        worker=attempt.worker,
        seconds=0.0,
        number=attempt.number + before,
        launch=launch_id,
        claimed=attempt.started,
        expires=attempt.finished,
    )
    state = "COMPLETED" if _succeeded(attempt) else "FIZZLED"
    data = documents.outcome_data(attempt) | {"attempt": attempt.number + before}
    return launches.ended(fw_id, lease, state, attempt.finished, data)


def _succeeded(attempt: Attempt) -> bool:
    return isinstance(attempt.outcome, Success)
