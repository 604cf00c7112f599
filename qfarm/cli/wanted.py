"""Wanted: which stages an export takes, and which records it expects of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from qfarm.errors import UserError
from qfarm.export.manifest import Expected
from qfarm.store.protocol import Row, Selection, StageState, Store
from qfarm_schemas.record import Record


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
        Beginning of the id of the level of theory; None: any.
    """

    fragment_class: str | None = None
    tag: str | None = None
    stage: str | None = None
    level: str | None = None

    @property
    def selection(self) -> Selection:
        """The fragments."""
        return Selection(fragment_class=self.fragment_class, tag=self.tag)

    def giver(self, rows: tuple[Row, ...]) -> Row | None:
        """The stage of one workflow that gives its record; None if it has no such stage."""
        named = [row for row in rows if self.stage in (None, row.stage)]
        last = named[-1] if named else None
        return last if last is not None and self.of_level(last.level_id) else None

    def of_level(self, level_id: str) -> bool:
        """Whether the level of theory is meant."""
        return level_id.startswith(self.level or "")


@dataclass(frozen=True)
class Survey:
    """What is there: stages that give records, and how many are done at each planned level."""

    stages: tuple[str, ...]
    done: Counter[str]


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
    for rows in _workflows(store, wanted):
        giver = wanted.giver(rows)
        if giver is not None:
            giving.add(giver.stage)
            inner.update(row.stage for row in rows if row.key != giver.key)
            done[giver.level_id] += giver.state is StageState.DONE
    _refuse_ambiguous(giving & inner, wanted)
    return Survey(tuple(sorted(giving)), +done)


def records(store: Store, wanted: Wanted, stages: tuple[str, ...]) -> Iterator[Record]:
    """Stream the records of these stages."""
    for stage in stages:
        for record in store.records(replace(wanted.selection, stage=stage)):
            if wanted.of_level(record.level.id):
                yield record


def expected(store: Store, wanted: Wanted) -> Iterator[Expected]:
    """Every record that should be there, with the reason why it may not."""
    for rows in _workflows(store, wanted):
        giver = wanted.giver(rows)
        if giver is not None:
            yield _expected(giver, _blocking(rows, giver))


def _workflows(store: Store, wanted: Wanted) -> Iterator[tuple[Row, ...]]:
    for _, rows in groupby(store.rows(wanted.selection), key=lambda row: row.workflow):
        yield tuple(sorted(rows, key=lambda row: row.position))


def _blocking(rows: tuple[Row, ...], giver: Row) -> Row:
    upto = (row for row in rows if row.position <= giver.position)
    return next((row for row in upto if row.state is not StageState.DONE), giver)


def _expected(giver: Row, blocking: Row) -> Expected:
    reason, remedy = _why(blocking)
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


def _why(blocking: Row) -> tuple[str, str]:
    reason, remedy = _REASONS[blocking.state]
    return blocking.reason or reason, blocking.remedy or remedy


def _refuse_ambiguous(stages: set[str], wanted: Wanted) -> None:
    if stages and wanted.stage is None:
        named = ", ".join(sorted(stages))
        raise UserError(
            f"stage {named} is the last one of some workflows and an earlier one of others, so "
            "the last stages are not one data set",
            "Choose the stage to export with --stage, or the fragments with --class or --tag.",
        )


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
