"""`qfarm status` and `qfarm list`: what they read, say and recommend."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from qfarm.cli.console import stdout_unlimited
from qfarm.cli.listing import print_json as list_json
from qfarm.cli.listing import show as list_show
from qfarm.cli.status import Status, as_dict, grouped, next_step, show
from qfarm.cli.wording import working
from qfarm.store.protocol import Row, Running, StageCount, StageState
from qfarm_schemas.attempt import Rung
from qfarm_schemas.config import Partition
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
LOST = replace(RUNNING, lease_ends=NOW - timedelta(seconds=70))


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
        ({StageState.RUNNING: 1}, (LOST,), "without a living worker: qfarm run takes"),
        ({StageState.RUNNING: 2}, (LOST, RUNNING), "2 attempts under way"),
        ({StageState.FAILED: 1, StageState.WAITING: 1}, (), "qfarm retry"),
        ({StageState.DONE: 4, StageState.CANCELLED: 1}, (), "qfarm export"),
    ],
)
def test_next_step(counts: dict[StageState, int], running: tuple[Running], expected: str) -> None:
    assert expected in next_step(status(counts, running=running))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"work": "qfarm launch"}, "1 stage to compute: qfarm launch"),
        ({"work": "qfarm launch", "launched": True}, "1 stage to compute: qfarm launcher status"),
        ({"work": "qfarm launch", "running": (LOST,)}, "worker: qfarm launch takes them over"),
        ({"launched": True, "running": (LOST,)}, "worker: the launcher takes them over"),
    ],
)
def test_next_step_on_clusters(fields: dict[str, Any], expected: str) -> None:
    assert next_step(status({StageState.READY: 1}, **fields)).endswith(expected)


@pytest.mark.parametrize(
    ("schedulers", "expected"),
    [
        ((), "qfarm run"),
        (("local", "local"), "qfarm run"),
        (("local", "oar"), "qfarm launch"),
    ],
)
def test_work_is_launched_where_there_is_a_scheduler(
    schedulers: tuple[str, ...], expected: str
) -> None:
    assert working(Partition.model_validate({"scheduler": one}) for one in schedulers) == expected


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
    assert "1 queue entry refused so far, and not run: see `qfarm fsck`." in shown


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
    list_show([row(state=StageState.FAILED, reason="see [bold]this[/bold]")], 0, stdout_unlimited())
    shown = capsys.readouterr()
    assert "s22,[red]" in shown.out
    assert "see [bold]this[/bold]" in shown.out
    assert "\x1b" not in shown.out
    assert shown.err == ""


def test_list_limit_says_that_there_is_more(capsys: pytest.CaptureFixture[str]) -> None:
    list_show([row(fragment_id=f"f{i}") for i in range(3)], 2, stdout_unlimited())
    shown = capsys.readouterr()
    assert "f1" in shown.out
    assert "f2" not in shown.out
    assert "--limit 0" in shown.err
    list_show([row()], 1, stdout_unlimited())
    assert capsys.readouterr().err == ""


def test_list_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    list_show([], 10, stdout_unlimited())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "No stage matches" in shown.err


REASON = "every rung was tried (diis, newton); the last said: no convergence after 60 iterations"
LISTED = [
    row(fragment_id="f" + "1" * 64, state=StageState.DONE, attempts=1, tags=("water_dimer",)),
    row(
        fragment_id="f" + "2" * 64,
        state=StageState.CANCELLED,
        fragment_class="nucleic-acid",
        formula="C10H12N5O7P",
        n_atoms=35,
        tags=(),
    ),
]
FAILED_TOO = [
    *LISTED,
    row(fragment_id="f" + "3" * 64, state=StageState.FAILED, attempts=12, reason=REASON, tags=()),
]

AT_60 = """
 id            stage          state       attempts
 ─────────────────────────────────────────────────
 f1111111111   single_point   done               1
 f2222222222   single_point   cancelled          0
 f3333333333   single_point   failed            12
  every rung was tried (diis, newton); the last said: no
  convergence after 60 iterations
"""
AT_80 = """
 id            formula       atoms   stage          state       attempts
 ───────────────────────────────────────────────────────────────────────
 f1111111111   H2O               3   single_point   done               1
 f2222222222   C10H12N5O7P      35   single_point   cancelled          0
 f3333333333   H2O               3   single_point   failed            12
  every rung was tried (diis, newton); the last said: no convergence after 60
  iterations
"""
AT_100 = """
 id            class          formula       atoms   stage          state       attempts
 ──────────────────────────────────────────────────────────────────────────────────────
 f1111111111   dimer          H2O               3   single_point   done               1
 f2222222222   nucleic-acid   C10H12N5O7P      35   single_point   cancelled          0
 f3333333333   dimer          H2O               3   single_point   failed            12
  every rung was tried (diis, newton); the last said: no convergence after 60 iterations
