"""Restart files: the old or the new, never half, never another level's, never an older worker's."""

import errno
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from qfarm.engines.base import Restart
from qfarm.ladder import Done, GiveUp, Retry
from qfarm_schemas.attempt import Outcome, Rung, Success
from qfarm_schemas.failure import FailureKind
from qfarm_workers import restart
from qfarm_workers.restart import NOTHING, SIZES, Restarts, Spot
from support import build

WHAT = Restart(texts=("geo_end.gen",), files=("D_spin_*.csc",))
KEY = "w1.preopt"
OTHER = "l2"


def spot(number: int, level_id: str = "l1") -> Spot:
    return Spot(KEY, level_id, number)


@pytest.fixture
def restarts(tmp_path: Path) -> Restarts:
    return Restarts(tmp_path / "restart")


@pytest.fixture
def save(restarts: Restarts, tmp_path: Path) -> Callable[[int, str], None]:
    """Save, as attempt `number`, two densities and a geometry that say `content`."""

    def saving(number: int, content: str) -> None:
        folder = tmp_path / f"scratch{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in ("geo_end.gen", "D_spin_01.csc", "D_spin_02.csc", "stdout.txt"):
            (folder / name).write_text(content)
        restarts.save(spot(number), folder, WHAT)

    return saving


def content(restarts: Restarts, number: int, folder: Path) -> str:
    """What attempt `number` would go on from, placed and all the same; empty: nothing."""
    kept = restarts.find(spot(number), WHAT)
    folder.mkdir(exist_ok=True)
    restart.place(kept, folder)
    found = {path.read_text() for path in folder.iterdir()} | set(kept.texts.values())
    assert len(found) <= 1
    assert len(list(folder.iterdir())) in (0, 2)
    return found.pop() if found else ""


def test_what_was_saved_is_found(
    restarts: Restarts, save: Callable[[int, str], None], tmp_path: Path
) -> None:
    save(1, "far")
    kept = restarts.find(spot(2), WHAT)
    assert kept.given == {"geo_end.gen": "far", "D_spin_01.csc": "", "D_spin_02.csc": ""}
    assert kept.files == ("D_spin_01.csc", "D_spin_02.csc")
    restart.place(kept, tmp_path)
    assert (tmp_path / "D_spin_02.csc").read_text() == "far"
    assert not (tmp_path / "geo_end.gen").exists()
    restart.clear(kept, tmp_path)
    assert not (tmp_path / "D_spin_02.csc").exists()


def test_nothing_is_found_where_nothing_was_saved(restarts: Restarts, tmp_path: Path) -> None:
    assert restarts.find(spot(1), WHAT) == NOTHING
    restarts.save(spot(1), tmp_path, WHAT)
    assert not restarts.root.exists()
    restarts.forget(KEY)


def test_another_level_or_stage_sees_nothing(
    restarts: Restarts, save: Callable[[int, str], None]
) -> None:
    save(1, "far")
    assert restarts.find(spot(2, OTHER), WHAT) == NOTHING
    assert restarts.find(Spot("w2.preopt", "l1", 2), WHAT) == NOTHING


def test_the_newest_counts_and_the_older_go(
    restarts: Restarts, save: Callable[[int, str], None], tmp_path: Path
) -> None:
    save(1, "old")
    save(2, "new")
    assert content(restarts, 3, tmp_path / "next") == "new"
    assert [path.name for path in (restarts.root / KEY / "l1").iterdir()] == ["2"]
    restarts.forget(KEY)
    assert content(restarts, 3, tmp_path / "last") == ""


def test_an_attempt_without_files_leaves_what_was_there(
    restarts: Restarts, save: Callable[[int, str], None], tmp_path: Path
) -> None:
    save(1, "old")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "geo_end.gen").touch()
    (empty / "D_spin_01.csc").symlink_to("/etc/hostname")
    restarts.save(spot(2), empty, WHAT)
    assert content(restarts, 3, tmp_path / "next") == "old"


def test_a_worker_that_lost_its_lease_overwrites_nothing(
    restarts: Restarts, save: Callable[[int, str], None], tmp_path: Path
) -> None:
    """Attempt 1 lost its lease; its successor saved, and only then it saves."""
    save(2, "new")
    save(1, "of the lost")
    assert content(restarts, 3, tmp_path / "next") == "new"
    assert content(restarts, 2, tmp_path / "lost") == "of the lost"


