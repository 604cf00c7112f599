"""Write changes to MongoDB, inside a transaction."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from pymongo import DeleteOne, InsertOne, UpdateOne
from pymongo.client_session import ClientSession

from qfarm.store.connection import Connection, Document
from qfarm.store.fsck.changes import Aside, Change, Insert, Update, lost
from qfarm.store.fsck.model import LOST_FOUND

Operation = InsertOne[Document] | UpdateOne | DeleteOne


def write(
    connection: Connection, session: ClientSession, changes: Iterable[Change], when: datetime
) -> None:
    """Carry out changes in their order, all of which the transaction makes or none."""
    operations: dict[str, list[Operation]] = {}
    for change in changes:
        for collection, operation in _operations(connection, session, change, when):
            operations.setdefault(collection, []).append(operation)
    for collection, made in operations.items():
        connection[collection].bulk_write(made, session=session)


def _operations(
    connection: Connection, session: ClientSession, change: Change, when: datetime
) -> Iterator[tuple[str, Operation]]:
    match change:
        case Update(collection, identity, fields, unset):
            update: Document = {"$set": fields} if fields else {}
            if unset:
                update["$unset"] = dict.fromkeys(unset, "")
            yield collection, UpdateOne({"_id": identity}, update)
        case Insert(collection, document):
            yield collection, InsertOne(document)
        case Aside(collection, identity, _):
            found = connection[collection].find_one({"_id": identity}, session=session)
            if found is not None:
                yield LOST_FOUND, InsertOne(lost(change, found, when))
                yield collection, DeleteOne({"_id": identity})
