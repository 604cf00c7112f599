"""Adding: workflows of another farm that are not known here, some hundred in one transaction."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from pymongo.errors import DuplicateKeyError

from qfarm.store import contents
from qfarm.store.connection import Transaction
from qfarm.store.contents import FRAGMENTS, STAGES
from qfarm.store.histories import ATTEMPTS, RECORDS
from qfarm.store.merge import made
from qfarm.store.merge.made import Histories, Made
from qfarm.store.merge.target import Target, tries
from qfarm.store.merge.theirs import Theirs

_ROUNDS: Final = 10


def add(target: Target, fresh: Sequence[Theirs]) -> frozenset[str]:
    """Write workflows with all that was found out about them; keys of those written by this call.

    The others came to be known meanwhile.
    """
    if not fresh:
        return frozenset()
    makes = _makes(target, fresh)
    target.copy_arrays([record for item in makes for record in item.histories.records])
    for _ in range(_ROUNDS):
        try:
            return target.connection.transact(partial(_write, target=target, makes=makes))
        except DuplicateKeyError:  # someone submits the same at this moment; now it is known
            continue
    raise RuntimeError(f"duplicate keys remain after {_ROUNDS} rounds of merging workflows")


def left_over(target: Target, fresh: Sequence[Theirs]) -> frozenset[str]:
    """Keys of workflows that are not in the queue, but of which there are attempts or records.

    `lpad delete_wflows` leaves them. What is there cannot be told from what is to be written.
    """
    stages = [stage.entry.key for theirs in fresh for stage in theirs.stages]
    if not stages:
        return frozenset()
    found: set[str] = set()
    for name in (ATTEMPTS, RECORDS):
        query = {"key": {"$in": stages}} if name == ATTEMPTS else {"_id": {"$in": stages}}
        distinct = partial(target.connection[name].distinct, "key", query)
        found.update(key.partition(".")[0] for key in target.connection.retry(distinct))
    return frozenset(found)


def lacking(target: Target, known: Sequence[Theirs]) -> list[Theirs]:
    """Those whose fragment or stages the queue names here, but the store has not."""
    missing: set[str] = set()
    for name, wanted in (
        (FRAGMENTS, {theirs.plan.fragment.id for theirs in known}),
        (STAGES, {stage.id for theirs in known for stage in theirs.plan.stages}),
    ):
        query = {"_id": {"$in": list(wanted)}}
        there = target.connection.retry(partial(target.connection[name].distinct, "_id", query))
        missing |= wanted.difference(there)
    return [
        theirs
        for theirs in known
        if not missing.isdisjoint((theirs.plan.fragment.id, *(s.id for s in theirs.plan.stages)))
    ]


def put_back(target: Target, lack: Sequence[Theirs]) -> None:
    """Write fragments and stages that are missing here; their hashes say that they are the ones."""
    for _ in range(_ROUNDS if lack else 0):
        try:
            target.connection.transact(partial(_put_back, target=target, lack=lack))
            return
        except DuplicateKeyError:  # someone submits the same at this moment
            continue


def _put_back(transaction: Transaction, target: Target, lack: Sequence[Theirs]) -> None:
    target.hold(transaction)
    contents.write(target.connection, transaction, [theirs.plan for theirs in lack])


def _makes(target: Target, every: Sequence[Theirs]) -> list[Made]:
    stages = [stage for theirs in every for stage in theirs.stages]
    first, launches = target.numbers(len(stages), tries(stages))
    return made.whole(every, first, launches, target.origin)


def _write(transaction: Transaction, target: Target, makes: Sequence[Made]) -> frozenset[str]:
    connection, session = target.connection, transaction.session
    target.hold(transaction)
    query = {"metadata.key": {"$in": [item.theirs.plan.key for item in makes]}}
    there = {
        item["metadata"]["key"]: item["nodes"]
        for item in connection["workflows"].find(query, session=session)
    }
    missing = [item for item in makes if item.theirs.plan.key not in there]
    if missing:
        contents.write(connection, transaction, [item.theirs.plan for item in missing])
        workflows = [dict(item.workflow) for item in missing]
        connection["workflows"].insert_many(workflows, session=session)
        fireworks = [dict(firework) for item in missing for firework in item.fireworks]
        connection["fireworks"].insert_many(fireworks, session=session)
        target.insert(transaction, joined([item.histories for item in missing]))
    mine = (i.theirs.plan.key for i in makes if there.get(i.theirs.plan.key) == i.workflow["nodes"])
    return frozenset({*mine, *(item.theirs.plan.key for item in missing)})


def joined(parts: Sequence[Histories]) -> Histories:
    """Histories of several stages or workflows as one."""
    return Histories(
        [document for part in parts for document in part.attempts],
        [document for part in parts for document in part.launches],
        [document for part in parts for document in part.records],
    )
