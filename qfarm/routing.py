"""Routing: which partition works on which stages, and who stands in for a closed one. Pure.

A stage may name a partition; without, every partition may take it. A partition may restrict itself
to stages and engines by name (``takes_stages``, ``takes_engines``). While a partition is closed
(paused, drained or stopped by the user, or its scheduler takes no jobs), those it names in
``spill_to`` take its stages besides their own. Spilling goes one step: what A spills to B does not
go on to where B spills to.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from qfarm_schemas.config import Partition

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Waiting:
    """Stages alike that wait.

    Attributes
    ----------
    stage : str
        Their name.
    engine : str
        Of their level of theory.
    partition : str or None
        That must run them; None: any.
    count : int
        How many.
    """

    stage: str
    engine: str
    partition: str | None = None
    count: int = 1


def may_take(
    partition: Partition, partitions: Sequence[Partition], closed: Collection[str]
) -> tuple[str, ...]:
    """Names of the partitions whose stages a partition may take now.

    Parameters
    ----------
    partition : Partition
        Who asks.
    partitions : sequence of Partition
        All that there are; their order is kept.
    closed : collection of str
        Names of the closed ones.

    Returns
    -------
    tuple of str
        Its own name first, then the closed ones that spill to it; empty when it is closed itself.
    """
    if partition.name in closed:
        return ()
    spilling = (
        other.name
        for other in partitions
        if other.name in closed and partition.name in other.spill_to
    )
    return (partition.name, *dict.fromkeys(spilling))


def serves(partition: Partition, stage: str, engine: str) -> bool:
    """Whether a partition works on stages of this name at levels of this engine."""
    of_stage = not partition.takes_stages or stage in partition.takes_stages
    return of_stage and (not partition.takes_engines or engine in partition.takes_engines)


def levels_of(partition: Partition, levels: Mapping[str, str]) -> frozenset[str] | None:
    """Ids of the levels of theory that a partition works on.

    Parameters
    ----------
    partition : Partition
        Who asks.
    levels : mapping
        Id of a level -> name of its engine.

    Returns
    -------
    frozenset of str or None
        None: all, whatever levels there are.
    """
    if not partition.takes_engines:
        return None
    return frozenset(id_ for id_, engine in levels.items() if engine in partition.takes_engines)


def takers(
    waiting: Waiting, partitions: Sequence[Partition], closed: Collection[str] = ()
) -> tuple[str, ...]:
    """Names of the partitions that may take such stages now."""
    return tuple(
        one.name
        for one in partitions
        if serves(one, waiting.stage, waiting.engine)
        and (names := may_take(one, partitions, closed))
        and waiting.partition in (None, *names)
    )


def unserved(
    waiting: Iterable[Waiting],
    partitions: Sequence[Partition],
    closed: Collection[str] = (),
    refused: Mapping[str, str] = _NONE,
) -> tuple[str, ...]:
    """Say which stages no partition can take, why, and what to do; a line each.

    Parameters
    ----------
    waiting : iterable of Waiting
        What waits.
    partitions : sequence of Partition
        All that there are.
    closed : collection of str
        Names of those that are closed; with none, only what can never be taken is said.
    refused : mapping
        Name -> why it can do no work, of those among them that no user closed: they open by
        themselves.
    """
    return tuple(
        f"{_what(one)}: {_why(one, partitions, refused)}"
        for one in waiting
        if one.count and not takers(one, partitions, closed)
    )


def _what(waiting: Waiting) -> str:
    number = "1 stage" if waiting.count == 1 else f"{waiting.count} stages"
    return f"{number} {waiting.stage!r} (engine {waiting.engine})"


def _why(waiting: Waiting, partitions: Sequence[Partition], refused: Mapping[str, str]) -> str:
    named = next((one for one in partitions if one.name == waiting.partition), None)
    if waiting.partition is not None and named is None:
        return (
            f"must run in partition {waiting.partition!r}, which qfarm.toml does not have; add it, "
            "or correct the protocol and submit the files again"
        )
    asked = partitions if named is None else (named,)
    able = [one for one in asked if serves(one, waiting.stage, waiting.engine)]
    if not able:
        return _left_out(waiting, named)
    spilling = "" if named is None else ", or let it spill to another (spill_to) that takes them"
    return f"wait for {' or for '.join(_awaited(able, refused))}{spilling}"


def _awaited(able: Iterable[Partition], refused: Mapping[str, str]) -> Iterator[str]:
    """What is waited for, and what opens it."""
    names = [one.name for one in able]
    by_user = ", ".join(f"{name!r}" for name in names if name not in refused)
    if by_user:
        yield f"{by_user}, closed now; open it again (`qfarm launcher resume`)"
    for name in names:
        if name in refused:
            yield f"{name!r}, which can do no work now ({refused[name]}) and opens by itself"


def _left_out(waiting: Waiting, named: Partition | None) -> str:
    fields = " and ".join(_fields(waiting, named)) or "takes_stages and takes_engines"
    if named is None:
        return f"no partition takes them; correct {fields} of one in qfarm.toml"
    return f"must run in partition {named.name!r}, which leaves them out by {fields}; correct that"


def _fields(waiting: Waiting, partition: Partition | None) -> Iterator[str]:
    """Fields of the partition that leave the stages out."""
    if partition is None:
        return
    if partition.takes_stages and waiting.stage not in partition.takes_stages:
        yield "takes_stages"
    if partition.takes_engines and waiting.engine not in partition.takes_engines:
        yield "takes_engines"
