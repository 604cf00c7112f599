"""Queue entry: what qfarm writes into the spec of a firework, and whether one is qfarm's own.

The database is not trusted: others may write to the queue, and a Firetask is a call by name. A
worker therefore runs an entry only if it holds qfarm's one Firetask and nothing else, and if its
keys are the hashes of the fragment and of the stages that it refers to. Nothing that an entry
names is imported.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from pydantic import Field, StrictInt, StrictStr, ValidationError, model_validator

from qfarm.plan import stage_key, workflow_key
from qfarm_schemas.base import Model
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment

RUN_STAGE: Final = "{{qfarm_workers.firetask.RunStage}}"
"""FireWorks name of the Firetask, by explicit import path."""

TASKS: Final = [{"_fw_name": RUN_STAGE}]
"""All that the ``_tasks`` of an entry may hold."""

_SPEC_KEYS: Final = frozenset({"_tasks", "_priority", "_category", "qfarm"})
_WRITTEN_BY_FIREWORKS: Final = frozenset({"_exception_details"})  # after a failed import elsewhere
_HASH: Final = r"[0-9a-f]{64}$"


class Entry(Model):
    """``spec.qfarm`` of a firework.

    Attributes
    ----------
    key, workflow : str
        Stage key and workflow key.
    fragment_id : str
        The fragment.
    stage_ids : tuple of str
        Ids of all stages of the workflow, in order.
    position : int
        Which of them this is, from 0.
    stage, level_id, fragment_class, formula, n_atoms
        For queries.
    tags, source
        Labels of this submission.
    since : int
        Attempts up to this number do not count for the ladder any more.
    attempts : int
        Attempts committed so far, for lists.
    """

    key: StrictStr
    workflow: StrictStr = Field(pattern="^w" + _HASH)
    fragment_id: StrictStr = Field(pattern="^f" + _HASH)
    stage_ids: tuple[StrictStr, ...] = Field(min_length=1)
    position: StrictInt = Field(ge=0)
    stage: StrictStr
    level_id: StrictStr
    fragment_class: StrictStr
    tags: tuple[StrictStr, ...]
    source: StrictStr
    formula: StrictStr
    n_atoms: StrictInt
    since: StrictInt = Field(default=0, ge=0)
    attempts: StrictInt = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_place(self) -> Self:
        if self.position >= len(self.stage_ids):
            raise ValueError("position lies beyond the last stage")
        if self.key != stage_key(self.workflow, self.stage):
            raise ValueError("key does not belong to the workflow and stage")
        return self


class Foreign(NamedTuple):
    """Why a queue entry is not qfarm's own task."""

    reason: str


def read(spec: object) -> Entry | Foreign:
    """Take the entry out of a firework's spec, if it is qfarm's own and complete."""
    if not isinstance(spec, Mapping):
        return Foreign("spec is not a document")
    if spec.get("_tasks") != TASKS:
        return Foreign(f"_tasks holds {_names(spec.get('_tasks'))}, not qfarm's RunStage alone")
    strange = sorted(set(spec) - _SPEC_KEYS - _WRITTEN_BY_FIREWORKS)
    if strange:
        return Foreign(f"spec holds unknown keys: {', '.join(map(repr, strange))}")
    return parse(spec.get("qfarm"))


def of(spec: object) -> Entry | Foreign:
    """Take the entry out of a firework's spec, whatever stands beside it; nobody may run it."""
    return parse(spec.get("qfarm")) if isinstance(spec, Mapping) else Foreign("spec: no document")


def workflow_of(spec: object) -> str | None:
    """Workflow key in a firework's spec, however broken the rest is."""
    entry = spec.get("qfarm") if isinstance(spec, Mapping) else None
    key = entry.get("workflow") if isinstance(entry, Mapping) else None
    return key if isinstance(key, str) else None


def parse(document: object) -> Entry | Foreign:
    """Read ``spec.qfarm`` alone."""
    try:
        return Entry.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("spec", "qfarm", *first["loc"])))
        return Foreign(f"{where}: {first['msg']}")


def check(
    entry: Entry, category: object, fragment: Fragment, stages: Sequence[Stage]
) -> Foreign | None:
    """Compare an entry with the fragment and stages it refers to.

    Parameters
    ----------
    entry : Entry
        From `read`.
    category : object
        ``_category`` of the spec: the partition that may run it.
    fragment : Fragment
        Whose id is `entry.fragment_id`.
    stages : sequence of Stage
        Whose ids are `entry.stage_ids`.
    """
    if workflow_key(fragment, tuple(stages)) != entry.workflow:
        return Foreign("workflow key does not match the fragment and its stages")
    stage = stages[entry.position]
    if stage.name != entry.stage:
        return Foreign(f"stage {entry.position} is {stage.name!r}, not {entry.stage!r}")
    if category != stage.partition:
        return Foreign(f"_category is {category!r}, but the stage runs on {stage.partition!r}")
    return None


def _names(tasks: Any) -> str:
    if not isinstance(tasks, list):
        return repr(tasks)[:100]
    names = [task.get("_fw_name") if isinstance(task, Mapping) else task for task in tasks]
    return ", ".join(repr(name)[:100] for name in names) or "nothing"
