"""Needs: which levels, for which elements, what is not done yet asks of the engines."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import reduce
from typing import Final, NamedTuple

from qfarm.store.connection import Connection, Document
from qfarm.store.contents import Contents
from qfarm.store.documents import in_states
from qfarm.store.protocol import Need, StageState
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.elements import counts

_WANTED: Final = in_states(
    StageState.WAITING, StageState.READY, StageState.RUNNING, StageState.FAILED
)

_OWN: Final[Document] = {
    "spec.qfarm.stage_ids": {"$type": "array"},
    "spec.qfarm.position": {"$type": ["int", "long"]},
    "spec.qfarm.formula": {"$type": "string"},
}
"""What others may have put into the queue must not stop the aggregation."""

_COMPOSITION: Final[Document] = reduce(
    lambda text, digit: {"$replaceAll": {"input": text, "find": digit, "replacement": ""}},
    "0123456789",
    {"$concat": ["$spec.qfarm.formula"]},
)
"""Formula without its numbers: of these there are few, so the groups stay in memory. Measured with
a million stages: 5 s, where grouping by the whole formula took 35 s."""

_STAGE_ID: Final[Document] = {"$arrayElemAt": ["$spec.qfarm.stage_ids", "$spec.qfarm.position"]}

_PIPELINE: Final[list[Document]] = [
    {"$match": {"spec.qfarm.key": {"$exists": True}} | _WANTED | _OWN},
    {
        "$group": {
            "_id": {"stage": _STAGE_ID, "composition": _COMPOSITION},
            "count": {"$sum": 1},
        }
    },
]


class _Group(NamedTuple):
    """Stages of one content and one formula."""

    stage_id: str
    elements: frozenset[int]
    stages: int


def needs(connection: Connection, contents: Contents) -> tuple[Need, ...]:
    """See `Store.needs`; the largest number of stages first."""
    found: dict[tuple[str, TaskKind, str | None], Need] = {}
    for group in connection.retry(lambda: _merged(_groups(connection))):
        stage = contents.stage(group.stage_id)
        if isinstance(stage, Stage):
            key = (stage.level.id, stage.task, stage.partition)
            nothing = Need(stage.level, stage.task, stage.partition, frozenset(), 0)
            found[key] = _more(found.get(key, nothing), group)
    return tuple(sorted(found.values(), key=lambda need: (-need.stages, need.level.id)))


def elements(formula: str) -> frozenset[int]:
    """Atomic numbers in a formula such as ``C2H6O`` or ``CHO``."""
    return frozenset(counts(formula))


def _groups(connection: Connection) -> Iterator[_Group]:
    with connection["fireworks"].aggregate(_PIPELINE, allowDiskUse=True) as cursor:
        for item in cursor:
            named = item["_id"]
            yield _Group(str(named.get("stage")), elements(named["composition"]), item["count"])


def _merged(groups: Iterable[_Group]) -> list[_Group]:
    """Formulas of the same elements in one; an outage in the middle begins anew."""
    counts: dict[tuple[str, frozenset[int]], int] = {}
    for group in groups:
        key = (group.stage_id, group.elements)
        counts[key] = counts.get(key, 0) + group.stages
    return [_Group(*key, count) for key, count in counts.items()]


def _more(need: Need, group: _Group) -> Need:
    elements, stages = need.elements | {group.elements}, need.stages + group.stages
    return replace(need, elements=elements, stages=stages)
