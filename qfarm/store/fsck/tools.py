"""What cures need from outside: the time, spare ids, and the plan that a workflow was made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId

from qfarm.plan import Plan
from qfarm.store import documents
from qfarm.store.connection import Document
from qfarm.store.fsck.changes import Aside, Change, Update
from qfarm.store.fsck.model import Facts, Finding, Group, Stage, archived, current
from qfarm.store.histories import RECORDS
from qfarm.store.ready import PASSING


@dataclass(frozen=True)
class Tools:
    """What cures need from outside.

    Attributes
    ----------
    facts : Facts
        As the checks get them.
    plan : callable
        Plan of a workflow, from the ids of its fragment and stages; None if one cannot be read.
    launch_ids, fw_ids : iterator of int
        Ids that nobody has.
    """

    facts: Facts
    plan: Callable[[str, str, list[str]], Plan | None]
    launch_ids: Iterator[int]
    fw_ids: Iterator[int]

    @property
    def now(self) -> datetime:
        """By the database's clock."""
        return self.facts.now


Repair = Callable[[Group, Finding, Tools], list[Change]]
"""Changes that cure a finding; none when it cannot be cured."""


def new_id() -> ObjectId:
    """``_id`` of a new document."""
    return ObjectId()


def stage_of(group: Group, finding: Finding) -> Stage:
    """The stage that a finding is about."""
    return next(stage for stage in group.stages if stage.key == finding.where)


def predecessor_done(group: Group, stage: Stage) -> bool:
    """Whether the stage before is done, or there is none."""
    before = stage.entry["position"] - 1
    return before < 0 or any(
        other.entry["position"] == before and other.state == "COMPLETED" for other in group.stages
    )


def move(stage: Stage, state: str, tools: Tools, **fields: object) -> Update:
    """Put a firework into a state in which it does not run."""
    changes: Document = {"state": state, "updated_on": documents.iso(tools.now)} | fields
    gone = {"lease", "hold"}
    gone |= {"failure"} if state != "FIZZLED" else set()
    gone |= set(PASSING) if state != "READY" else set()
    return Update("fireworks", stage.document["_id"], changes, tuple(sorted(gone)))


def start_over(group: Group, stage: Stage, tools: Tools) -> Update:
    """Make a stage ready again, or let it wait for the one before; budgets are kept."""
    state = "READY" if predecessor_done(group, stage) else "WAITING"
    return move(stage, state, tools, **set_aside(stage))


def set_aside(stage: Stage) -> Document:
    """Fields that put all launches of a stage aside."""
    every = set(current(stage.document)) | set(archived(stage.document))
    return {"launches": [], "archived_launches": sorted(every)}


def drop_record(stage: Stage, reason: str) -> Change:
    """Move the record of a stage aside."""
    return Aside(RECORDS, stage.key, reason)
