"""`qfarm status` and `qfarm list`: what they read, say and recommend."""

import json
from datetime import timedelta
from typing import Any

import pytest

from qfarm.cli.listing import print_json as list_json
from qfarm.cli.listing import show as list_show
from qfarm.cli.status import Status, as_dict, grouped, next_step, show
from qfarm.store.protocol import Row, Running, StageCount, StageState
from qfarm_schemas.attempt import Rung
from support.build import NOW, WORKER
from support.screen import printed
from support.view import row

RUNNING = Running(
    fragment_id="f" + "a" * 64,
    key="w1.sp",
    stage="sp",
    number=2,
    rung=Rung(scf="damped"),
    worker=WORKER,
    claimed=NOW - timedelta(minutes=2),
    lease_ends=NOW + timedelta(seconds=40),
)


def status(counts: dict[StageState, int], **fields: Any) -> Status:
    base: dict[str, Any] = {
        "counts": tuple(StageCount("sp", state, number) for state, number in counts.items()),
        "workflows": {"READY": 2, "FIZZLED": 0},
        "running": (),
        "failures": (),
        "refused": 0,
        "now": NOW,
    }
    return Status(**(base | fields))


def failed(reason: str, fragment: str = "f1") -> Row:
    return row(state=StageState.FAILED, reason=reason, remedy="cure", fragment_id=fragment)


def test_failures_are_grouped_by_reason_without_its_numbers() -> None:
    rows = [
        failed("no convergence after 60 iterations", "f1"),
        row(state=StageState.WAITING),
        failed("gap of -0.3 eV", "f2"),
        failed("no convergence after 100 iterations", "f3"),
    ]
    first, second = grouped(rows)
    assert (first.count, first.reason, first.example) == (2, rows[0].reason, "f1")
    assert (second.count, second.remedy) == (1, "cure")


@pytest.mark.parametrize(
    ("counts", "running", "expected"),
    [
        ({}, (), "qfarm submit"),
        ({StageState.READY: 2, StageState.WAITING: 3}, (), "5 stages to compute: qfarm run"),
        ({StageState.RUNNING: 1, StageState.FAILED: 1}, (RUNNING,), "1 attempt under way"),
        ({StageState.FAILED: 1, StageState.WAITING: 1}, (), "qfarm retry"),
        ({StageState.DONE: 4, StageState.CANCELLED: 1}, (), "qfarm export"),
    ],
)
def test_next_step(counts: dict[StageState, int], running: tuple[Running], expected: str) -> None:
    assert expected in next_step(status(counts, running=running))


def test_status_table_running_and_failures() -> None:
    found = status(
        {StageState.DONE: 3, StageState.FAILED: 1, StageState.RUNNING: 1},
        running=(RUNNING,),
        failures=grouped([failed("too [hot]")]),
        refused=1,
    )
    shown = [" ".join(line.split()) for line in printed(lambda c: show(found, c)).splitlines()]
    assert "sp 0 0 1 3 1 0 5" in shown
    assert "Workflows in FireWorks: READY 2" in shown
    assert "faaaaaaaaaa sp 2 damped node1 4711 2 min 00 s 40.0 s left" in shown
    assert "1 too [hot] cure f1" in shown
    assert "1 queue entry not of qfarm's making: refused, never run." in shown


def test_a_lease_that_ended() -> None:
    found = status({StageState.RUNNING: 1}, running=(RUNNING,), now=NOW + timedelta(seconds=45))
    assert "ended 5.0 s ago" in printed(lambda console: show(found, console))


def test_status_as_json() -> None:
    found = json.loads(json.dumps(as_dict(status({StageState.DONE: 3}, running=(RUNNING,)))))
    assert found["stages"]["sp"]["done"] == 3
    assert found["stages"]["sp"]["failed"] == 0
    assert found["workflows"] == {"READY": 2, "FIZZLED": 0}
    assert found["running"][0]["elapsed_seconds"] == 120.0


def test_list_takes_user_data_literally(capsys: pytest.CaptureFixture[str]) -> None:
    list_show([row(state=StageState.FAILED, reason="see [bold]this[/bold]")], 0)
    shown = capsys.readouterr()
    assert "s22,[red]" in shown.out
    assert "see [bold]this[/bold]" in shown.out
    assert "\x1b" not in shown.out
    assert shown.err == ""


def test_list_limit_says_that_there_is_more(capsys: pytest.CaptureFixture[str]) -> None:
    list_show([row(fragment_id=f"f{i}") for i in range(3)], 2)
    shown = capsys.readouterr()
    assert "f1" in shown.out
    assert "f2" not in shown.out
    assert "--limit 0" in shown.err
    list_show([row()], 1)
    assert capsys.readouterr().err == ""


def test_list_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    list_show([], 10)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "No stage matches" in shown.err


def test_list_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    list_json([row(), row(stage="other")])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["stage"] for one in found] == ["single_point", "other"]
    assert found[0]["state"] == "ready"
    assert found[0]["updated"].startswith("2026-01-01")
