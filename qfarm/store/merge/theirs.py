"""Theirs: a workflow of another farm, which counts only if all of it is whole and fits together.

A backup's sum tells damage, not forgery, so its documents are read as those of a stranger: nothing
of FireWorks' documents is taken over but what is named here, and histories must decode.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby, pairwise
from math import isfinite
from typing import Final, NamedTuple, TypeVar

import numpy as np

from qfarm.plan import Plan
from qfarm.store import arrays, entry, histories
from qfarm.store.codec import UnreadableError
from qfarm.store.connection import Document
from qfarm.store.documents import stage_state
from qfarm.store.entry import Entry, Foreign
from qfarm.store.merge.index import Parts
from qfarm.store.merge.source import Source
from qfarm.store.protocol import StageState
from qfarm_schemas.attempt import Attempt, Success
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.record import Record

_T = TypeVar("_T", Entry, Fragment, Stage)

_SILENT: Final = {
    "reason": "it was failed or cancelled in the farm that it comes from",
    "remedy": "`qfarm retry` makes it ready again.",
}
_LONGEST: Final = 2000  # characters of a reason or a remedy


class History(NamedTuple):
    """An attempt, and its document."""

    attempt: Attempt
    document: Document


class Found(NamedTuple):
    """One stage as it stands there.

    Attributes
    ----------
    entry : Entry
        What its queue entry says.
    priority : int
        As in FireWorks.
    state : StageState
        DONE exactly when there is a record.
    attempts : tuple of History
        Oldest first, numbered without gaps.
    record : dict or None
        Document of the record, whose large arrays are outside.
    failure : dict or None
        Why it failed or was cancelled.
    updated : datetime or None
        When it changed last.
    """

    entry: Entry
    priority: int
    state: StageState
    attempts: tuple[History, ...]
    record: Document | None
    failure: Document | None
    updated: datetime | None


class Theirs(NamedTuple):
    """A workflow that is whole, its stages in order."""

    plan: Plan
    stages: tuple[Found, ...]


class _UnfitError(Exception):
    """Why a workflow is not whole."""


def read(parts: Parts, source: Source) -> Theirs | Foreign:
    """A workflow, or why it is not taken."""
    try:
        return _read(parts, source)
    except _UnfitError as error:
        return Foreign(printable(str(error)[:300]))
    except UnreadableError as error:
        return Foreign(printable(error.what))


def _read(parts: Parts, source: Source) -> Theirs:
    documents = _in_order(parts)
    entries = [_known(entry.read(document.get("spec"))) for document in documents]
    plan = _plan(entries, documents, source)
    attempts = _attempts(parts.attempts, entries)
    records = {document.get("key"): document for document in parts.records}
    stages = []
    for one, document in zip(entries, documents, strict=True):
        own, record = attempts.get(one.key, ()), records.pop(one.key, None)
        if record is not None:
            _check_record(_record(record, source), one, plan, own)
        stages.append(_found(one, document, own, record))
    if records:
        raise _UnfitError(f"a record of {next(iter(records))!r}, which is none of its stages")
    _check_order(stages)
    return Theirs(plan, tuple(stages))


def _in_order(parts: Parts) -> list[Document]:
    """Its queue entries, each stage once."""
    placed = {_position(document): document for document in parts.fireworks}
    if len(placed) != len(parts.fireworks) or set(placed) != set(range(len(placed))):
        raise _UnfitError(f"its {len(parts.fireworks)} queue entries are not its stages, each once")
    return [placed[position] for position in range(len(placed))]


def _position(document: Document) -> int | None:
    spec = document.get("spec")
    own = spec.get("qfarm") if isinstance(spec, Mapping) else None
    position = own.get("position") if isinstance(own, Mapping) else None
    return position if type(position) is int else None


def _known(found: _T | Foreign) -> _T:
    if isinstance(found, Foreign):
        raise _UnfitError(found.reason)
    return found


def _plan(entries: Sequence[Entry], documents: Sequence[Document], source: Source) -> Plan:
    """Fragment and stages, which must hash to the workflow key."""
    first = entries[0]
    fragment = _known(source.fragment(first.fragment_id))
    stages = tuple(_known(source.stage(identity)) for identity in first.stage_ids)
    if len(entries) != len(stages) or len({(e.fragment_id, e.stage_ids) for e in entries}) != 1:
        raise _UnfitError("its queue entries name different fragments or stages")
    for one, document in zip(entries, documents, strict=True):
        wrong = entry.check(one, document["spec"].get("_category"), fragment, stages)
        if wrong is not None:
            raise _UnfitError(wrong.reason)
        if one.level_id != stages[one.position].level.id:
            raise _UnfitError(f"{one.key} is not planned at the level of theory that it names")
    return Plan(first.workflow, _labelled(fragment, first), stages)


def _labelled(fragment: Fragment, one: Entry) -> Fragment:
    """The fragment under the labels of this submission."""
    labels = {name: getattr(one, name) for name in ("fragment_class", "tags", "source")}
    same = all(getattr(fragment, name) == label for name, label in labels.items())
    return fragment if same else fragment.model_copy(update=labels)


def _attempts(
    documents: Sequence[Document], entries: Sequence[Entry]
) -> Mapping[str, tuple[History, ...]]:
    """Attempts by stage, numbered from 1 without gaps."""
    read = [History(histories.read_attempt(document), document) for document in documents]
    read.sort(key=lambda history: (history.attempt.key, history.attempt.number))
    of_stage = {one.key: one for one in entries}
    found: dict[str, tuple[History, ...]] = {}
    for key, group in groupby(read, key=lambda history: history.attempt.key):
        own = tuple(group)
        if key not in of_stage:
            raise _UnfitError(f"attempts at {key!r}, which is none of its stages")
        _check_attempts(own, of_stage[key])
        found[key] = own
    return found


def _check_attempts(own: Sequence[History], stage: Entry) -> None:
    if [history.attempt.number for history in own] != list(range(1, len(own) + 1)):
        raise _UnfitError(f"attempts at {stage.key} are not numbered 1, 2, ...")
    for attempt in (history.attempt for history in own):
        if (attempt.fragment_id, attempt.stage) != (stage.fragment_id, stage.stage):
            raise _UnfitError(f"attempt {attempt.number} at {stage.key} is of something else")


def _found(
    one: Entry, document: Document, attempts: tuple[History, ...], record: Document | None
) -> Found:
    state = stage_state(document.get("state"))
    if record is not None:
        state = StageState.DONE  # whatever lpad made of it: a stage with a record is done
    elif state is StageState.DONE or _successes(attempts):
        raise _UnfitError(f"{one.key} was done there, but its record is missing")
    priority = document["spec"].get("_priority")
    return Found(
        entry=one,
        priority=priority if type(priority) is int else 0,
        state=state,
        attempts=attempts,
        record=record,
        failure=_failure(document) if state in _ENDED else None,
        updated=_time(document.get("updated_on")),
    )


def _successes(attempts: Sequence[History]) -> list[Attempt]:
    return [h.attempt for h in attempts if isinstance(h.attempt.outcome, Success)]


def _record(document: Document, source: Source) -> Record:
    """The record, with its arrays; one that names none can have none outside."""
    if arrays.USED not in document:
        return histories.read_record(document)
    try:
        references = arrays.references(document)
        if document[arrays.USED] != sorted({reference.sha256 for reference in references}):
            raise ValueError(f"its field {arrays.USED!r} does not name them")
        if sum(reference.size for reference in references) > source.largest:
            raise ValueError("they are larger than all arrays of the backup")
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise _UnfitError(f"arrays of record {document.get('key')!r}: {error}") from None
    return histories.read_record(arrays.fill(source.arrays, document))


def _check_record(record: Record, one: Entry, plan: Plan, attempts: Sequence[History]) -> None:
    """See that a record is of this stage, and whole."""
    fragment, level = plan.fragment, plan.stages[one.position].level
    same = (fragment.id, one.stage, fragment.charge, fragment.multiplicity)
    if (record.fragment_id, record.stage, record.charge, record.multiplicity) != same:
        raise _UnfitError(f"record {one.key} is of something else")
    if record.level.id != level.id and not record.deviations:
        raise _UnfitError(f"record {one.key} is of another level of theory, and does not say so")
    if [attempt.number for attempt in _successes(attempts)] != [record.provenance.attempt]:
        raise _UnfitError(f"record {one.key} does not name the one attempt that succeeded")
    result = record.result
    shapes = {result.positions.shape, result.forces.shape}
    if shapes != {(fragment.n_atoms, 3)} or not np.array_equal(result.numbers, fragment.numbers):
        raise _UnfitError(f"record {one.key} is not of the atoms of its fragment")
    sums = (result.energy, float(result.positions.sum()), float(result.forces.sum()))
    if not all(map(isfinite, sums)):
        raise _UnfitError(f"record {one.key} holds NaN or infinity")


def _check_order(stages: Sequence[Found]) -> None:
    """A stage begins where the one before it ended, so no record may stand without that."""
    for before, after in pairwise(stages):
        if after.attempts and before.record is None:
            raise _UnfitError(f"{after.entry.key} was tried there, {before.entry.key} is not done")


def _failure(document: Document) -> Document:
    """Why it failed or was cancelled; `lpad` may have done that, and then says nothing."""
    found = document.get("failure")
    texts = dict(found) if isinstance(found, Mapping) else {}
    said = {name: printable(str(texts.get(name, ""))) for name in ("reason", "remedy")}
    return said if said["reason"] else _SILENT


def printable(text: str) -> str:
    """Text that does nothing to a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:_LONGEST])


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None


_ENDED: Final = frozenset({StageState.FAILED, StageState.CANCELLED})
