"""Commit: attempts and what follows from them, in one transaction, under their fencing tokens.

The transaction reads the stages of the workflows once. From that it knows who still holds what,
which stage follows, and the state of each workflow; so the rest is one command a collection,
for one attempt as for many.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pymongo import ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from qfarm.errors import LeaseLostError
from qfarm.ladder import ROOM, Decision, Done, GiveUp, Retry
from qfarm.store import arrays, documents, histories, launches
from qfarm.store.codec import encode
from qfarm.store.connection import Connection, Document, Transaction, is_duplicate
from qfarm.store.entry import workflow_of
from qfarm.store.launches import LAUNCHES
from qfarm.store.lease import Lease, read_lease
from qfarm.store.protocol import Claim, Ended
from qfarm.store.queue import held_by
from qfarm.store.ready import FAILED_ON, OUTGROWN, PASSING
from qfarm.store.transitions import HEAD, Transition, archived, moved
from qfarm_schemas.attempt import Attempt, Failure
from qfarm_schemas.failure import Budget
from qfarm_schemas.record import Record

_NOT_BEGUN: Final = "given back by its worker, which had not begun"
_STAGE: Final[Document] = HEAD | {"spec.qfarm.key": 1}


class _Consequence(NamedTuple):
    state: str
    launch_state: str
    fields: Document


class _Held(NamedTuple):
    """An attempt whose claim is valid, its firework and the stages of its workflow in order."""

    ended: Ended
    record: Document | None
    head: Document
    lease: Lease
    stages: Sequence[Document]

    @property
    def following(self) -> list[Document]:
        """The stage that a record releases; several where other hands made copies of it."""
        position = _position(self.head)
        if self.record is None or position < 0:
            return []
        waiting = (item for item in self.stages if item["state"] == "WAITING")
        return [item for item in waiting if _position(item) == position + 1]


def commit(
    connection: Connection,
    claim: Claim,
    attempt: Attempt,
    decision: Decision,
    record: Record | None,
) -> None:
    """See `Store.commit`.

    Raises
    ------
    LeaseLostError
        The claim's token is no longer the valid one.
    ValueError
        Attempt, decision and record do not belong together.
    """
    if not all(commit_many(connection, [Ended(claim, attempt, decision, record)])):
        raise LeaseLostError(f"attempt {claim.number} at {claim.key} belongs to someone else now")


def commit_many(connection: Connection, ended: Sequence[Ended]) -> tuple[bool, ...]:
    """See `Store.commit_many`.

    Raises
    ------
    ValueError
        Attempt, decision and record of one do not belong together, or two are of one workflow.
    """
    if not ended:
        return ()
    for item in ended:
        _check(*item)
    if len({item.claim.workflow for item in ended}) < len(ended):
        raise ValueError("two attempts of one workflow: stages run one after the other")
    records = [_content(connection, item.record) for item in ended]
    try:
        return connection.transact(lambda t: _commit(connection, t, ended, records))
    except (DuplicateKeyError, BulkWriteError) as error:
        if not is_duplicate(error):
            raise
        return connection.transact(lambda t: _commit(connection, t, ended, records, wary=True))


def release(connection: Connection, claims: Sequence[Claim]) -> None:
    """See `Store.release`."""
    if claims:
        connection.transact(lambda t: _release(connection, t, claims))


def _release(connection: Connection, transaction: Transaction, claims: Sequence[Claim]) -> None:
    change = Transition(connection, transaction)
    heads = change.heads({"$or": [held_by(claim) for claim in claims]})
    for head in heads:
        change.end_launch(head, "FIZZLED", documents.failure_data(_NOT_BEGUN))
    if heads:
        change.move(*(moved(head, "READY", ["lease"], **archived(head)) for head in heads))
        change.refresh([head["fw_id"] for head in heads], heads[0]["now"])


def _check(claim: Claim, attempt: Attempt, decision: Decision, record: Record | None) -> None:
    if (attempt.key, attempt.number) != (claim.key, claim.number):
        raise ValueError(f"attempt {attempt.key}:{attempt.number} is not that of the claim")
    if isinstance(decision, Done) != (record is not None):
        raise ValueError("a record goes with Done, and only with Done")
    if record is not None and record.key != claim.key:
        raise ValueError(f"record {record.key} is not that of the claim")


def _content(connection: Connection, record: Record | None) -> Document | None:
    """Document of a record, whose large arrays are stored now: they are no part of the commit."""
    if record is None:
        return None
    content, blobs = arrays.outside(encode(record))
    arrays.save(connection, blobs)
    return content


def _commit(
    connection: Connection,
    transaction: Transaction,
    ended: Sequence[Ended],
    records: Sequence[Document | None],
    wary: bool = False,
) -> tuple[bool, ...]:
    """Write all whose claim is valid; with `wary`, look first what others wrote in their place."""
    stages = _stages(connection, transaction, [item.claim.workflow for item in ended])
    held = [
        _held(item, record, stages.get(item.claim.workflow, ()))
        for item, record in zip(ended, records, strict=True)
    ]
    valid = [item for item in held if item is not None]
    lost = [item.claim for item, own in zip(ended, held, strict=True) if own is None]
    there = _committed(connection, transaction, lost)
    taken = _taken(connection, transaction, valid) if wary else {}
    _give_back(connection, transaction, [item for item in valid if _key(item) in taken], taken)
    mine = [item for item in valid if _key(item) not in taken]
    _write(connection, transaction, mine, wary)
    written = {_key(item) for item in mine}
    return tuple(item.claim.key in written or item.claim.key in there for item in ended)


def _stages(
    connection: Connection, transaction: Transaction, workflows: Sequence[str]
) -> dict[str, list[Document]]:
    """Fireworks of workflows, by workflow key, in the order of their stages.

    What other hands made that only looks like one is left out.
    """
    query = {"spec.qfarm.workflow": {"$in": list(workflows)}}
    found: dict[str, list[Document]] = {}
    for item in connection["fireworks"].find(query, _STAGE, session=transaction.session):
        workflow = workflow_of(item.get("spec"))
        if workflow is not None and isinstance(item.get("fw_id"), int) and "state" in item:
            found.setdefault(workflow, []).append(item)
    return {key: sorted(items, key=_position) for key, items in found.items()}


def _held(ended: Ended, record: Document | None, stages: Sequence[Document]) -> _Held | None:
    claim = ended.claim
    for head in stages:
        if head["spec"]["qfarm"].get("key") != claim.key or head["state"] != "RUNNING":
            continue
        lease = read_lease(head.get("lease"))
        if isinstance(lease, Lease) and lease.token == claim.token:
            return _Held(ended, record, head, lease, stages)
    return None


def _committed(
    connection: Connection, transaction: Transaction, claims: Sequence[Claim]
) -> set[str]:
    """Stage keys of the claims whose attempt was committed before under the same token."""
    if not claims:
        return set()
    same = [
        {"_id": histories.attempt_id(claim.key, claim.number), "store.token": claim.token}
        for claim in claims
    ]
    found = connection[histories.ATTEMPTS].find(
        {"$or": same}, {"key": 1}, session=transaction.session
    )
    return {item["key"] for item in found}


def _write(
    connection: Connection, transaction: Transaction, held: Sequence[_Held], wary: bool
) -> None:
    if not held:
        return
    session = transaction.session
    follows = [_consequence(item) for item in held]
    moves = [
        moved(item.head, after.state, unset=["lease", *PASSING], **after.fields)
        for item, after in zip(held, follows, strict=True)
    ]
    connection["fireworks"].bulk_write([*moves, *_releases(held)], session=session)
    attempts = [
        histories.attempt_document(item.ended.attempt, item.lease.token, item.lease.launch)
        for item in held
    ]
    connection[histories.ATTEMPTS].insert_many(attempts, session=session)
    _write_records(connection, transaction, held, wary)
    ends = [_end(item, after) for item, after in zip(held, follows, strict=True)]
    connection[LAUNCHES].bulk_write(ends, session=session)
    _refresh(connection, transaction, held, follows)


def _consequence(held: _Held) -> _Consequence:
    attempt = held.ended.attempt
    counted: Document = {"spec__qfarm__attempts": attempt.number}
    match held.ended.decision:
        case Done():
            return _Consequence("COMPLETED", "COMPLETED", counted)
        case Retry():
            history = (*held.ended.claim.history, attempt)
            again = counted | _failed_on(attempt) | _outgrown(history) | archived(held.head)
            return _Consequence("READY", "FIZZLED", again)
        case GiveUp(reason, remedy):
            # Whoever makes it ready again, `qfarm retry` or `lpad rerun_fws`, starts afresh.
            failed = {
                "failure": {"reason": reason, "remedy": remedy},
                "spec__qfarm__since": attempt.number,
            }
            return _Consequence("FIZZLED", "FIZZLED", counted | failed)


def _failed_on(attempt: Attempt) -> Document:
    """Where it failed, if another node may do better."""
    outcome = attempt.outcome
    if isinstance(outcome, Failure) and outcome.kind.budget is Budget.NODE:
        return {FAILED_ON: attempt.worker.host}
    return {}


def _outgrown(history: Iterable[Attempt]) -> Document:
    """Partitions that proved too narrow, where others have more."""
    names = {
        made.worker.partition
        for made in history
        if isinstance(made.outcome, Failure) and made.outcome.evidence.get(ROOM)
    }
    return {OUTGROWN: sorted(names)} if names else {}


def _releases(held: Iterable[_Held]) -> list[UpdateOne]:
    return [
        UpdateOne(
            {"_id": following["_id"]},
            {"$set": {"state": "READY", "updated_on": documents.iso(item.head["now"])}},
        )
        for item in held
        for following in item.following
    ]


def _write_records(
    connection: Connection, transaction: Transaction, held: Sequence[_Held], wary: bool
) -> None:
    """Write the records of stages that have none; the first stays.

    No upsert: that would ask for the right to update, and a worker may change no record.
    """
    records = connection[histories.RECORDS]
    made = [document for item in held if (document := _record(item)) is not None]
    if wary and made:
        query = {"_id": {"$in": [item["_id"] for item in made]}}
        present = set(records.distinct("_id", query, session=transaction.session))
        made = [item for item in made if item["_id"] not in present]
    if made:
        records.insert_many(made, session=transaction.session)


def _record(held: _Held) -> Document | None:
    claim, head = held.ended.claim, held.head
    if held.record is None:
        return None
    level_id = claim.stage.level.id
    own = histories.committed(head, level_id, head["now"])
    return {"_id": claim.key} | held.record | own


def _end(held: _Held, after: _Consequence) -> ReplaceOne[Document]:
    data = documents.outcome_data(held.ended.attempt)
    fw_id, now = held.head["fw_id"], held.head["now"]
    launch = launches.ended(fw_id, held.lease, after.launch_state, now, data)
    return ReplaceOne({"launch_id": held.lease.launch}, launch, upsert=True)


def _refresh(
    connection: Connection,
    transaction: Transaction,
    held: Sequence[_Held],
    follows: Sequence[_Consequence],
) -> None:
    """Write the states of the workflows: at once where they are as qfarm made them."""
    updates = [_workflow(item, after.state) for item, after in zip(held, follows, strict=True)]
    done = connection["workflows"].bulk_write(updates, session=transaction.session)
    if done.matched_count < len(updates):
        fw_ids = [item.head["fw_id"] for item in held]
        Transition(connection, transaction).refresh(fw_ids, held[0].head["now"])


def _workflow(held: _Held, state: str) -> UpdateOne:
    """Update of a workflow that has these stages, and in which no lpad command is at work."""
    states = {item["fw_id"]: str(item["state"]) for item in held.stages}
    states |= {held.head["fw_id"]: state}
    states |= {item["fw_id"]: "READY" for item in held.following}
    nodes = {"$all": list(states), "$size": len(states)}  # FireWorks writes them in any order
    query = {"nodes": nodes, "locked": {"$exists": False}}
    changes = {
        "state": documents.chain_state(tuple(states.values())),
        "fw_states": {str(fw_id): name for fw_id, name in states.items()},
        "updated_on": documents.iso(held.head["now"]),
    }
    return UpdateOne(query, {"$set": changes})


def _taken(
    connection: Connection, transaction: Transaction, held: Sequence[_Held]
) -> dict[str, int]:
    """Stages whose attempt number somebody else has used, with the highest number there is."""
    numbers = {_key(item): item.ended.claim.number for item in held}
    found = connection[histories.ATTEMPTS].find(
        {"key": {"$in": list(numbers)}}, {"key": 1, "number": 1}, session=transaction.session
    )
    highest: dict[str, int] = {}
    for item in found:
        highest[item["key"]] = max(item["number"], highest.get(item["key"], 0))
    return {key: highest[key] for key in highest if highest[key] >= numbers[key]}


def _give_back(
    connection: Connection,
    transaction: Transaction,
    held: Sequence[_Held],
    highest: dict[str, int],
) -> None:
    """Offer stages again whose count of attempts other hands had set back, with the right one."""
    change = Transition(connection, transaction)
    for item in held:
        count = {"spec__qfarm__attempts": highest[_key(item)]}
        why = f"attempt {item.ended.claim.number} was there already"
        change.end_launch(item.head, "FIZZLED", documents.failure_data(why))
        change.move(moved(item.head, "READY", unset=["lease"], **count, **archived(item.head)))
    if held:
        change.refresh([item.head["fw_id"] for item in held], held[0].head["now"])


def _key(held: _Held) -> str:
    return held.ended.claim.key


def _position(firework: Document) -> int:
    position = firework["spec"]["qfarm"].get("position")
    return position if isinstance(position, int) else -1
