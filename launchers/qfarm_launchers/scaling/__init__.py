"""Scaling: how many batch jobs a partition wants now. Pure; time, queue and jobs come from outside.

At each tick the launcher calls ``decide(situation, limits, memory)``, does what the decision says,
and tells with ``after(memory, events, now)`` what became of it. Nothing is ever taken back but jobs
that still wait in the scheduler's queue when nothing was ready for minutes; jobs that run end
themselves when they are idle. `demand` has the formula.
"""

from qfarm_launchers.scaling.decide import Decision, decide
from qfarm_launchers.scaling.demand import most_ready
from qfarm_launchers.scaling.memory import (
    Died,
    Event,
    Idled,
    Lived,
    Memory,
    Refused,
    Submitted,
    after,
)
from qfarm_launchers.scaling.situation import Cost, Job, Limits, Situation, still

__all__ = [
    "Cost",
    "Decision",
    "Died",
    "Event",
    "Idled",
    "Job",
    "Limits",
    "Lived",
    "Memory",
    "Refused",
    "Situation",
    "Submitted",
    "after",
    "decide",
    "most_ready",
    "still",
]
