"""``qfarm status``: how far the farm is, what runs, what failed, what to do next."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from qfarm.cli.console import stdout
from qfarm.cli.farm import open_farm
from qfarm.cli.table import fitted
from qfarm.cli.untaken import untaken
from qfarm.cli.wording import RUN, SHORTEST_ID, counted, duration, rung_words, working
from qfarm.store.protocol import Row, Running, Selection, StageCount, StageState, Store
from qfarm_schemas.config import Partition
from qfarm_workers.identity import launched

FAILURES_READ: Final = 10_000
"""Failed stages that are grouped; more would make `status` slow and change nothing."""

GROUPS_SHOWN: Final = 5
RUNNING_SHOWN: Final = 20


@dataclass(frozen=True)
class FailureGroup:
    """Failed stages whose reasons differ in numbers only."""

    count: int
    reason: str  # of the first of them
    remedy: str
    example: str  # fragment id


@dataclass(frozen=True)
class Status:
    """All that `qfarm status` tells.

    Attributes
    ----------
    counts : tuple of StageCount
        Stages by name and state.
    workflows : mapping
        Workflows by FireWorks' states.
    running : tuple of Running
        Attempts under way.
    failures : tuple of FailureGroup
        Failed stages.
    refused : int
        Queue entries that are not qfarm's own.
    now : datetime
        When all this was so (UTC).
    launched : bool
        Whether a launcher lives.
    untaken : tuple of str
        Ready stages that no partition takes, a line each.
    work : str
        Command that computes what waits.
    """

    counts: tuple[StageCount, ...]
    workflows: Mapping[str, int]
    running: tuple[Running, ...]
    failures: tuple[FailureGroup, ...]
    refused: int
    now: datetime
    launched: bool = False
    untaken: tuple[str, ...] = ()
    work: str = RUN

    def total(self, *states: StageState) -> int:
        """Stages in one of these states."""
        return sum(count.count for count in self.counts if count.state in states)


def command(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts.")] = False,
) -> None:
    """Count stages by state; show running attempts, failures and what to do next."""
    with open_farm() as (farm, store):
        status = read(store, farm.config.partitions)
    if as_json:
        json.dump(as_dict(status), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show(status, stdout())


def read(store: Store, partitions: Sequence[Partition] = ()) -> Status:
    """Ask the store."""
    counts = store.counts()
    failed = any(c.count for c in counts if c.state is StageState.FAILED)
    ready = any(c.count for c in counts if c.state is StageState.READY)
    return Status(
        counts=counts,
        workflows=store.workflow_counts(),
        running=store.running(),
        failures=grouped(store.rows(Selection(state=StageState.FAILED))) if failed else (),
        refused=len(store.refusals()),
        now=datetime.now(UTC),
        launched=any(launched(standing) for standing in store.fleet.standings()),
        untaken=untaken(store.fleet, partitions) if ready and partitions else (),
        work=working(partitions),
    )


def grouped(rows: Iterable[Row]) -> tuple[FailureGroup, ...]:
    """Group failed stages by reason, largest group first."""
    failed = (row for row in rows if row.state is StageState.FAILED)
    first: dict[str, Row] = {}
    counts: Counter[str] = Counter()
    for row in islice(failed, FAILURES_READ):
        pattern = _NUMBER.sub("#", row.reason)
        first.setdefault(pattern, row)
        counts[pattern] += 1
    return tuple(
        FailureGroup(number, first[p].reason, first[p].remedy, first[p].fragment_id)
        for p, number in counts.most_common()
    )


def next_step(status: Status) -> str:
    """One line: what the user does next."""
    waiting = status.total(StageState.READY, StageState.WAITING)
    failed = status.total(StageState.FAILED)
    if not status.total(*StageState):
        return "The farm is empty: qfarm submit FILE"
    ended = sum(attempt.lease_ends < status.now for attempt in status.running)
    if ended and ended == len(status.running):
        by = "the launcher" if status.launched else status.work
        return f"{counted(ended, 'attempt')} without a living worker: {by} takes them over"
    if status.running:
        return f"{counted(len(status.running), 'attempt')} under way; `qfarm status` again later."
    if status.total(StageState.READY):
        then = "qfarm launcher status" if status.launched else status.work
        return f"{counted(waiting, 'stage')} to compute: {then}"
    if failed:
        example = status.failures[0].example[:SHORTEST_ID] if status.failures else "ID"
        return f"See why with qfarm show {example}; then qfarm retry, or qfarm export out.h5"
    return "Nothing waits: qfarm export out.h5"


def show(status: Status, console: Console) -> None:
    """Print for people."""
    if status.counts:
        console.print(_counts(status.counts))
    workflows = ", ".join(f"{name} {n:,}" for name, n in status.workflows.items() if n)
    console.print(f"Workflows in FireWorks: {workflows or 'none'}", markup=False)
    if status.running:
        console.print(_running(status))
    if status.failures:
        console.print(_failures(status.failures))
    if status.refused:
        noun = "entry" if status.refused == 1 else "entries"
        console.print(
            f"{status.refused} queue {noun} refused so far, and not run: see `qfarm fsck`."
        )
    for line in status.untaken:
        console.print(line, markup=False)
    console.print(f"Next: {next_step(status)}", markup=False)


def as_dict(status: Status) -> dict[str, Any]:
    """Plain values for scripts."""
    return {
        "stages": _by_stage(status.counts),
        "workflows": dict(status.workflows),
        "running": [_running_dict(attempt, status.now) for attempt in status.running],
        "failures": [vars(group) for group in status.failures],
        "refused": status.refused,
        "untaken": list(status.untaken),
        "next": next_step(status),
    }


def _by_stage(counts: Iterable[StageCount]) -> dict[str, dict[str, int]]:
    stages: dict[str, dict[str, int]] = {}
    for count in counts:
        stages.setdefault(count.stage, dict.fromkeys(StageState, 0))[count.state] += count.count
    return stages


def _counts(counts: Sequence[StageCount]) -> object:
    stages = _by_stage(counts)
    rows = ([name, *by_state.values(), sum(by_state.values())] for name, by_state in stages.items())
    headings = ["stage", *(f">{state}" for state in StageState), ">total"]
    present = {count.state for count in counts if count.count}
    absent = [state for state in StageState if state not in present]
    return fitted(headings, rows, drop=[*absent, "total"])


def _running(status: Status) -> object:
    shown = status.running[:RUNNING_SHOWN]
    title = f"Running ({len(status.running)})"
    cells = (_running_cells(attempt, status.now) for attempt in shown)
    return fitted(_RUNNING, cells, title, drop=("pid", "rung", "host", "elapsed"))


def _running_cells(attempt: Running, now: datetime) -> tuple[object, ...]:
    left = (attempt.lease_ends - now).total_seconds()
    lease = f"{duration(left)} left" if left >= 0 else f"ended {duration(-left)} ago"
    return (
        attempt.fragment_id[:SHORTEST_ID],
        attempt.stage,
        attempt.number,
        rung_words(attempt.rung),
        attempt.worker.host,
        attempt.worker.pid,
        duration(_elapsed(attempt, now)),
        lease,
    )


def _running_dict(attempt: Running, now: datetime) -> dict[str, Any]:
    return {
        "fragment_id": attempt.fragment_id,
        "stage": attempt.stage,
        "attempt": attempt.number,
        "rung": rung_words(attempt.rung),
        "host": attempt.worker.host,
        "pid": attempt.worker.pid,
        "worker": attempt.worker.name,
        "partition": attempt.worker.partition,
        "elapsed_seconds": _elapsed(attempt, now),
        "lease_ends": attempt.lease_ends.isoformat(),
    }


def _elapsed(attempt: Running, now: datetime) -> float:
    return max(0.0, (now - attempt.claimed).total_seconds())


def _failures(groups: tuple[FailureGroup, ...]) -> object:
    rows = (
        (group.count, group.reason, group.remedy, group.example[:SHORTEST_ID])
        for group in groups[:GROUPS_SHOWN]
    )
    rest = len(groups) - GROUPS_SHOWN
    title = "Failures" if rest <= 0 else f"Failures (and {counted(rest, 'other reason')})"
    return fitted(_FAILURES, rows, title, below=("reason", "what to do"))


_RUNNING: Final = ("fragment", "stage", ">attempt", "rung", "host", ">pid", ">elapsed", "lease")

_FAILURES: Final = (">stages", "reason", "what to do", "for instance")

_NUMBER: Final = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
