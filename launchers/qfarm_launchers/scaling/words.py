"""Sentences that say why a partition gets jobs or gets none. Pure."""

from qfarm.store.fleet import Gate
from qfarm_launchers.scaling.memory import Memory
from qfarm_launchers.scaling.situation import Limits, Situation


def gate(situation: Situation) -> str:
    """A partition that the user has closed."""
    running, pending = len(situation.jobs), len(situation.pending)
    match situation.gate:
        case Gate.PAUSED:
            return "paused: no new jobs; `qfarm launcher resume` goes on"
        case Gate.DRAINING:
            return f"draining: no new jobs; {_jobs(running)} to finish{_cancelled(pending)}"
    return f"stopping: {_jobs(running)} to end{_cancelled(pending)}"


def nothing_ready(situation: Situation, cancelled: int, empty: float) -> str:
    """An empty queue."""
    if cancelled:
        return f"nothing has been ready for {about(empty)}{_cancelled(cancelled)}"
    return "nothing is ready"


def left_to_others(situation: Situation) -> str:
    """Stages that none of its jobs takes."""
    return (
        f"{_ready(situation)}, left to partitions with more memory or a longer walltime: "
        "`qfarm launcher status` shows whether they get jobs; where one has no launcher, `qfarm "
        "launch NAME`"
    )


def enough(situation: Situation) -> str:
    """The jobs that are there will do."""
    running, pending = len(situation.jobs), len(situation.pending)
    return f"{_ready(situation)}; {running} running and {pending} pending jobs will do"


def full(situation: Situation, limits: Limits) -> str:
    """No more jobs are allowed."""
    there = f"{len(situation.jobs)} running and {len(situation.pending)} pending jobs"
    return f"{_ready(situation)}; {there} are as many as max_jobs = {limits.max_jobs} allows"


def wait(situation: Situation, memory: Memory) -> str:
    """Jobs are wanted, but it is too early to submit one."""
    if memory.try_again >= memory.quiet_until and situation.now < memory.try_again:
        return f"{refused(memory)}; next try in {about(memory.try_again - situation.now)}"
    if situation.now < memory.quiet_until:
        return f"{in_vain(memory)}; next try in {about(memory.quiet_until - situation.now)}"
    return f"{in_vain(memory)}; one job is being tried"


def submit(situation: Situation, memory: Memory, limits: Limits, wanted: int, now: int) -> str:
    """Jobs are submitted, as many as the rate allows."""
    if now == wanted:
        return f"{_ready(situation)}: {_jobs(now)} submitted"
    if memory.out_of_order and now:
        return f"{in_vain(memory)}; one job is tried"
    if memory.refusals and now:
        return f"{refused(memory)}; {_jobs(now)} of {wanted} tried"
    rate = f"submit_per_minute = {limits.submit_per_minute:g}"
    return f"{_ready(situation)}: {now} of {wanted} jobs submitted, for {rate}"


def refused(memory: Memory) -> str:
    """The scheduler takes no jobs."""
    return f"the scheduler took no job: {memory.refusal}"


def in_vain(memory: Memory) -> str:
    """Jobs end without having worked."""
    if memory.vanity:
        return (
            f"{memory.vain} jobs in a row died before they could work, the last: "
            f"{memory.vanity.rstrip('.')}; "
            "read `qfarm launcher logs`, and mend `modules`, `prologue` or `python` in qfarm.toml"
        )
    return (
        f"{memory.vain} jobs in a row found nothing that they could do, though stages were ready; "
        "read `qfarm launcher logs`: engines that fail their test, or nodes that are left alone"
    )


def about(seconds: float) -> str:
    """Time in one unit, rounded up.

    Examples
    --------
    >>> about(12.2), about(90.0), about(3600.0), about(5400.0)
    ('13 s', '2 min', '60 min', '2 h')
    """
    for size, unit, most in ((1, "s", 60), (60, "min", 60)):
        number = -int(-seconds // size)
        if number <= most:
            return f"{number} {unit}"
    return f"{-int(-seconds // 3600)} h"


def _ready(situation: Situation) -> str:
    one = situation.ready == 1
    return f"{situation.ready:,} {'stage is' if one else 'stages are'} ready"


def _cancelled(pending: int) -> str:
    if not pending:
        return ""
    return f"; {pending} pending {_verb(pending, 'job is', 'jobs are')} cancelled"


def _jobs(number: int) -> str:
    return f"{number} job" if number == 1 else f"{number} jobs"


def _verb(number: int, one: str, many: str) -> str:
    return one if number == 1 else many
