"""Fragments and stages: stored once under the hash of their content, checked at each reading."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final, TypeVar

from qfarm.plan import Plan
from qfarm.store.codec import decode, encode, encode_flat
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.entry import Entry, Foreign, check
from qfarm.store.wish import Wish
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment

FRAGMENTS: Final = "fragments"
STAGES: Final = "stages"

Known = Mapping[str, Fragment | Foreign]
"""Fragments by id."""

_KEPT: Final = 256
"""Fragments that a reader keeps: whoever did one stage of a fragment often gets the next."""

_FRESH: Final = 1.0
"""s: how long a list of all stages is taken to be complete."""

_NONE: Final = ("",)
"""Stages of a name that none has."""

_Content = TypeVar("_Content", Fragment, Stage)


class Contents:
    """Reader of fragments and stages; keeps the stages, of which there are few.

    What was read is known by its hash, so it cannot become wrong.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stages: dict[str, Stage] = {}
        self._fragments: dict[str, Fragment] = {}
        self._listed: tuple[float, tuple[Stage, ...]] = (-_FRESH, ())

    def fragment(self, fragment_id: str) -> Fragment | Foreign:
        """The fragment, with the labels of its first submission."""
        return intact(Fragment, fragment_id, self._find(FRAGMENTS, fragment_id))

    def stage(self, stage_id: str) -> Stage | Foreign:
        """The stage."""
        if stage_id not in self._stages:
            found = intact(Stage, stage_id, self._find(STAGES, stage_id))
            if isinstance(found, Foreign):
                return found
            self._stages[stage_id] = found
        return self._stages[stage_id]

    def every_stage(self) -> tuple[Stage, ...]:
        """All stages that were ever submitted, as of a moment ago."""
        at, stages = self._listed
        if monotonic() - at > _FRESH:
            at, names = monotonic(), self._connection[STAGES]
            found = self._connection.retry(lambda: list(names.find({}, {"_id": 1})))
            read = [self.stage(item["_id"]) for item in found if isinstance(item["_id"], str)]
            stages = tuple(stage for stage in read if isinstance(stage, Stage))
            self._listed = (at, stages)
        return stages

    def narrowed(self, wish: Wish) -> Wish:
        """The wish with the names of the stages that its levels leave; the queue has them indexed.

        Without this a worker for few levels would read all that is before them in the queue.
        """
        if wish.levels is None or wish.stages:
            return wish
        names = {stage.name for stage in self.every_stage() if stage.level.id in wish.levels}
        return replace(wish, stages=tuple(sorted(names)) or _NONE)

    def find(self, fragment_ids: Sequence[str]) -> Known:
        """Fragments, as far as they are there and whole, for `resolve`."""
        kept = dict(self._fragments)
        lacking = [identity for identity in fragment_ids if identity not in kept]
        documents = self._documents(lacking) if lacking else {}
        read = {item: intact(Fragment, item, documents.get(item)) for item in lacking}
        whole = {item: found for item, found in read.items() if isinstance(found, Fragment)}
        self._fragments = dict(list((kept | whole).items())[-_KEPT:])
        return kept | read

    def _documents(self, fragment_ids: Sequence[str]) -> Mapping[str, Document]:
        query, fragments = {"_id": {"$in": fragment_ids}}, self._connection[FRAGMENTS]
        found = self._connection.retry(lambda: list(fragments.find(query)))
        return {item["_id"]: item for item in found}

    def resolve(
        self, entry: Entry, category: object, known: Known
    ) -> tuple[Fragment, Stage] | Foreign:
        """What an entry refers to, if all of it is there and fits together.

        The fragment bears the labels of the entry's own submission.
        """
        fragment = known[entry.fragment_id]
        if isinstance(fragment, Foreign):
            return fragment
        stages: list[Stage] = []
        for stage_id in entry.stage_ids:
            stage = self.stage(stage_id)
            if isinstance(stage, Foreign):
                return stage
            stages.append(stage)
        wrong = check(entry, category, fragment, stages)
        return wrong or (_labelled(fragment, entry), stages[entry.position])

    def _find(self, collection: str, identity: str) -> Document | None:
        return self._connection.retry(
            lambda: self._connection[collection].find_one({"_id": identity})
        )


def write(connection: Connection, transaction: Transaction, plans: Sequence[Plan]) -> None:
    """Store the fragments and stages of plans that are not there yet."""
    fragments = {plan.fragment.id: plan.fragment for plan in plans}
    stages = {stage.id: stage for plan in plans for stage in plan.stages}
    _insert_new(connection, transaction, FRAGMENTS, fragments, encode_flat)
    _insert_new(connection, transaction, STAGES, stages, encode)


def _insert_new(
    connection: Connection,
    transaction: Transaction,
    collection: str,
    models: Mapping[str, _Content],
    encoded: Callable[[_Content], Document],
) -> None:
    query = {"_id": {"$in": list(models)}}
    present = set(connection[collection].distinct("_id", query, session=transaction.session))
    new = [
        {"_id": identity} | encoded(model)
        for identity, model in models.items()
        if identity not in present
    ]
    if new:
        connection[collection].insert_many(new, session=transaction.session)


def intact(kind: type[_Content], identity: str, document: Document | None) -> _Content | Foreign:
    """Content of a document, if it hashes to the id under which it was looked for."""
    name = kind.__name__.lower()
    if document is None:
        return Foreign(f"{name} {identity} is not in the store")
    try:
        content = decode(kind, {key: value for key, value in document.items() if key != "_id"})
    except ValueError as error:
        return Foreign(f"{name} {identity} cannot be read: {error}"[:300])
    if content.id != identity:
        return Foreign(f"{name} {identity} was changed: its content hashes to {content.id}")
    return content


def _labelled(fragment: Fragment, entry: Entry) -> Fragment:
    labels = {name: getattr(entry, name) for name in ("fragment_class", "tags", "source")}
    if all(getattr(fragment, name) == label for name, label in labels.items()):
        return fragment
    return fragment.model_copy(update=labels)
