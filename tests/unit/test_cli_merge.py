"""What `qfarm merge` says: what was done, how far two farms agree, what to do next."""

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from qfarm.cli.merge import show, warnings
from qfarm.store.merge import Apart, Kind, Merged

NOTHING: dict[str, Any] = {
    "file": "there.backup",
    "database": "theirs",
    "taken": datetime(2026, 1, 1, tzinfo=UTC),
    "dry_run": False,
    "new": 0,
    "known": 0,
    "left_out": 0,
    "unsound": 0,
    "foreign": 0,
    "reasons": (),
    "added": {},
    "were_running": 0,
    "stages": {},
    "apart": {},
}


def merged(**fields: object) -> Merged:
    return Merged(**(NOTHING | fields))


def printed(one: Merged) -> str:
    file = io.StringIO()
    show(one, Console(file=file, width=120))
    return file.getvalue()


def test_what_was_added() -> None:
    text = printed(merged(new=1200, known=3, added={"done": 2000, "to compute": 400}))
    assert "1,200 workflows added (2,400 stages: 2,000 done, 400 to compute), 3 known here" in text
    assert "dry-run" not in text
    assert "both farms" not in text


def test_dry_run_says_would() -> None:
    text = printed(merged(new=1, dry_run=True))
    assert "1 workflow would be added" in text
    assert "Nothing was written" in text


def test_how_far_two_farms_agree() -> None:
    apart = Apart(energy=0.00125, force=0.02, shift=0.5, fragment_id="f" + "7" * 64)
    text = printed(
        merged(
            known=4,
            stages={"preopt": {Kind.SAME: 1, Kind.DIFFERENT: 3}, "single_point": {Kind.ADOPTED: 4}},
            apart={"preopt": apart},
        )
    )
    assert "4 stages of known workflows adopted" in text
    table = [line.split() for line in text.splitlines()]
    assert ["stage", "same", "both", "adopted"] in table
    assert ["preopt", "1", "3", "0"] in table
    assert ["preopt", "1.25e-03", "2.00e-02", "5.00e-01", "f7777777777"] in table


def test_what_was_put_back() -> None:
    text = printed(merged(known=9, lacked=2, dry_run=True))
    assert "2 known workflows whose fragment or stages were missing here: would be put back" in text
    assert "missing" not in printed(merged(known=9))


def test_nothing_to_warn_of() -> None:
    assert list(warnings(merged(new=3))) == []


def test_every_warning_says_what_to_do() -> None:
    stages = {"preopt": {Kind.RUNNING: 1, Kind.APART: 2}}
    numbers = {"were_running": 2, "unsound": 1, "foreign": 1, "left_out": 7}
    lines = list(warnings(merged(stages=stages, reasons=("w1: forged",), **numbers)))
    for part, line in zip(
        (
            "2 stages ran in the other farm",
            "Run the same merge again later",
            "2 stages done there began at another geometry",
            "run `qfarm fsck`, then merge again",
            "1 queue entry of the file",
            "w1: forged",
        ),
        lines,
        strict=True,
    ):
        assert part in line
