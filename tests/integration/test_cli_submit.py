"""`qfarm submit` on a real MongoDB: whole batches or nothing, and no fragment twice."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pytest

from qfarm.intake import chunks
from qfarm.plan import Plan
from qfarm.store.protocol import Added, Selection, Store
from support.farm import Desk, desk, qfarm
from support.intake import frame_text
from support.wait import until
from support.work import give_up, states, take, work_off

__all__ = ["desk"]

HELIUM = ("He 0 0 0", "He 0 0 3")
WATER = frame_text("charge=0 multiplicity=1 class=water tags=s22")


def helium(index: int) -> str:
    return frame_text("class=rare", ("He 0 0 0", f"He 0 0 {3 + index / 100}"))


def test_submit_then_submit_again(desk: Desk) -> None:
    path = desk.file(WATER, helium(0), WATER)
    first = desk.run("submit", path, "--tag", "run1")
    assert first.code == 0, first.err
    assert "water 3 GFN2-xTB, then PBE0+MBD/tight 1 0 1 0" in first.out
    assert "rare 2 GFN2-xTB, then PBE0+MBD/tight 1 0 0 0" in first.out
    assert "2 fragments submitted. Next: qfarm run" in first.err
    assert states(desk.store) == {("preopt", "ready"): 2, ("single_point", "waiting"): 2}
    rows = list(desk.store.rows(Selection()))
    assert rows[0].tags == ("s22", "run1")
    assert {row.fragment_class for row in rows} == {"water", "rare"}

    again = desk.run("submit", path)
    assert again.code == 0
    assert "water 3 GFN2-xTB, then PBE0+MBD/tight 0 1 1 0" in again.out
    assert "Nothing new" in again.err
    assert len(list(desk.store.rows(Selection()))) == 4


def test_new_limits_reach_failed_stages_with_retry(desk: Desk) -> None:
    path = desk.file(WATER, helium(0))
    desk.run("submit", path)
    give_up(desk.store, take(desk.store))
    shipped = (files("qfarm") / "protocols" / "open.toml").read_text()
    assert shipped.count("time_limit = 7200.0") == 1
    longer = desk.folder / "longer.toml"
    renamed = shipped.replace('name = "open"', 'name = "longer"')
    longer.write_text(renamed.replace("time_limit = 7200.0", "time_limit = 7201.0"))
    said = desk.run("submit", path, "--protocol", longer)
    assert said.code == 0, said.err
    assert "2 known (limits updated: 2)." in said.err
    assert "qfarm retry" in said.err
    assert states(desk.store)["preopt", "failed"] == 1
    desk.run("retry", "--all-failed", "--yes")
    claims = [take(desk.store) for _ in range(2)]
    assert [claim.stage.time_limit for claim in claims] == [7201.0, 7201.0]
    again = desk.run("submit", path, "--protocol", longer, "--json")
    assert json.loads(again.raw)["updated"] == 0


@pytest.mark.parametrize("priority", [-1001, 1001, 10**30])
@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_priority_has_bounds(desk: Desk, priority: int, dry_run: tuple[str, ...]) -> None:
    path = desk.file(WATER)
    said = desk.run("submit", path, "--priority", priority, *dry_run)
    assert said.code == 2
    assert "--priority" in said.err
    assert states(desk.store) == {}


@pytest.mark.parametrize("priority", [-1000, 1000])
def test_priorities_at_the_bounds_are_taken(desk: Desk, priority: int) -> None:
    assert desk.run("submit", desk.file(WATER), "--priority", priority).code == 0


def test_another_protocol_makes_other_workflows(desk: Desk) -> None:
    path = desk.file(WATER)
    desk.run("submit", path)
    said = desk.run("submit", path, "--protocol", "open-single-point")
    assert "1 fragment submitted" in said.err
    assert states(desk.store)["single_point", "ready"] == 1


def test_a_bad_frame_rejects_the_whole_batch(desk: Desk) -> None:
    path = desk.file(WATER, frame_text("charge=1"), helium(0))
    said = desk.run("submit", path)
    assert said.code == 1
    assert f"{path}, frame 2 (line 6): 9 electrons (charge 1) cannot be a singlet" in said.err
    assert "1 frame of 3 rejected; nothing was written." in said.err
    assert states(desk.store) == {}


def test_skip_invalid_takes_the_rest(desk: Desk) -> None:
    path = desk.file(WATER, frame_text("charge=1"), helium(0), "junk\n")
    said = desk.run("submit", path, "--skip-invalid", "--rejects", desk.folder / "bad.txt")
    # The last frame before the junk is suspect: its atom count may be what is wrong.
    assert said.code == 0, said.err
    assert "1 fragment submitted" in said.err
    problems = (desk.folder / "bad.txt").read_text().splitlines()
    assert [line.split(",")[1].strip() for line in problems] == [
        "frame 2 (line 6): 9 electrons (charge 1) cannot be a singlet",
        "frame 3 (line 11): it announces 2 atoms",
    ]


def test_nothing_valid_is_an_error_even_when_skipping(desk: Desk) -> None:
    said = desk.run("submit", desk.file("junk\n"), "--skip-invalid")
    assert said.code == 1
    assert states(desk.store) == {}


def test_an_element_beyond_the_engine_is_refused(desk: Desk) -> None:
    said = desk.run("submit", desk.file(frame_text("", ("I 0 0 0", "I 0 0 2.67"))))
    assert said.code == 1
    assert "an engine cannot do it (1):" in said.err
    assert "stage 'single_point' (pyscf): elements Z = 53" in said.err


def test_dry_run_writes_nothing_and_asks_the_database(desk: Desk) -> None:
    desk.run("submit", desk.file(WATER))
    before = sorted(desk.folder.iterdir())
    said = desk.run("submit", desk.file(WATER, helium(0)), "--dry-run", "--json")
    assert said.code == 0
    found = json.loads(said.raw)
    assert found["counts"] == {"new": 1, "known": 1, "duplicate": 0, "rejected": 0}
    assert (found["database_asked"], found["written"]) == (True, 0)
    assert states(desk.store) == {("preopt", "ready"): 1, ("single_point", "waiting"): 1}
    assert sorted(desk.folder.iterdir()) == before


def test_dry_run_without_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.xyz").write_text(WATER)
    said = qfarm("submit", "a.xyz", "--dry-run")
    assert said.code == 0
    assert "The database was not asked" in said.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.xyz"]
    assert qfarm("submit", "a.xyz").code == 1
    assert "qfarm up" in qfarm("submit", "a.xyz").err


def test_json_of_a_rejected_batch(desk: Desk) -> None:
    said = desk.run("submit", desk.file(frame_text("spin=2")), "--json")
    assert said.code == 1
    found = json.loads(said.raw)
    assert found["accepted"] is False
    assert found["problems"][0]["kind"] == "parity"
    assert found["problems"][0]["frame"] == 1


def test_a_submission_that_was_cut_off_is_completed_by_the_same_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks are written one by one; what was written counts as known the next time."""
    monkeypatch.setattr(chunks, "CHUNK", 3)
    path = desk.file(*(helium(i) for i in range(10)))
    adds: list[int] = []

    def add(self: Store, plans: Sequence[Plan], priority: int = 0) -> Added:
        if len(adds) == 2:
            raise KeyboardInterrupt
        adds.append(len(plans))
        return real(self, plans, priority)

    real = type(desk.store).add
    with monkeypatch.context() as patched:
        patched.setattr(type(desk.store), "add", add)
        assert desk.run("submit", path).code == 130
    assert states(desk.store)["preopt", "ready"] == 6
    said = desk.run("submit", path)
    assert "rare 2 GFN2-xTB, then PBE0+MBD/tight 4 6 0 0" in said.out
    assert states(desk.store)["preopt", "ready"] == 10
    assert len(work_off(desk.store)) == 20


