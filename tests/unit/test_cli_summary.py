"""What `qfarm submit` says about a batch."""

from pathlib import Path
from typing import Any

from qfarm.cli.summary import PROBLEMS_SHOWN, Submission, problem_lines, show
from qfarm.intake import Batch, Problem, Spool, Where, open_spool
from qfarm.intake.problem import Flaw, Kind
from qfarm.store.protocol import Added
from support.intake import frame_text, read_file
from support.screen import printed

HELIUM = ("He 0 0 0", "He 0 0 3")


def batch(tmp_path: Path, *texts: str) -> Batch:
    path = tmp_path / "[b].xyz"
    path.write_text("".join(texts))
    with open_spool() as handle:
        return read_file(path, Spool(handle))


def submission(found: Batch, **fields: Any) -> Submission:
    base: dict[str, Any] = {
        "batch": found,
        "protocol": "small",
        "accepted": True,
        "dry_run": False,
        "database_asked": True,
        "added": Added(2, 0),
    }
    return Submission(**(base | fields))


def text(result: Submission) -> str:
    return printed(lambda console: show(result, console, console))


def test_accepted(tmp_path: Path) -> None:
    found = batch(tmp_path, frame_text("class=a"), frame_text("class=a", HELIUM), frame_text())
    shown = text(submission(found))
    row = next(line for line in shown.splitlines() if line.startswith(" a ") or "2-3" in line)
    assert row.split() == ["a", "2-3", "GFN2-xTB,", "then", "PBE0+MBD/tight", "2", "0", "0", "0"]
    assert shown.splitlines()[-1] == "2 fragments submitted. Next: qfarm run"
    total = next(line for line in shown.splitlines() if line.strip().startswith("all"))
    assert total.split() == ["all", "2", "0", "1", "0"]


def test_rejected_names_file_and_frame_literally(tmp_path: Path) -> None:
    found = batch(tmp_path, frame_text(), frame_text("charge=1"))
    shown = text(submission(found, accepted=False, added=Added(0, 0)))
    assert f"{tmp_path}/[b].xyz, frame 2 (line 6): 9 electrons" in shown
    assert "1 frame of 2 rejected; nothing was written." in shown
    assert "--skip-invalid" in shown
    assert "submitted" not in shown


def test_dry_run_without_a_database(tmp_path: Path) -> None:
    found = batch(tmp_path, frame_text())
    shown = text(submission(found, dry_run=True, database_asked=False, added=Added(0, 0)))
    assert "The database was not asked" in shown
    assert "Dry run: 1 fragment would be submitted." in shown


def test_nothing_new(tmp_path: Path) -> None:
    shown = text(submission(batch(tmp_path, frame_text()), added=Added(0, 1)))
    assert "1 known (limits updated: 0)." in shown
    assert "Nothing new" in shown
    assert "retry" not in shown


def test_new_limits_and_what_to_do_next(tmp_path: Path) -> None:
    shown = text(submission(batch(tmp_path, frame_text()), added=Added(0, 1200, 30)))
    assert "1,200 known (limits updated: 30)." in shown
    assert "with qfarm retry; then qfarm run" in shown
    assert "Nothing new" not in shown
    both = text(submission(batch(tmp_path, frame_text()), added=Added(2, 1, 1)))
    assert both.splitlines()[-1] == "2 fragments submitted. Next: qfarm run"
    assert "qfarm retry" in both


def test_problems_are_grouped_and_capped() -> None:
    def problem(frame: int, kind: Kind) -> Problem:
        return Problem(Where("a.xyz", frame, frame), Flaw(kind, "wrong", "Mend it."))

    mixed = [problem(i, Kind.OVERLAP if i % 2 else Kind.CHARGE) for i in range(1, 101)]
    lines = list(problem_lines(mixed))
    assert lines[0] == "charge (50):"
    assert lines[1] == "  a.xyz, frame 2 (line 2): wrong. Mend it."
    assert len([line for line in lines if line.startswith("  ")]) == PROBLEMS_SHOWN
    assert lines[-1] == "... and 50 more problems: --rejects FILE writes every one."
    assert [line for line in problem_lines(mixed[:2]) if not line.startswith(" ")] == [
        "charge (1):",
        "overlapping atoms (1):",
    ]


def test_json_holds_everything(tmp_path: Path) -> None:
    found = batch(tmp_path, frame_text("class=a"), frame_text("charge=1 class=a"))
    plain = submission(found, accepted=False, added=Added(0, 0)).as_dict()
    assert plain["counts"] == {"new": 1, "known": 0, "duplicate": 0, "rejected": 1}
    assert plain["groups"][0]["levels"] == ["GFN2-xTB", "PBE0+MBD/tight"]
    assert plain["problems"][0]["frame"] == 2
    assert plain["problems"][0]["kind"] == "parity"
    assert (plain["accepted"], plain["written"]) == (False, 0)
