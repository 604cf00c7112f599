"""Decide how many jobs to submit or to take back, and say why. Pure."""

from dataclasses import dataclass
from math import inf
from typing import Final

from qfarm.store.fleet import Gate
from qfarm_launchers.scaling import words
from qfarm_launchers.scaling.demand import STARTED, lacking_jobs, wanted_slots
from qfarm_launchers.scaling.memory import Memory, look
from qfarm_launchers.scaling.situation import Limits, Situation

EMPTY_SECONDS: Final = 300.0
"""s: nothing must have been ready for so long before pending jobs are cancelled.

Work comes in bursts, and a place in the scheduler's queue is worth keeping between two of them.
"""

SETTLED: Final = 300.0
"""s: a younger pending job is left alone even then."""

OFTEN: Final = 3
"""Refusals after which the partition counts as closed, if it has no job."""


@dataclass(frozen=True)
class Decision:
    """What to do in this tick.

    Attributes
    ----------
    submit : int
        Jobs to submit now, one after the other, until one is refused.
    cancel_pending : int
        So many of the jobs that have been pending longest are to be cancelled.
    why : str
        One sentence for people.
    not_before : float
        Nothing is submitted before this time of the monotonic clock, s; minus infinity: no wait.
    closed : str
        Why the partition can do no work at present; empty while it can. Others may take its stages.
    """

    submit: int = 0
    cancel_pending: int = 0
    why: str = ""
    not_before: float = -inf
    closed: str = ""


def decide(situation: Situation, limits: Limits, memory: Memory) -> tuple[Decision, Memory]:
    """Decide what to do now.

    Parameters
    ----------
    situation : Situation
        The partition's queue and jobs.
    limits : Limits
        What its jobs are bounded by.
    memory : Memory
        As it was left after the last tick; ``Memory()`` at first.

    Returns
    -------
    Decision
        What to do.
    Memory
        For `after`, and then for the next tick.
    """
    memory = look(memory, situation, limits)
    if situation.gate is not Gate.OPEN:
        return _closed(situation), memory
    if not situation.ready:
        return _nothing_ready(situation, memory), memory
    return _open(situation, limits, memory), memory


def _closed(situation: Situation) -> Decision:
    paused = situation.gate is Gate.PAUSED
    return Decision(
        cancel_pending=0 if paused else len(situation.pending), why=words.gate(situation)
    )


def _nothing_ready(situation: Situation, memory: Memory) -> Decision:
    empty = situation.now - memory.empty_since
    old = sum(age >= SETTLED for age in situation.pending) if empty >= EMPTY_SECONDS else 0
    return Decision(cancel_pending=old, why=words.nothing_ready(situation, old, empty))


def _open(situation: Situation, limits: Limits, memory: Memory) -> Decision:
    closed = _out_of_use(situation, memory)
    if not wanted_slots(situation, limits):
        return Decision(why=words.left_to_others(situation), closed=closed)
    lacking = lacking_jobs(situation, limits, memory.stuck(situation.now))
    if not lacking:
        return Decision(why=words.enough(situation), closed=closed)
    free = limits.max_jobs - situation.present
    if free <= 0:
        return Decision(why=words.full(situation, limits), closed=closed)
    wait = max(memory.try_again, memory.quiet_until)
    if situation.now < wait or (memory.out_of_order and _tried(situation)):
        return Decision(why=words.wait(situation, memory), not_before=wait, closed=closed)
    wanted = min(lacking, free)
    submit = min(wanted, _cautious(situation, memory), memory.room(limits, situation.now))
    why = words.submit(situation, memory, limits, wanted, submit)
    return Decision(submit=submit, why=why, closed=closed)


def _tried(situation: Situation) -> bool:
    """Whether a job is there that has not yet shown whether it can work."""
    young = (job for job in situation.jobs if job.age <= STARTED and not job.under_way)
    return bool(situation.pending) or any(young)


def _cautious(situation: Situation, memory: Memory) -> int:
    """Jobs at once that are worth a try after bad experiences."""
    if memory.out_of_order:
        return 1
    if memory.refusals:
        return max(1, memory.ceiling - situation.present)
    return situation.ready


def _out_of_use(situation: Situation, memory: Memory) -> str:
    """Why no stage is worked on here, for all that is known."""
    if memory.out_of_order and not situation.works:
        return words.in_vain(memory)
    if memory.refusals >= OFTEN and not situation.present:
        return words.refused(memory)
    return ""
