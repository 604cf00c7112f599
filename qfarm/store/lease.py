"""Lease: who holds a running stage, under which token, until when."""

from uuid import UUID

from pydantic import AwareDatetime, Field, StrictInt, StrictStr

from qfarm.store.codec import decode
from qfarm.store.entry import Foreign
from qfarm_schemas.attempt import Rung, Worker
from qfarm_schemas.base import Model


class Lease(Model):
    """``lease`` of a firework that runs.

    Attributes
    ----------
    token : str
        Fencing token.
    worker, taken_from : Worker
        Who holds it, and from whom it was taken over.
    seconds : float
        Its length from one sign of life to the end.
    number, launch : int
        Numbers of the attempt and of FireWorks' launch.
    claimed, expires : datetime
        By the database's clock.
    session : UUID or None
        Session in which its worker commits; see `Connection.end_session`.
    rung : Rung or None
        Where on the ladder the attempt stands, once the worker has said so.
    """

    token: StrictStr
    worker: Worker
    seconds: float = Field(gt=0)
    number: StrictInt = Field(ge=1)
    launch: StrictInt
    claimed: AwareDatetime
    expires: AwareDatetime
    session: UUID | None = None
    rung: Rung | None = None
    taken_from: Worker | None = None


def read_lease(document: object) -> Lease | Foreign:
    """Read the lease of a firework, which others may have changed."""
    if not isinstance(document, dict):
        return Foreign("it is RUNNING without a lease")
    try:
        return decode(Lease, document)
    except ValueError as error:
        return Foreign(f"its lease cannot be read: {' '.join(str(error).split())}"[:300])
