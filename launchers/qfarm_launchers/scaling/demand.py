"""How many more jobs the ready stages are worth. Pure.

With the horizon H (`Limits.horizon`), everything is counted in slots over the next H seconds:

- a ready stage is worth min(1, cost / H) of a slot: a long one a whole slot, for it can use no
  more; of quick ones, many share one. Stages that its jobs do not take are worth nothing.
- a running job has slots x min(1, left / H) to give, less min(1, rest / H) for each attempt under
  way, times the part of the ready work that still fits into its life. So a job near its walltime
  counts less and less, and its successor is asked for up to H before its end, if the work needs it.
- a pending job has all its slots to give.

What is lacking, in whole jobs, is wanted. Never more slots than ready stages, but for rounding up:
40 stages of a second are worth one job; 100,000 are worth all that the limits allow.
"""

from math import ceil, inf
from typing import Final

from qfarm_launchers.scaling.situation import Cost, Job, Limits, Situation

STARTED: Final = 120.0
"""s: a job older than this has had the time to claim what it can take."""

LEAST_SECONDS: Final = 1.0
"""s: no stage counts for less, for claiming and committing take time, too."""

LEAST_LACK: Final = 0.1
"""Slots: less than this is worth no further job where a slot will be free soon."""


def lacking_jobs(situation: Situation, limits: Limits, stuck: bool) -> int:
    """Jobs that are wanted besides those that run or are pending.

    Parameters
    ----------
    situation : Situation
        Queue and jobs.
    limits : Limits
        Slots of a job and its life; other limits do not count here.
    stuck : bool
        Whether stages have stayed ready beside idle slots: those of started jobs do not count then.
    """
    wanted = wanted_slots(situation, limits)
    there = sum(spare_slots(job, situation, limits, stuck) for job in situation.jobs)
    there += len(situation.pending) * limits.slots
    least = 1 if wanted and not there else 0
    return max(least, ceil((wanted - there - LEAST_LACK) / limits.slots))


def wanted_slots(situation: Situation, limits: Limits) -> float:
    """Slots that the ready stages are worth; all of them where nothing is known of their cost."""
    if not situation.sample:
        return float(situation.ready)
    shares = sum(_share(cost, limits) for cost in situation.sample)
    return situation.ready * shares / len(situation.sample)


def most_ready(sample: tuple[Cost, ...], limits: Limits) -> int:
    """Ready stages like those of a sample that are worth all jobs: more make no difference."""
    least = LEAST_SECONDS / limits.horizon
    each = sum(_share(cost, limits) for cost in sample) / len(sample) if sample else least
    return ceil(limits.max_jobs * limits.slots / max(each, least))


def spare_slots(job: Job, situation: Situation, limits: Limits, stuck: bool = False) -> float:
    """Slots that a running job has to give to ready stages."""
    used = stuck and job.age > STARTED
    slots = min(len(job.under_way), job.slots) if used else job.slots
    there = slots * min(1.0, job.left / limits.horizon)
    taken = sum(min(1.0, rest / limits.horizon) for rest in job.under_way)
    return max(0.0, there - taken) * fitting(situation.sample, job.left, limits)


def fitting(sample: tuple[Cost, ...], left: float, limits: Limits) -> float:
    """Part of the ready work, from 0 to 1, whose stages can still be claimed with `left` s left."""
    if left <= 0:
        return 0.0
    total = sum(_share(cost, limits) for cost in sample)
    if total == 0:
        return 1.0
    return sum(_share(cost, limits) for cost in sample if cost.at_most <= left) / total


def _share(cost: Cost, limits: Limits) -> float:
    if cost.at_most > limits.life or cost.at_most == inf:
        return 0.0
    return min(1.0, max(LEAST_SECONDS, cost.seconds) / limits.horizon)
