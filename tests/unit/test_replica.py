"""What is said of a server that does not become ready."""

import pytest
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from qfarm.store.replica import said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OperationFailure("long, full error: {}", 18, {"errmsg": "bad key"}), "bad key"),
        (ServerSelectionTimeoutError("<Topology: AutoReconnect('x')>"), "it does not answer"),
        (PyMongoError("something else"), "something else"),
    ],
)
def test_errors_are_told_without_names_of_exceptions(error: PyMongoError, words: str) -> None:
    assert said(error) == words
