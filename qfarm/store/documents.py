"""FireWorks' documents, made by FireWorks' own classes so that lpad and its web page read them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from fireworks.core.firework import Firework, Workflow

from qfarm.store.connection import Document
from qfarm.store.protocol import StageState
from qfarm_schemas.attempt import Attempt, Failure

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


def stage_state(state: object) -> StageState:
    """Stage state of what stands as the state of a firework."""
    return STATES.get(state, StageState.FAILED) if isinstance(state, str) else StageState.FAILED


def in_states(*states: StageState) -> Document:
    """Query of the fireworks in one of these stage states."""
    if StageState.FAILED not in states:
        return {"state": {"$in": [name for name, own in STATES.items() if own in states]}}
    return {"state": {"$nin": [name for name, own in STATES.items() if own not in states]}}


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


@lru_cache(maxsize=1024)
def chain_state(states: tuple[str, ...]) -> str:
    """State of a workflow of stages one after the other, by FireWorks' rule."""
    links = {str(position): [position + 1] for position in range(len(states) - 1)}
    return workflow_state(links, dict(enumerate(states)))


def iso(time: datetime) -> str:
    """Time as FireWorks writes it; its web page needs the fraction of a second."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")
