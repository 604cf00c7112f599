"""FireWorks' documents, made by FireWorks' own classes so that lpad and its web page read them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from ase.formula import Formula
from ase.symbols import Symbols
from fireworks.core.firework import Firework, FWAction, Launch, Workflow
from fireworks.core.fworker import FWorker

from qfarm.plan import Plan, stage_key
from qfarm.store.connection import Document
from qfarm.store.entry import RUN_STAGE, Entry
from qfarm.store.protocol import StageState
from qfarm_schemas.attempt import Attempt, Failure, Worker
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment

STATES: Final[Mapping[str, StageState]] = {
    "WAITING": StageState.WAITING,
    "READY": StageState.READY,
    "RESERVED": StageState.RUNNING,
    "RUNNING": StageState.RUNNING,
    "OFFLINE": StageState.RUNNING,
    "COMPLETED": StageState.DONE,
    "FIZZLED": StageState.FAILED,
    "DEFUSED": StageState.CANCELLED,
    "PAUSED": StageState.CANCELLED,
    "ARCHIVED": StageState.CANCELLED,
}
"""FireWorks' states in the user's words; what FireWorks does not know counts as failed."""

SHORT: Final = 9
"""Characters of an id that names show."""


class WorkflowDocuments(NamedTuple):
    """A plan as it stands in the collections `workflows` and `fireworks`."""

    key: str
    workflow: Document
    fireworks: tuple[Document, ...]


class _Task:
    """Stands for the Firetask, which the store neither needs nor imports."""

    def to_dict(self) -> dict[str, str]:
        return {"_fw_name": RUN_STAGE}


def stage_state(state: object) -> StageState:
    """Stage state of what stands as the state of a firework."""
    return STATES.get(state, StageState.FAILED) if isinstance(state, str) else StageState.FAILED


def in_states(*states: StageState) -> Document:
    """Query of the fireworks in one of these stage states."""
    if StageState.FAILED not in states:
        return {"state": {"$in": [name for name, own in STATES.items() if own in states]}}
    return {"state": {"$nin": [name for name, own in STATES.items() if own not in states]}}


def formula(fragment: Fragment) -> str:
    """Chemical formula in Hill order."""
    return str(Formula.from_list(list(Symbols(fragment.numbers))).format("hill"))


def workflow_documents(plan: Plan, priority: int, first_id: int) -> WorkflowDocuments:
    """Documents of a plan; its fireworks get the ids from `first_id` on."""
    name = formula(plan.fragment)
    ids = range(first_id, first_id + len(plan.stages))
    fireworks = [
        Firework(
            [_Task()],
            spec=_spec(plan, position, name, priority),
            name=f"{name} {plan.stages[position].name}",
            fw_id=fw_id,
            state="READY" if position == 0 else "WAITING",
        )
        for position, fw_id in enumerate(ids)
    ]
    links = {fw_id: [fw_id + 1] for fw_id in ids[:-1]}
    title = f"{name} {plan.fragment.id[:SHORT]}"
    workflow = Workflow(fireworks, links, name=title, metadata=_metadata(plan, name))
    return WorkflowDocuments(
        plan.key, workflow.to_db_dict(), tuple(firework.to_db_dict() for firework in fireworks)
    )


def launch_running(launch_id: int, fw_id: int, worker: Worker, claimed: datetime) -> Document:
    """Launch of an attempt under way.

    `launch_dir` stays empty, because lpad can be told to delete that folder with all it holds;
    `ip` repeats the host, since FireWorks would ask the name service for an empty one.
    """
    launch = Launch(
        "RUNNING",
        launch_dir="",
        fworker=FWorker(name=worker.name, category=worker.partition),
        host=worker.host,
        ip=worker.host,
        state_history=[{"state": "RUNNING", "created_on": claimed, "updated_on": claimed}],
        launch_id=launch_id,
        fw_id=fw_id,
    )
    document: Document = launch.to_db_dict()
    return document


def launch_ended(state: str, begun: datetime, ended: datetime, data: Document) -> Document:
    """Update that ends a launch as COMPLETED or FIZZLED.

    Parameters
    ----------
    state : str
        FireWorks' state.
    begun, ended : datetime
        When it was claimed and committed, by the database's clock.
    data : dict
        Stored data of its action.
    """
    fields = {
        "state": state,
        "action": FWAction(stored_data=data).to_dict(),
        "time_end": iso(ended),
        "runtime_secs": (ended - begun).total_seconds(),
    }
    return {"$set": fields, "$push": {"state_history": {"state": state, "created_on": iso(ended)}}}


def outcome_data(attempt: Attempt) -> Document:
    """What FireWorks shows as the stored data of an attempt."""
    data: Document = {"attempt": attempt.number, "outcome": attempt.outcome.status}
    if isinstance(attempt.outcome, Failure):
        data["kind"] = attempt.outcome.kind.value
        data |= failure_data(attempt.outcome.cause, attempt.outcome.remedy)
    return data


def failure_data(cause: str, remedy: str = "") -> Document:
    """A failure where FireWorks' own tools look for it."""
    trace = f"{cause}\n{remedy}".strip()
    return {"_message": cause, "_exception": {"_stacktrace": trace, "_details": None}}


def workflow_state(links: Mapping[str, Sequence[int]], states: Mapping[int, str]) -> str:
    """State of a workflow by FireWorks' rule, from the states of its fireworks."""
    fireworks = [Firework([], fw_id=fw_id, state=state) for fw_id, state in states.items()]
    try:
        inside = {int(parent): list(children) for parent, children in links.items()}
        return str(Workflow(fireworks, inside).state)
    except (ValueError, TypeError, AttributeError):  # foreign: fireworks or links are missing
        return "FIZZLED"


def iso(time: datetime) -> str:
    """Time as FireWorks writes it; its web page needs the fraction of a second."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _spec(plan: Plan, position: int, name: str, priority: int) -> Document:
    stage = plan.stages[position]
    spec: Document = {"_priority": priority, "qfarm": _entry(plan, position, name)}
    return spec if stage.partition is None else spec | {"_category": stage.partition}


def _entry(plan: Plan, position: int, name: str) -> Document:
    stage, fragment = plan.stages[position], plan.fragment
    return Entry(
        key=stage_key(plan.key, stage.name),
        workflow=plan.key,
        fragment_id=fragment.id,
        stage_ids=_ids(plan.stages),
        position=position,
        stage=stage.name,
        level_id=stage.level.id,
        fragment_class=fragment.fragment_class,
        tags=fragment.tags,
        source=fragment.source,
        formula=name,
        n_atoms=fragment.n_atoms,
    ).model_dump()


def _metadata(plan: Plan, name: str) -> Document:
    return {
        "key": plan.key,
        "fragment_id": plan.fragment.id,
        "class": plan.fragment.fragment_class,
        "tags": list(plan.fragment.tags),
        "formula": name,
        "n_atoms": plan.fragment.n_atoms,
        "stages": [stage.name for stage in plan.stages],
        "methods": [stage.level.method for stage in plan.stages],
    }


def _ids(stages: Iterable[Stage]) -> tuple[str, ...]:
    return tuple(stage.id for stage in stages)
