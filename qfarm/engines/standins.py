"""Stand-ins: which engine computes another's levels in a partition, and what is wrong with that.

``[partitions.engines.pyscf] by = "gpu4pyscf"`` lets gpu4pyscf write, run and parse what has a level
of pyscf there. The level keeps its engine and its id, so the record is the same wherever it was
computed, and a stage that spills to another partition goes on there. Both climb one ladder.
"""

from collections.abc import Iterator

from qfarm.engines import TABLE, engine
from qfarm_schemas.config import EngineConfig, FarmConfig, Partition

Location = tuple[int | str, ...]
"""Path of a field of `FarmConfig`."""


def stand_in(config: FarmConfig, partition: Partition | None, name: str) -> str:
    """Name of the engine that computes levels of engine `name` in a partition; mostly itself."""
    own = partition.engines if partition is not None else {}
    chosen = own.get(name) or config.engines.get(name) or EngineConfig()
    return chosen.by or name


def faults(config: FarmConfig) -> Iterator[tuple[Location, str]]:
    """Each field that names an engine wrongly, and what is wrong with it.

    Yields
    ------
    tuple
        The field, and the fault with its remedy.
    """
    for place, tables in _tables(config):
        for name, table in tables.items():
            if name not in TABLE:
                yield (*place, name), f"no engine {name!r} (engines: {_known()})"
            elif table.by is not None:
                wrong = _wrong(name, table.by)
                if wrong is not None:
                    yield (*place, name, "by"), wrong
    yield from _taken(config)


def _tables(config: FarmConfig) -> Iterator[tuple[Location, dict[str, EngineConfig]]]:
    yield ("engines",), config.engines
    for i, partition in enumerate(config.partitions):
        yield ("partitions", i, "engines"), partition.engines


def _wrong(name: str, by: str) -> str | None:
    """Why an engine cannot stand in for another; None when it can."""
    if by not in TABLE:
        return f"no engine {by!r} (engines: {_known()})"
    if by == name:
        return f"{name} cannot stand in for itself; leave it out"
    if engine(by).ladder != engine(name).ladder:
        return (
            f"{by} cannot stand in for {name}: its ladder has other rungs, and its numbers are "
            "others; leave it out, or name an engine that computes the same (gpu4pyscf for pyscf)"
        )
    return None


def _taken(config: FarmConfig) -> Iterator[tuple[Location, str]]:
    """Engines of ``takes_engines`` that have no levels."""
    behind = {
        table.by: name
        for _, tables in _tables(config)
        for name, table in tables.items()
        if table.by is not None
    }
    for i, partition in enumerate(config.partitions):
        for j, name in enumerate(partition.takes_engines):
            place: Location = ("partitions", i, "takes_engines", j)
            if name not in TABLE:
                yield place, f"no engine {name!r} (engines: {_known()})"
            elif name in behind:
                asked = behind[name]
                yield place, f"{name} stands in for {asked} and has no levels; name {asked!r}"


def _known() -> str:
    return ", ".join(sorted(TABLE))
