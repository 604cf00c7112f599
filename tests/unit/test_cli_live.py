"""The live view of `qfarm run`: rate, time left, table and lines."""

import io
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qfarm.cli import live
from qfarm.cli.run import summary
from qfarm.cli.wording import SHORTEST_ID
from qfarm.store.protocol import Running, StageCount, StageState
from qfarm_launchers.launcher import Ending, Look
from qfarm_schemas.attempt import Failure, Rung
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import BasisTier
from support import build

COUNTS = (
    StageCount("preopt", StageState.DONE, 4),
    StageCount("preopt", StageState.RUNNING, 1),
    StageCount("single_point", StageState.DONE, 2),
    StageCount("single_point", StageState.FAILED, 1),
    StageCount("single_point", StageState.WAITING, 3),
)

RUNNING = Running(
    fragment_id=build.WATER.id,
    key="w1.preopt",
    stage="preopt",
    number=2,
    rung=Rung(scf="damped", basis=BasisTier.INTERMEDIATE),
    worker=build.WORKER,
    claimed=build.NOW,
    lease_ends=build.NOW,
)


def ended(number: int) -> tuple[StageCount, ...]:
    return (StageCount("sp", StageState.DONE, number), StageCount("sp", StageState.READY, 10))


def clock(*times: float) -> Callable[[], float]:
    left = list(times)
    return lambda: left.pop(0)


def test_rate_and_time_left() -> None:
    pace = live.Pace(clock(0.0, 30.0, 60.0))
    pace.add(ended(5))
    assert pace.left(ended(5)) is None
    pace.add(ended(6))
    pace.add(ended(7))
    assert pace.per_minute == 2.0
    assert pace.left(ended(7)) == 300.0


def test_the_rate_forgets_what_is_long_ago() -> None:
    pace = live.Pace(clock(0.0, live.WINDOW + 1, live.WINDOW + 61))
    for number in (0, 1000, 1001):
        pace.add(ended(number))
    assert pace.per_minute == 1.0


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 100)), max_size=20))
def test_the_rate_is_never_negative(looks: list[tuple[float, int]]) -> None:
    """A `qfarm retry` while it runs makes ended stages open again."""
    pace = live.Pace(clock(*sorted(at for at, _ in looks)))
    for _, number in looks:
        pace.add(ended(number))
    assert pace.per_minute >= 0


def shown(look: Look) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    now = build.NOW + timedelta(seconds=187)
    console.print(live.render(look, live.Pace(), now))
    return console.export_text()


def test_the_table() -> None:
    text = shown(Look(COUNTS, (RUNNING,), loops=2))
    single_point = next(line for line in text.splitlines() if line.startswith("single_point"))
    assert single_point.split() == ["single_point", "3", ".", ".", "2", "1", "."]
    running = next(line for line in text.splitlines() if build.WATER.id[:SHORTEST_ID] in line)
    for part in ("preopt", "2", "damped, basis intermediate", "node1:4711", "3 min 07 s"):
        assert part in running
    assert "Twice: stop at once" in text


def test_many_attempts_are_counted_not_listed() -> None:
    text = shown(Look(COUNTS, (RUNNING,) * (live.MOST_RUNNING + 3)))
    assert text.count(build.WATER.id[:SHORTEST_ID]) == live.MOST_RUNNING
    assert "and 3 more" in text


def test_an_outage_is_told() -> None:
    assert "Waiting for it." in shown(Look(trouble="MongoDB does not answer\nstart it"))


def test_plain_lines_come_when_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PLAIN_SECONDS", 0.0)
    out = io.StringIO()
    lost = build.attempt(Failure(kind=FailureKind.LOST_WORKER, cause="the worker vanished"))
    with live.view(Console(file=out, width=40), plain=True) as show:
        show(Look(COUNTS))
        show(Look(COUNTS))
        show(Look(COUNTS, reaped=(lost,), draining=True))
        show(Look(COUNTS, draining=True))
        show(Look(trouble="MongoDB does not answer\nstart it"))
    lines = [line.split(" ", 1)[1] for line in out.getvalue().splitlines()]
    assert len(lines) == 4
    assert lines[0].startswith("preopt: 4 done 1 running, single_point: 2 done 1 failed 3 waiting;")
    assert lines[1].endswith("single_point: the worker vanished")
    assert "Ctrl-C again" in lines[2]
    assert lines[3] == "MongoDB does not answer"


def test_the_live_view_leaves_notices_on_the_screen() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    lost = build.attempt(Failure(kind=FailureKind.LOST_WORKER, cause="the worker vanished"))
    with live.view(console, plain=False) as show:
        show(Look(COUNTS, (RUNNING,), reaped=(lost,)))
    assert "the worker vanished" in out.getvalue()
    assert "stages a minute" in out.getvalue()


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        (Ending(COUNTS), ["6 stages done, 1 failed, 3 waiting.", "qfarm list --state failed"]),
        (Ending(COUNTS, stopped=True), ["`qfarm run` goes on"]),
        (Ending(COUNTS[:1]), ["4 stages done, 0 failed, 0 waiting."]),
    ],
)
def test_summary(ending: Ending, says: list[str]) -> None:
    text = "\n".join(summary(ending))
    assert all(part in text for part in says)
    assert "another partition" not in text


def test_summary_of_what_nobody_here_can_do() -> None:
    ready = (StageCount("single_point", StageState.READY, 2),)
    assert "needs another partition" in summary(Ending(ready))[-1]
    stopped = summary(Ending(ready, stopped=True), "qfarm launch")[-1]
    assert stopped == "Stopped by the user: `qfarm launch` goes on from here."


def test_what_waits_behind_a_failure_is_not_counted_as_open() -> None:
    counts = (
        StageCount("preopt", StageState.FAILED, 2),
        StageCount("preopt", StageState.READY, 1),
        StageCount("single_point", StageState.WAITING, 3),
    )
    assert live.still_open(counts) == 2
    assert live.still_open(COUNTS) == 1 + 1


@st.composite
def chains(draw: st.DrawFn) -> tuple[int, list[list[StageState]]]:
    """Workflows of one protocol: some stages done, one in any state, the others wait."""
    length = draw(st.integers(1, 4))
    first = st.sampled_from(["ready", "running", "failed", "cancelled", "done"])
    workflows = []
    for _ in range(draw(st.integers(0, 12))):
        done = draw(st.integers(0, length - 1))
        at = StageState(draw(first))
        rest = StageState.DONE if at is StageState.DONE else StageState.WAITING
        states = [*[StageState.DONE] * done, at, *[rest] * (length - done - 1)]
        if at is StageState.CANCELLED:  # `qfarm cancel` takes all that is not done
            states = [*states[:done], *[at] * (length - done)]
        workflows.append(states)
    return length, workflows


@given(chains())
def test_what_is_open_is_exact_for_chains(drawn: tuple[int, list[list[StageState]]]) -> None:
    length, workflows = drawn
    counts = tuple(
        StageCount(name, state, sum(states[position] is state for states in workflows))
        for position, name in enumerate("dcba"[:length])
        for state in StageState
    )
    going = (StageState.READY, StageState.RUNNING)
    expected = sum(
        sum(state is not StageState.DONE for state in states)
        for states in workflows
        if any(state in going for state in states)
    )
    assert live.still_open(counts) == expected