"""


@pytest.mark.parametrize(("width", "expected"), [(60, AT_60), (80, AT_80), (100, AT_100)])
def test_list_on_a_narrow_screen(width: int, expected: str) -> None:
    assert printed(lambda console: list_show(FAILED_TOO, 0, console), width) == expected


def test_list_at_200_columns_has_reasons_in_line() -> None:
    lines = printed(lambda console: list_show(FAILED_TOO, 0, console), 200).splitlines()
    # Tags would make 201.
    head = "id            class          formula       atoms   stage          state       attempts"
    assert lines[1] == f" {head}   changed (UTC)      reason"
    assert lines[5] == (
        " f3333333333   dimer          H2O               3   single_point   failed            12"
        f"   2026-01-01 00:00   {REASON}"
    )
    assert len(lines) == 6


def test_list_without_failures_keeps_tags_and_shows_no_column_for_reasons() -> None:
    assert (
        printed(lambda console: list_show(LISTED, 0, console), 200)
        == """
 id            class          formula       atoms   stage          state       attempts   \
changed (UTC)      tags
 ──────────────────────────────────────────────────────────────────────────────────────\
─────────────────────────────────
 f1111111111   dimer          H2O               3   single_point   done               1   \
2026-01-01 00:00   water_dimer
 f2222222222   nucleic-acid   C10H12N5O7P      35   single_point   cancelled          0   \
2026-01-01 00:00
"""
    )


@pytest.mark.parametrize("width", [43, 44, 52, 60, 72, 73, 87, 100, 117, 132, 199, 200, 220])
def test_list_never_breaks_ids_and_states(width: int) -> None:
    lines = printed(lambda console: list_show(FAILED_TOO, 0, console), width).splitlines()
    assert max(map(len, lines)) <= width
    found = {tuple(word for word in line.split() if word in _WHOLE) for line in lines}
    short = [one.fragment_id[:11] for one in FAILED_TOO]
    assert {
        (name, "single_point", one.state) for name, one in zip(short, FAILED_TOO, strict=True)
    } <= found


_WHOLE = {"single_point", *StageState, *(one.fragment_id[:11] for one in FAILED_TOO)}


def test_columns_go_in_order() -> None:
    def headings(width: int) -> set[str]:
        lines = printed(lambda console: list_show(LISTED, 0, console), width).splitlines()
        return set((lines[0] or lines[1]).split()) & {
            "tags",
            "changed",
            "class",
            "atoms",
            "formula",
        }

    seen = [headings(width) for width in range(130, 43, -1)]
    steps = [one for i, one in enumerate(seen) if i == 0 or one != seen[i - 1]]
    left = [min(before - after) for before, after in pairwise(steps)]
    assert left == ["tags", "changed", "class", "atoms", "formula"]


def test_a_pipe_cuts_no_column(capsys: pytest.CaptureFixture[str]) -> None:
    tags = tuple(f"tag_{i}" for i in range(100))
    list_show([row(tags=tags, reason=REASON * 5)], 0, stdout_unlimited())
    line = capsys.readouterr().out.splitlines()[-2]
    assert ",".join(tags) in line
    assert REASON * 5 in line


FAILURES_AT_60 = """
Failures

 stages   for instance
 ─────────────────────
      1   f3333333333
  every rung was tried (diis, newton); the last said: no
  convergence after 60 iterations
  Check the charge and the multiplicity; then `qfarm retry`.

Next"""
FAILURES_AT_200 = f"""
Failures

 stages   {"reason":{len(REASON)}}   what to do{" " * 48}   for instance
 ─────────{"─" * (len(REASON) + 76)}
      1   {REASON}   Check the charge and the multiplicity; then `qfarm retry`.   f3333333333

Next"""


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (60, FAILURES_AT_60),
        (
            80,
            FAILURES_AT_60.replace(" no\n  convergence after 60 ", " no convergence after 60\n  "),
        ),
        (100, FAILURES_AT_60.replace(" no\n  ", " no ")),
        (200, FAILURES_AT_200),
    ],
)
def test_failures_on_a_narrow_screen(width: int, expected: str) -> None:
    remedy = "Check the charge and the multiplicity; then `qfarm retry`."
    groups = grouped([row(**vars(FAILED_TOO[-1]) | {"remedy": remedy})])
    found = status({StageState.FAILED: 1}, failures=groups)
    assert expected in printed(lambda console: show(found, console), width)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_counts_are_never_cut(width: int) -> None:
    counts = tuple(StageCount("single_point", state, 12345) for state in StageState)
    found = replace(status({}), counts=counts)
    shown = printed(lambda c: show(found, c), width).splitlines()
    assert "…" not in "".join(shown)
    (line,) = (line.split() for line in shown if "12345" in line)
    assert line[:7] == ["single_point", *["12345"] * 6]


def test_list_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    list_json([row(), row(stage="other")])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["stage"] for one in found] == ["single_point", "other"]
    assert found[0]["state"] == "ready"
    assert found[0]["updated"].startswith("2026-01-01")
