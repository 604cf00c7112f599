"""The live view of `qfarm run`: counts, current attempts, rate; a table or plain lines."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from qfarm.cli.wording import SHORTEST_ID, duration, rung_words
from qfarm.store.protocol import Running, StageCount, StageState
from qfarm_launchers.launcher import Look
from qfarm_schemas.attempt import Failure

WINDOW: Final = 300.0
"""s: the rate is that of the last five minutes."""

PLAIN_SECONDS: Final = 5.0
"""Seconds between two plain lines at least."""

MOST_RUNNING: Final = 12
"""Attempts that the table shows; of more it gives the number."""

_ENDED: Final = (StageState.DONE, StageState.FAILED)
_GOING: Final = (StageState.READY, StageState.RUNNING)
_HINT: Final = "Ctrl-C: finish what runs, then stop. Twice: stop at once."
_DRAINING: Final = "Finishing what runs, then stopping. Ctrl-C again: stop at once."

Show = Callable[[Look], None]


@dataclass
class Pace:
    """How fast stages end.

    Attributes
    ----------
    clock : callable
        Monotonic seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, counts: tuple[StageCount, ...]) -> None:
        """Take note of a look."""
        now = self.clock()
        self._seen.append((now, number(counts, *_ENDED)))
        while now - self._seen[0][0] > WINDOW:
            self._seen.popleft()

    @property
    def per_minute(self) -> float:
        """Stages ended a minute; 0 while that is unknown."""
        if len(self._seen) < 2:
            return 0.0
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        return max(0.0, 60 * (after - before) / (end - start)) if end > start else 0.0

    def left(self, counts: tuple[StageCount, ...]) -> float | None:
        """Seconds until every open stage has ended at this rate; None while that is unknown."""
        rate = self.per_minute
        return 60 * still_open(counts) / rate if rate else None


@contextmanager
def view(console: Console, plain: bool) -> Iterator[Show]:
    """Show looks as a live table, or as plain lines."""
    if plain:
        yield _Lines(console)
        return
    pace = Pace()
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(look: Look) -> None:
            for line in notices(look):
                live.console.print(line, soft_wrap=True)
            pace.add(look.counts)
            live.update(render(look, pace, datetime.now(UTC)), refresh=True)

        yield show


@dataclass
class _Lines:
    """Writes a line when something changed, but not too often."""

    console: Console
    pace: Pace = field(default_factory=Pace)
    _last: str = ""
    _at: float = 0.0
    _draining: bool = False

    def __call__(self, look: Look) -> None:
        self.pace.add(look.counts)
        for notice in notices(look):
            self._print(notice)
        if look.draining and not self._draining:
            self._draining = True
            self._print(_DRAINING)
        text = line(look, self.pace)
        now = time.monotonic()
        if text != self._last and now - self._at >= PLAIN_SECONDS:
            self._last, self._at = text, now
            self._print(text)

    def _print(self, text: str) -> None:
        at = datetime.now(UTC).strftime("%H:%M:%S")
        self.console.print(Text(f"{at} {text}"), soft_wrap=True)


def number(counts: tuple[StageCount, ...], *states: StageState) -> int:
    """Stages in one of the states."""
    return sum(count.count for count in counts if count.state in states)


def still_open(counts: tuple[StageCount, ...]) -> int:
    """Stages that will still be worked on, if nothing fails from now on.

    A stage that waits is released only if a stage before it in its workflow is ready or runs: of
    each workflow at most one is, so counting these counts the workflows that go on.
    """
    going = total = 0
    for name in _stages(counts):
        own = tuple(count for count in counts if count.stage == name)
        total += min(going, number(own, StageState.WAITING))
        going += number(own, *_GOING)
    return total + going


def line(look: Look, pace: Pace) -> str:
    """One line for a log."""
    if look.trouble:
        return look.trouble.splitlines()[0]
    stages = ", ".join(_stage_line(look.counts, name) for name in _stages(look.counts))
    return f"{stages}; {_speed(look, pace)}"


def notices(look: Look) -> list[str]:
    """What happened since the last look and should stay on the screen."""
    return [
        f"attempt {attempt.number} at {attempt.fragment_id[:SHORTEST_ID]} {attempt.stage}: "
        f"{attempt.outcome.cause}"
        for attempt in look.reaped
        if isinstance(attempt.outcome, Failure)
    ]


def render(look: Look, pace: Pace, now: datetime) -> RenderableType:
    """The table of counts, the current attempts and the rate."""
    if look.trouble:
        return Text(f"{look.trouble}\nWaiting for it.", style="yellow")
    hint = Text(_DRAINING if look.draining else _HINT, style="dim")
    speed = Text(_speed(look, pace))
    return Group(_counts(look.counts), _attempts(look.running, now), speed, hint)


def _counts(counts: tuple[StageCount, ...]) -> Table:
    table = Table("stage", *(state.value for state in StageState), box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    cells = {(count.stage, count.state): count.count for count in counts}
    for name in _stages(counts):
        found = (cells.get((name, state), 0) for state in StageState)
        table.add_row(name, *(str(count) if count else "." for count in found))
    return table


def _attempts(running: tuple[Running, ...], now: datetime) -> Table:
    table = Table(
        "fragment", "stage", "attempt", "rung", "worker", "elapsed", box=None, pad_edge=False
    )
    for attempt in running[:MOST_RUNNING]:
        table.add_row(
            attempt.fragment_id[:SHORTEST_ID],
            attempt.stage,
            str(attempt.number),
            rung_words(attempt.rung),
            f"{attempt.worker.host}:{attempt.worker.pid}",
            duration((now - attempt.claimed).total_seconds()),
        )
    if len(running) > MOST_RUNNING:
        table.add_row(f"and {len(running) - MOST_RUNNING} more")
    return table


def _speed(look: Look, pace: Pace) -> str:
    left = pace.left(look.counts)
    eta = f"about {duration(left)} left" if left is not None else "time left unknown"
    return f"{pace.per_minute:.1f} stages a minute, {eta}"


def _stages(counts: tuple[StageCount, ...]) -> list[str]:
    return list(dict.fromkeys(count.stage for count in counts))


def _stage_line(counts: tuple[StageCount, ...], name: str) -> str:
    states = [count for count in counts if count.stage == name and count.count]
    return f"{name}: " + " ".join(f"{count.count} {count.state.value}" for count in states)
