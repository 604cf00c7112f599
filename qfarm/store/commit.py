"""Commit: an attempt and what follows from it, in one transaction, under the fencing token."""

from typing import NamedTuple

from qfarm.errors import LeaseLostError
from qfarm.ladder import Decision, Done, GiveUp, Retry
from qfarm.store import documents, histories
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.lease import Lease, read_lease
from qfarm.store.protocol import Claim
from qfarm.store.queue import held_by
from qfarm.store.transitions import Transition, archived, moved
from qfarm_schemas.attempt import Attempt
from qfarm_schemas.record import Record


class _Result(NamedTuple):
    claim: Claim
    attempt: Attempt
    decision: Decision
    record: Record | None


class _Consequence(NamedTuple):
    state: str
    launch_state: str
    fields: Document


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
    result = _Result(claim, attempt, decision, record)
    _check(*result)
    connection.transact(lambda transaction: _commit(connection, transaction, result))


def _check(claim: Claim, attempt: Attempt, decision: Decision, record: Record | None) -> None:
    if (attempt.key, attempt.number) != (claim.key, claim.number):
        raise ValueError(f"attempt {attempt.key}:{attempt.number} is not that of the claim")
    if isinstance(decision, Done) != (record is not None):
        raise ValueError("a record goes with Done, and only with Done")
    if record is not None and record.key != claim.key:
        raise ValueError(f"record {record.key} is not that of the claim")


def _commit(connection: Connection, transaction: Transaction, result: _Result) -> None:
    claim, attempt, decision, record = result
    change = Transition(connection, transaction)
    head = change.head(held_by(claim))
    lease = None if head is None else read_lease(head.get("lease"))
    if head is None or not isinstance(lease, Lease):
        _expect_committed(connection, transaction, claim)
        return
    follows = _consequence(decision, attempt, head)
    change.move(moved(head, follows.state, unset=["lease"], **follows.fields))
    change.end_launch(head, follows.launch_state, documents.outcome_data(attempt))
    document = histories.attempt_document(attempt, claim.token, lease.launch)
    connection[histories.ATTEMPTS].insert_one(document, session=change.session)
    if record is not None:
        _write_record(connection, change, record, head, claim.stage.level.id)
        change.release_next(head)
    change.refresh([head["fw_id"]], head["now"])


def _expect_committed(connection: Connection, transaction: Transaction, claim: Claim) -> None:
    """Accept a commit that was made before under the same token."""
    query = {
        "_id": histories.attempt_id(claim.key, claim.number),
        "store.token": claim.token,
    }
    if not connection[histories.ATTEMPTS].find_one(query, {"_id": 1}, session=transaction.session):
        raise LeaseLostError(f"attempt {claim.number} at {claim.key} belongs to someone else now")


def _consequence(decision: Decision, attempt: Attempt, head: Document) -> _Consequence:
    counted: Document = {"spec__qfarm__attempts": attempt.number}
    match decision:
        case Done():
            return _Consequence("COMPLETED", "COMPLETED", counted)
        case Retry():
            return _Consequence("READY", "FIZZLED", counted | archived(head))
        case GiveUp(reason, remedy):
            # Whoever makes it ready again, `qfarm retry` or `lpad rerun_fws`, starts afresh.
            failed = {
                "failure": {"reason": reason, "remedy": remedy},
                "spec__qfarm__since": attempt.number,
            }
            return _Consequence("FIZZLED", "FIZZLED", counted | failed)


def _write_record(
    connection: Connection, change: Transition, record: Record, head: Document, level_id: str
) -> None:
    """Write the record unless the stage has one; the first stays."""
    records = connection[histories.RECORDS]
    # No upsert: that would ask for the right to update, and a worker may change no record.
    if records.find_one({"_id": record.key}, {"_id": 1}, session=change.session) is None:
        document = histories.record_document(record, head, level_id, head["now"])
        records.insert_one({"_id": record.key} | document, session=change.session)
