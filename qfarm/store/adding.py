"""Adding: new workflows in large transactions, new limits for those that are there."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from pymongo.errors import BulkWriteError, DuplicateKeyError

from qfarm.ahead import ahead
from qfarm.errors import StoreError
from qfarm.plan import Plan
from qfarm.store import contents
from qfarm.store.connection import Connection, Transaction, is_duplicate
from qfarm.store.limits import update
from qfarm.store.planned import WorkflowDocuments, workflow_documents
from qfarm.store.protocol import Added

_BATCH: Final = 500
"""Workflows written in one transaction, which takes a tenth of a second."""

_ATOMS: Final = 500_000
"""Atoms after which a transaction holds no further fragment; they take some 20 MB."""

_KEYS: Final = 10_000
"""Keys in one query, which may hold 16 MB."""

_ROUNDS: Final = 10

_WRITERS: Final = 2
"""Transactions under way at once; a third one gained nothing."""


class _Batch(NamedTuple):
    """What goes into one transaction, and the plans that are there already."""

    fresh: tuple[Plan, ...]
    made: tuple[WorkflowDocuments, ...]
    known: tuple[Plan, ...]


def add(connection: Connection, plans: Sequence[Plan], priority: int) -> Added:
    """See `Store.add`."""
    unique = {plan.key: plan for plan in plans}.values()
    new = updated = 0
    # The next batch is made while mongod writes these, and mongod has a thread for each connection.
    with ThreadPoolExecutor(_WRITERS) as writers:
        for batch, written in _written(
            writers,
            partial(_add_batch, connection),
            ahead(_prepared(connection, part, priority) for part in _parts(unique)),
        ):
            new += written
            updated += update(connection, _other(connection, batch.known))
    return Added(new, len(plans) - new, updated)


def _written(
    writers: ThreadPoolExecutor, write: Callable[[_Batch], int], batches: Iterable[_Batch]
) -> Iterator[tuple[_Batch, int]]:
    """Batches with what writing them gave, in order; each writer has one."""
    under_way: deque[tuple[_Batch, Future[int]]] = deque()
    for batch in batches:
        if len(under_way) == _WRITERS:
            first, written = under_way.popleft()
            yield first, written.result()
        under_way.append((batch, writers.submit(write, batch)))
    for first, written in under_way:
        yield first, written.result()


def known(connection: Connection, keys: Sequence[str]) -> frozenset[str]:
    """See `Store.known`."""
    rest = iter(keys)
    found: set[str] = set()
    while batch := list(islice(rest, _KEYS)):
        found |= connection.retry(partial(_known, connection, batch))
    return frozenset(found)


def _other(connection: Connection, plans: Sequence[Plan]) -> list[Plan]:
    """Those of known plans whose stages are not all in the queue as they are planned."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for plan in plans:
        alike.setdefault(tuple(stage.id for stage in plan.stages), []).append(plan.key)
    other: set[str] = set()
    for stages, keys in alike.items():
        query = {
            "spec.qfarm.workflow": {"$in": keys},
            "spec.qfarm.stage_ids": {"$ne": list(stages)},
        }
        find = partial(connection["fireworks"].distinct, "spec.qfarm.workflow", query)
        other.update(connection.retry(find))
    return [plan for plan in plans if plan.key in other]


def _parts(plans: Iterable[Plan]) -> Iterator[list[Plan]]:
    batch: list[Plan] = []
    atoms = 0
    for plan in plans:
        if len(batch) == _BATCH or atoms > _ATOMS:
            yield batch
            batch, atoms = [], 0
        batch.append(plan)
        atoms += plan.fragment.n_atoms
    if batch:
        yield batch


def _known(connection: Connection, keys: Sequence[str]) -> set[str]:
    query = {"metadata.key": {"$in": keys}}
    fields = {"_id": 0, "metadata.key": 1}
    return {item["metadata"]["key"] for item in connection["workflows"].find(query, fields)}


def _prepared(connection: Connection, plans: Sequence[Plan], priority: int) -> _Batch:
    there = known(connection, [plan.key for plan in plans])
    fresh = tuple(plan for plan in plans if plan.key not in there)
    made: tuple[WorkflowDocuments, ...] = ()
    if fresh:
        total = sum(len(plan.stages) for plan in fresh)
        first_id = connection.retry(lambda: _take_ids(connection, total))
        made = tuple(workflow_documents(fresh, priority, first_id))
    return _Batch(fresh, made, tuple(plan for plan in plans if plan.key in there))


def _add_batch(connection: Connection, batch: _Batch) -> int:
    if not batch.fresh:
        return 0
    for _ in range(_ROUNDS):
        try:
            return connection.transact(lambda t: _write(connection, t, batch.fresh, batch.made))
        except (DuplicateKeyError, BulkWriteError) as error:
            if not is_duplicate(error):
                raise
            # someone adds the same at this moment; now it is known
    raise StoreError(
        "new stages cannot be written: FireWorks' counter in 'fw_id_assigner' gives numbers that "
        "others have, or documents of the same keys are there without their workflows",
        "Run `qfarm fsck --repair`, which sets that right; then submit again.",
    )


def _take_ids(connection: Connection, count: int) -> int:
    """First of `count` new firework ids; when a call is repeated, ids are skipped, not reused."""
    counters = connection["fw_id_assigner"]
    before = counters.find_one_and_update({}, {"$inc": {"next_fw_id": count}})
    if before is None:
        raise RuntimeError("fw_id_assigner holds no counters")
    return int(before["next_fw_id"])


def _write(
    connection: Connection,
    transaction: Transaction,
    plans: Sequence[Plan],
    made: Sequence[WorkflowDocuments],
) -> int:
    """Write what is not there; the number of workflows that are there by this call.

    A repeated call writes the same documents, `_id` included, which pymongo adds the first time.
    """
    session = transaction.session
    query = {"metadata.key": {"$in": [item.key for item in made]}}
    there = {
        item["metadata"]["key"]: item["nodes"]
        for item in connection["workflows"].find(query, session=session)
    }
    missing = [item for item in made if item.key not in there]
    if missing:
        contents.write(connection, transaction, plans)
        connection["workflows"].insert_many([item.workflow for item in missing], session=session)
        fireworks = [firework for item in missing for firework in item.fireworks]
        connection["fireworks"].insert_many(fireworks, session=session)
    mine = (item for item in made if there.get(item.key) == item.workflow["nodes"])
    return len(missing) + sum(1 for _ in mine)
