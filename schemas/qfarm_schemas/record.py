"""Record: one accepted result with all that a reader of the data set must know."""

from pydantic import AwareDatetime, Field

from qfarm_schemas.attempt import Cost, Rung
from qfarm_schemas.base import Model
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import Result


class Provenance(Model):
    """How a record came to be."""

    attempt: int = Field(ge=1, description="number of the attempt that was accepted")
    rung: Rung
    host: str
    partition: str
    qfarm_version: str
    finished: AwareDatetime
    cost: Cost


class Record(Model):
    """The accepted result of one stage of one fragment.

    Attributes
    ----------
    key : str
        Stage key; the store holds exactly one record for it.
    fragment_id : str
        The submitted fragment.
    fragment_class, tags, source
        As submitted.
    stage : str
        Stage name.
    level : LevelOfTheory
        The level that the numbers belong to (after a basis fallback, the fallback's).
    charge, multiplicity : int
        As submitted.
    result : Result
        Numbers, in qfarm's units.
    deviations : tuple of str
        Departures from the protocol, for instance a fallback basis; empty as a rule.
    provenance : Provenance
        How it came to be.
    """

    key: str
    fragment_id: str
    fragment_class: str
    tags: tuple[str, ...] = ()
    source: str = ""
    stage: str
    level: LevelOfTheory
    charge: int
    multiplicity: int
    result: Result
    deviations: tuple[str, ...] = ()
    provenance: Provenance
