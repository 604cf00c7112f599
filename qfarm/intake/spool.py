"""Spool: accepted fragments wait in a temporary file until every frame has been examined.

So nothing is written before the whole batch is known to be good, and memory holds one chunk.
"""

from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO

from qfarm.intake.chunks import chunks
from qfarm.plan import Plan
from qfarm_schemas.base import Model
from qfarm_schemas.config import Protocol, Stage
from qfarm_schemas.fragment import Fragment


class _Kept(Model):
    """A plan: workflow key, places of its stages among all of the protocol, fragment."""

    key: str
    stages: tuple[int, ...]
    fragment: Fragment


class Spool:
    """Plans in a temporary file, one JSON line each; floats keep every bit."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle

    def put(self, line: bytes) -> None:
        """Append what `Press` made of a plan."""
        self._handle.write(line)

    def plans(self, protocol: Protocol) -> Iterator[tuple[Plan, ...]]:
        """Plans put in so far, made with `protocol`, in order, in chunks."""
        self._handle.seek(0)
        every = all_stages(protocol)
        kept = map(_Kept.model_validate_json, self._handle)
        plans = (
            Plan(one.key, one.fragment, tuple(every[place] for place in one.stages)) for one in kept
        )
        yield from chunks(plans, lambda one: one.fragment.n_atoms)


class Press:
    """Makes lines for a spool."""

    def __init__(self, protocol: Protocol) -> None:
        self._places = {stage.id: place for place, stage in enumerate(all_stages(protocol))}

    def line(self, plan: Plan) -> bytes:
        """A plan that was made with the protocol."""
        places = tuple(self._places[stage.id] for stage in plan.stages)
        # Each part was validated when it was made, and is again when the line is read.
        kept = _Kept.model_construct(key=plan.key, stages=places, fragment=plan.fragment)
        return kept.model_dump_json().encode() + b"\n"


def all_stages(protocol: Protocol) -> tuple[Stage, ...]:
    """Every stage that the rules of a protocol can give."""
    return tuple(
        stage for template in protocol.stages for stage in template.stages if stage is not None
    )


def open_spool() -> IO[bytes]:
    """Return the file behind a `Spool`; it vanishes when closed, or with the process."""
    return TemporaryFile()
