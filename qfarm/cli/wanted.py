"""Wanted: which stages an export takes, and which records it expects of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Final

from qfarm.errors import UserError
from qfarm.export.manifest import Expected
from qfarm.ladder import LARGE
from qfarm.store.protocol import Row, Selection, StageState, Store
from qfarm_schemas.record import Record


class Deviations(StrEnum):
    """What becomes of records that depart from the protocol, as after a basis fallback."""

    KEEP = "keep"
    DROP = "drop"
    ONLY = "only"


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes
    ----------
    fragment_class, tag : str or None
        Only such fragments.
    stage : str or None
        The stage that gives the records; None: the last of each workflow.
    level : str or None
        Beginning of the id of the level of theory, that of the record once there is one; None:
        any.
    deviations : Deviations
        Whether records that depart from the protocol are taken.
    """

    fragment_class: str | None = None
    tag: str | None = None
    stage: str | None = None
    level: str | None = None
    deviations: Deviations = Deviations.KEEP

    @property
    def selection(self) -> Selection:
        """The fragments."""
        return Selection(fragment_class=self.fragment_class, tag=self.tag)

    def giver(self, rows: tuple[Row, ...]) -> Row | None:
        """The stage of one workflow that gives its record; None if it has no such stage."""
        named = [row for row in rows if self.stage in (None, row.stage)]
        return named[-1] if named else None

    def of_level(self, level_id: str) -> bool:
        """Whether the level of theory is meant."""
        return level_id.startswith(self.level or "")

    def takes(self, record: Record) -> bool:
        """Whether a record of these stages is meant."""
        departs = bool(record.deviations)
        of_kind = self.deviations is Deviations.KEEP or departs == (
            self.deviations is Deviations.ONLY
        )
        return of_kind and self.of_level(record.level.id)


@dataclass(frozen=True)
class Survey:
    """What is there.

    Attributes
    ----------
    stages : tuple of str
        Stages that give records.
    done : Counter
        Number of records by id of their level.
    examples : dict
        One done stage for each of these levels.
    """

    stages: tuple[str, ...]
    done: Counter[str]
    examples: dict[str, Row]


def survey(store: Store, wanted: Wanted) -> Survey:
    """Read the stages once.

    Raises
    ------
    UserError
        A stage is the last of some workflows and an inner one of others.
    """
    giving: set[str] = set()
    inner: set[str] = set()
    done: Counter[str] = Counter()
    examples: dict[str, Row] = {}
    for rows, giver in _givers(store, wanted):
        giving.add(giver.stage)
        inner.update(row.stage for row in rows if row.key != giver.key)
        fallen = _large_record(store, giver)
        level_id = giver.level_id if fallen is None else fallen.level.id
        taken = wanted.of_level(level_id) if fallen is None else wanted.takes(fallen)
        if giver.state is StageState.DONE and taken:
            done[level_id] += 1
            examples.setdefault(level_id, giver)
    _refuse_ambiguous(giving & inner, wanted)
    return Survey(tuple(sorted(giving)), done, examples)


def records(store: Store, wanted: Wanted, stages: tuple[str, ...]) -> Iterator[Record]:
    """Stream the records of these stages."""
    for stage in stages:
        for record in store.records(replace(wanted.selection, stage=stage)):
            if wanted.takes(record):
                yield record


def expected(store: Store, wanted: Wanted) -> Iterator[Expected]:
    """Every record that should be there, with the reason why it may not."""
    for rows, giver in _givers(store, wanted):
        yield _expected(giver, _blocking(rows, giver), wanted.deviations)


def record_of(store: Store, row: Row) -> Record | None:
    """The record of a stage; None when it has none."""
    of_fragment = store.records(Selection((row.fragment_id,), stage=row.stage))
    return next((record for record in of_fragment if record.key == row.key), None)


def _givers(store: Store, wanted: Wanted) -> Iterator[tuple[tuple[Row, ...], Row]]:
    """Workflows with the stage of each that gives its record.

    A stage counts when it was planned at the level asked for, or its record is at it.
    """
    for rows in _workflows(store, wanted):
        giver = wanted.giver(rows)
        if giver is not None and (
            wanted.of_level(giver.level_id) or wanted.of_level(_level_id(store, giver))
        ):
            yield rows, giver


def _level_id(store: Store, row: Row) -> str:
    """Level of the record: the planned one, except after a basis fallback of a large fragment."""
    record = _large_record(store, row)
    return row.level_id if record is None else record.level.id


def _large_record(store: Store, row: Row) -> Record | None:
    """Record of a stage whose basis may have fallen back; None for any other."""
    large = row.state is StageState.DONE and row.n_atoms > LARGE
    return record_of(store, row) if large else None


def _workflows(store: Store, wanted: Wanted) -> Iterator[tuple[Row, ...]]:
    for _, rows in groupby(store.rows(wanted.selection), key=lambda row: row.workflow):
        yield tuple(sorted(rows, key=lambda row: row.position))


def _blocking(rows: tuple[Row, ...], giver: Row) -> Row:
    upto = (row for row in rows if row.position <= giver.position)
    return next((row for row in upto if row.state is not StageState.DONE), giver)


def _expected(giver: Row, blocking: Row, deviations: Deviations) -> Expected:
    reason, remedy = _why(blocking, deviations)
    return Expected(
        key=giver.key,
        fragment_id=giver.fragment_id,
        fragment_class=giver.fragment_class,
        formula=giver.formula,
        n_atoms=giver.n_atoms,
        tags=giver.tags,
        source=giver.source,
        stage=blocking.stage,
        state=blocking.state.value,
        attempts=blocking.attempts,
        reason=reason,
        remedy=remedy,
    )


def _why(blocking: Row, deviations: Deviations) -> tuple[str, str]:
    reason, remedy = _REASONS[blocking.state]
    if blocking.state is StageState.DONE and deviations is not Deviations.KEEP:
        reason, remedy = _LEFT_OUT[deviations], "Export again with --deviations keep."
    return blocking.reason or reason, blocking.remedy or remedy


def _refuse_ambiguous(stages: set[str], wanted: Wanted) -> None:
    if stages and wanted.stage is None:
        named = ", ".join(sorted(stages))
        raise UserError(
            f"stage {named} is the last one of some workflows and an earlier one of others, so "
            "the last stages are not one data set",
            "Choose the stage to export with --stage, or the fragments with --class or --tag.",
        )


_LEFT_OUT: Final = {
    Deviations.DROP: "its record departs from the protocol, and --deviations drop leaves it out",
    Deviations.ONLY: "its record follows the protocol, and --deviations only leaves it out",
}

_RUN: Final = "`qfarm run` computes it; then export again."

_REASONS: Final = {
    StageState.WAITING: ("the stage waits for the one before it", _RUN),
    StageState.READY: ("not computed yet", _RUN),
    StageState.RUNNING: ("an attempt is under way", "Export again when it has ended."),
    StageState.FAILED: ("the stage failed", "`qfarm show` tells why; then `qfarm retry`."),
    StageState.CANCELLED: ("cancelled", "`qfarm retry` makes it ready again."),
    StageState.DONE: (
        "its record is at another level of theory than asked for (basis fallback), or came while "
        "the export ran",
        "Export again; with --allow-mixed-levels and without --level for every level.",
    ),
}
