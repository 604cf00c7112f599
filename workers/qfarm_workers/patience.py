"""Patience: calls of the store that outlast an outage of MongoDB."""

from collections.abc import Callable
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_fixed

from qfarm.errors import StoreError
from qfarm.store.roles import NotAllowedError

OUTAGE_SECONDS: Final = 600.0
"""s: how long a worker bears a MongoDB that does not answer before it gives up."""

START_SECONDS: Final = 60.0
"""s: how long a worker that starts bears it."""

RIGHT_SECONDS: Final = 15.0
"""s: how long it bears to lack a right: while users are edited, roles are away for a moment; who
has the wrong address shall be told."""

_T = TypeVar("_T")


def patiently(call: Callable[[], _T], seconds: float = OUTAGE_SECONDS) -> _T:
    """Call the store, again and again through an outage of up to `seconds`."""

    def enough(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        most = min(seconds, RIGHT_SECONDS) if isinstance(error, NotAllowedError) else seconds
        return (state.seconds_since_start or 0.0) >= most

    tries = Retrying(
        retry=retry_if_exception_type(StoreError), wait=wait_fixed(1.0), stop=enough, reraise=True
    )
    return tries(call)