def test_priority_runs_earlier(desk: Desk) -> None:
    desk.run("submit", desk.file(helium(0)))
    desk.run("submit", desk.file(WATER, name="b.xyz"), "--priority", 5)
    order = work_off(desk.store)
    first = next(row for row in desk.store.rows(Selection()) if row.key == order[0])
    assert first.fragment_class == "water"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.xyz",), "missing.xyz cannot be read"),
        (("a.xyz", "--class", "two words"), "no name for a class or a tag"),
        (("a.xyz", "--tag", "007"), "no name for a class or a tag"),
        (("a.xyz", "--protocol", "qm9"), "no protocol and no file 'qm9'"),
        (("a.xyz", "--rejects", "no/such/folder/f"), "cannot be written"),
    ],
)
def test_wrong_arguments(desk: Desk, arguments: tuple[str, ...], message: str) -> None:
    desk.file(WATER)
    said = desk.run("submit", *arguments)
    assert said.code == 1
    assert message in said.err
    assert states(desk.store) == {}


def test_kill_9_in_the_middle_loses_and_doubles_nothing(desk: Desk) -> None:
    """A real process dies while it writes; the same command completes the batch."""
    total = 2500
    path = desk.file(*(helium(i) for i in range(total)))
    process = subprocess.Popen(
        [sys.executable, "-c", "from qfarm.cli import main; main()", "submit", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(desk.store.workflow_counts, seconds=60)
    finally:
        process.kill()
        process.wait()
    written = sum(desk.store.workflow_counts().values())
    assert 0 < written < total
    said = desk.run("submit", path)
    assert f"{total - written:,} fragments submitted" in said.err
    rows = list(desk.store.rows(Selection()))
    assert len(rows) == 2 * total
    assert len({row.fragment_id for row in rows}) == total