class Killed(BaseException):
    """Stands for SIGKILL: no handler of ours may run."""


def test_a_kill_at_any_moment_leaves_the_old_or_the_new(
    restarts: Restarts,
    save: Callable[[int, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for last in range(1, 20):
        restarts.forget(KEY)
        save(1, "old")
        with monkeypatch.context() as patch:
            calls = die_at(last, patch)
            with suppress(Killed):
                save(2, "new")
        found.append(content(restarts, 3, tmp_path / f"next{last}"))
        if len(calls) < last:
            break
        save(3, "newer")  # what the dead left half does not stand in the way
        assert content(restarts, 4, tmp_path / f"then{last}") == "newer"
        assert len(list((restarts.root / KEY / "l1").iterdir())) == 1
    assert found[0] == "old"
    assert found[-1] == "new"
    assert set(found) == {"old", "new"}
    assert len(found) > 6


def die_at(last: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Die before the change to the disk of this number."""
    calls: list[str] = []

    def deadly(owner: Any, name: str) -> None:
        whole = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if arguments and "scratch" in str(arguments[0]) and "restart" not in str(arguments[-1]):
                return whole(*arguments, **named)
            calls.append(name)
            if len(calls) >= last:
                raise Killed
            return whole(*arguments, **named)

        patch.setattr(owner, name, call)

    for owner, name in (
        (shutil, "copyfile"),
        (shutil, "rmtree"),
        (Path, "mkdir"),
        (Path, "write_text"),
        (Path, "rename"),
    ):
        deadly(owner, name)
    return calls


def test_a_file_cut_off_is_not_used(
    restarts: Restarts, save: Callable[[int, str], None], tmp_path: Path
) -> None:
    save(1, "far")
    folder = restarts.root / KEY / "l1" / "1"
    (folder / "D_spin_02.csc").write_text("fa")
    assert content(restarts, 2, tmp_path / "next") == ""
    (folder / SIZES).write_text('{"D_sp')
    assert content(restarts, 2, tmp_path / "next") == ""
    (folder / SIZES).unlink()
    assert content(restarts, 2, tmp_path / "next") == ""


def test_a_full_disk_leaves_what_was_there(
    restarts: Restarts,
    save: Callable[[int, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(1, "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            save(2, "new")
    assert content(restarts, 3, tmp_path / "next") == "old"
    assert [path.name for path in (restarts.root / KEY / "l1").iterdir()] == ["1"]


CRASHED, LOST = FailureKind.CRASHED, FailureKind.LOST_WORKER


@pytest.mark.parametrize(
    ("kinds", "trusted"),
    [
        ((), True),
        ((CRASHED,), True),
        ((CRASHED, FailureKind.BAD_OUTPUT), False),
        ((CRASHED, CRASHED, FailureKind.WALLTIME), True),
        ((CRASHED, LOST, CRASHED), True),
    ],
)
def test_crash_upon_crash_is_tried_without(kinds: tuple[FailureKind, ...], trusted: bool) -> None:
    assert restart.trusted(build.history(*kinds)) is trusted


@pytest.mark.parametrize(
    ("outcome", "worth"),
    [
        (Success(), False),
        (build.failure(FailureKind.WALLTIME), True),
        (build.failure(FailureKind.START_UP), True),
        (build.failure(FailureKind.SCF_NOT_CONVERGED), True),
        (build.failure(FailureKind.CRASHED), False),
        (build.failure(FailureKind.BAD_OUTPUT), False),
        (build.failure(FailureKind.NO_GAP), False),
    ],
)
def test_what_is_worth_going_on_from(outcome: Outcome, worth: bool) -> None:
    assert restart.worth_keeping(outcome) is worth


@pytest.mark.parametrize(
    ("decision", "kind", "use"),
    [
        (Retry(Rung()), FailureKind.CRASHED, True),
        (GiveUp("why"), FailureKind.SCF_NOT_CONVERGED, False),
        (GiveUp("why"), FailureKind.TIME_LIMIT, True),
        (GiveUp("why"), FailureKind.WALLTIME, True),
    ],
)
def test_when_they_are_of_use(decision: Any, kind: FailureKind, use: bool) -> None:
    assert restart.of_use(decision, build.failure(kind)) is use
    assert not restart.of_use(Done(), Success())
