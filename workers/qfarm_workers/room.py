"""Room: which other partitions may allow what one has proved too narrow for. Pure.

What a stage needs is foreseen by records, and those of what was too large for a partition are never
made there. So an attempt that meets a limit of its partition, and not its own, goes on where there
is more; and that partition leaves the stage to others from then on.
"""

from collections.abc import Collection, Sequence
from math import inf

from qfarm.ladder import ROOM
from qfarm.routing import Waiting, takers
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Partition, Stage
from qfarm_schemas.failure import FailureKind


def told(
    failure: Failure, stage: Stage, own: Partition, partitions: Sequence[Partition], life: bool
) -> Failure:
    """Say in a failure which partitions have more of what was too little.

    Parameters
    ----------
    failure : Failure
        How an attempt ended.
    stage : Stage
        With its own limits.
    own, partitions : Partition, sequence of Partition
        Where it was made, and all that there are.
    life : bool
        Whether the time limit was the life of a worker, and not the stage's own.

    Returns
    -------
    Failure
        As it was, where it met no limit of the partition or none has more.
    """
    waiting = Waiting(stage.name, stage.level.engine, stage.partition)
    names = takers(waiting, partitions)
    others = [one for one in partitions if one.name in names and one.name != own.name]
    match failure.kind:
        case FailureKind.OUT_OF_MEMORY if own.gpus or own.memory_mb < stage.memory_mb:
            roomy = [one.name for one in others if more_memory(own, one)]
        case FailureKind.TIME_LIMIT if life:
            roomy = [one.name for one in others if more_time(own, one)]
        case _:
            roomy = []
    if not roomy:
        return failure
    return failure.model_copy(update={"evidence": failure.evidence | {ROOM: ", ".join(roomy)}})


def outgrown(own: Partition, partitions: Sequence[Partition], at_rest: Collection[str]) -> str:
    """Name of the partition that leaves to others what it has proved too narrow for.

    Parameters
    ----------
    own, partitions : Partition, sequence of Partition
        It, and all that there are.
    at_rest : collection of str
        Partitions that work on nothing now: nothing is left to them.

    Returns
    -------
    str
        For `Wish.outgrown`; empty where no partition at work has more.
    """
    others = (one for one in partitions if one.name != own.name and one.name not in at_rest)
    return own.name if any(more_memory(own, one) or more_time(own, one) for one in others) else ""


def more_memory(own: Partition, other: Partition) -> bool:
    """Whether another partition may have the memory that one lacks; CPUs have more than GPUs."""
    return other.memory_mb > own.memory_mb or bool(own.gpus and not other.gpus)


def more_time(own: Partition, other: Partition) -> bool:
    """Whether workers of another partition live longer."""
    return (other.walltime or inf) > (own.walltime or inf)
