"""What fsck reads, finds and changes: plain values without MongoDB."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeGuard

from qfarm.store.connection import Document

Raw = dict[str, list[Document]]
"""Documents by collection."""

SETTLE: Final = timedelta(seconds=10)
"""A claim is one write; its launch and the workflow's state follow within milliseconds, and the
commit or fsck writes them if the worker died in between."""

LOST_FOUND: Final = "lost_found"
"""Collection that keeps what belongs to nothing, as it was."""


class Found(NamedTuple):
    """What a check says of one document.

    Attributes
    ----------
    where : str
        The stage key, workflow key or id that it is about.
    said : str
        What is wrong there, one clause.
    sign : str
        What changes when the stage shows a sign of life; empty when it need not be waited for.
    """

    where: str
    said: str
    sign: str = ""


class Finding(NamedTuple):
    """A violation of the invariant `name`."""

    name: str
    where: str
    said: str
    sign: str = ""


@dataclass(frozen=True)
class Facts:
    """What checks must know besides the documents.

    Attributes
    ----------
    now : datetime
        By the database's clock.
    grace : timedelta
        How long after its end a lease may still wait for the reaper.
    stages, fragments : set of str, or None
        Those of the needed ones that exist; None: not looked up.
    """

    now: datetime
    grace: timedelta = timedelta(seconds=80)
    stages: AbstractSet[str] | None = None
    fragments: AbstractSet[str] | None = None


@dataclass(slots=True)
class Stage:
    """One firework with what belongs to it; `entry` is its ``spec.qfarm``."""

    document: Document
    entry: Document
    fw_id: int
    state: object
    attempts: list[Document] = field(default_factory=list)  # by number
    record: Document | None = None
    launches: dict[int, Document] = field(default_factory=dict)  # of this firework, by launch_id

    @property
    def key(self) -> str:
        """Stage key."""
        return str(self.entry["key"])

    @property
    def listed(self) -> list[int]:
        """Launch ids of ``launches`` and ``archived_launches``."""
        return current(self.document) + archived(self.document)

    @property
    def accepted(self) -> list[Document]:
        """Attempts that succeeded."""
        return [item for item in self.attempts if status(item) == "success"]

    @property
    def fresh(self) -> bool:
        """Whether it runs under a lease."""
        return self.state == "RUNNING" and isinstance(self.document.get("lease"), dict)


@dataclass(slots=True)
class Group:
    """One workflow key with all that bears it."""

    key: str
    workflows: list[Document] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)  # by position
    broken: list[Document] = field(default_factory=list)  # fireworks whose entry cannot be read

    @property
    def fw_ids(self) -> set[int]:
        """Ids of its fireworks, there or not."""
        named = {node for item in self.workflows for node in nodes(item)}
        there = {s.fw_id for s in self.stages} | {integer(b.get("fw_id")) for b in self.broken}
        return {number for number in named | there if number >= 0}


class Grouped(NamedTuple):
    """Documents of a page, sorted by what they belong to."""

    groups: list[Group]
    foreign: list[Document]  # fireworks that are not qfarm's
    loose: list[Document]  # launches whose firework is not there


def grouped(raw: Raw) -> Grouped:
    """Sort documents by workflow key."""
    groups: dict[str, Group] = {}
    owned = _workflows(raw, groups)
    foreign = _fireworks(raw, groups, owned)
    stages = {stage.fw_id: stage for group in groups.values() for stage in group.stages}
    _results(raw, stages.values())
    there = {integer(item.get("fw_id")) for item in raw["fireworks"]}
    loose = []
    for launch in raw["launches"]:
        fw_id = integer(launch.get("fw_id"))
        if (stage := stages.get(fw_id)) is not None:
            stage.launches[integer(launch.get("launch_id"))] = launch
        elif fw_id not in there:
            loose.append(launch)
    return Grouped(list(groups.values()), foreign, loose)


def _workflows(raw: Raw, groups: dict[str, Group]) -> dict[int, str]:
    """Put workflow documents into their groups; the workflow key of each node."""
    owned: dict[int, str] = {}
    for item in raw["workflows"]:
        metadata = item.get("metadata")
        key = metadata.get("key") if isinstance(metadata, dict) else None
        if isinstance(key, str):
            groups.setdefault(key, Group(key)).workflows.append(item)
            owned.update(dict.fromkeys(nodes(item), key))
    return owned


def _fireworks(raw: Raw, groups: dict[str, Group], owned: Mapping[int, str]) -> list[Document]:
    """Put fireworks into their groups; those that are foreign."""
    foreign = []
    for document in raw["fireworks"]:
        spec = document.get("spec")
        entry = spec.get("qfarm") if isinstance(spec, dict) else None
        fw_id = document.get("fw_id")
        if readable(entry) and type(fw_id) is int:
            stage = Stage(document, entry, fw_id, document.get("state"))
            groups.setdefault(entry["workflow"], Group(entry["workflow"])).stages.append(stage)
        elif (key := owned.get(integer(fw_id)) or _said_workflow(entry)) is not None:
            groups.setdefault(key, Group(key)).broken.append(document)
        else:
            foreign.append(document)
    for group in groups.values():
        if len(group.stages) > 1:
            group.stages.sort(key=_place)
    return foreign


def _results(raw: Raw, stages: Iterable[Stage]) -> None:
    attempts: dict[str, list[Document]] = {}
    for item in raw["attempts"]:
        attempts.setdefault(str(item.get("key")), []).append(item)
    records = {item["_id"]: item for item in raw["records"]}
    for stage in stages:
        stage.attempts = attempts.get(stage.entry["key"], [])
        if len(stage.attempts) > 1:
            stage.attempts.sort(key=lambda item: integer(item.get("number")))
        stage.record = records.get(stage.entry["key"])


def readable(entry: object) -> TypeGuard[Document]:
    """Whether ``spec.qfarm`` says what the checks need; `deep` reads all of it."""
    if not isinstance(entry, dict):
        return False
    try:
        workflow, stage, ids = entry["workflow"], entry["stage"], entry["stage_ids"]
        position, key, fragment_id = entry["position"], entry["key"], entry["fragment_id"]
    except KeyError:
        return False
    return (
        type(workflow) is type(stage) is type(fragment_id) is str
        and key == f"{workflow}.{stage}"
        and type(ids) is list
        and type(position) is int
        and 0 <= position < len(ids)
        and {type(item) for item in ids} == {str}
        and type(entry.get("attempts", 0)) is int
        and type(entry.get("since", 0)) is int
    )


def nodes(workflow: Document) -> list[int]:
    """Ids of the fireworks of a workflow."""
    found = workflow.get("nodes")
    return [item for item in found if type(item) is int] if isinstance(found, list) else []


def current(document: Document) -> list[int]:
    """Launch ids in ``launches``."""
    return _integers(document.get("launches"))


def archived(document: Document) -> list[int]:
    """Launch ids in ``archived_launches``."""
    return _integers(document.get("archived_launches"))


def status(attempt: Document) -> object:
    """How an attempt ended: ``success`` or ``failure``."""
    outcome = attempt.get("outcome")
    return outcome.get("status") if isinstance(outcome, dict) else None


def integer(value: object) -> int:
    """The number, or -1 if it is none."""
    return value if type(value) is int else -1


def expiry(lease: Mapping[str, Any]) -> datetime | None:
    """When a lease ends."""
    return moment(lease.get("expires"))


def moment(value: object) -> datetime | None:
    """A time as BSON date or ISO 8601 text; both occur."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _integers(found: object) -> list[int]:
    return [item for item in found if type(item) is int] if isinstance(found, list) else []


def _place(stage: Stage) -> tuple[int, int]:
    return stage.entry["position"], stage.fw_id


def _said_workflow(entry: object) -> str | None:
    key = entry.get("workflow") if isinstance(entry, dict) else None
    return key if isinstance(key, str) else None


Check = Callable[[Group, Facts], Iterator[Found]]
