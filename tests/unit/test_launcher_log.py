"""The launcher's log, how it is followed, and the signals that end a launcher."""

import errno
import io
import json
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.cli.following import lines_of
from qfarm.cli.launcher import _about, _words
from qfarm_launchers import log
from qfarm_launchers.cluster import job_name
from qfarm_launchers.interrupts import Ends


def anything(_: str) -> bool:
    return True


def test_lines_for_people_and_for_programs(tmp_path: Path) -> None:
    said: list[str] = []
    path = log.path_in(tmp_path)
    with log.to_file(path, said.append) as lines:
        lines.info("submitted", job="cpu-1f3a9c", id="4711", partition="cpu")
        lines.warning("trouble", why="no answer", partition=None)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first["event"] == "submitted"
    assert first["level"] == "info"
    assert said[0][8:] == " submitted: job cpu-1f3a9c, id 4711, partition cpu"
    assert said[1][8:] == " warning: trouble: why no answer"
    assert second["why"] == "no answer"
    assert _words(path.read_text().splitlines()[0]) == said[0]
    assert _words("not JSON") == "not JSON"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "no terminal"), ValueError("I/O operation on closed file"), SystemExit(1)],
)
def test_who_cannot_be_told_does_not_end_the_launcher(tmp_path: Path, error: BaseException) -> None:
    def echo(_: str) -> None:
        raise error

    path = log.path_in(tmp_path)
    with log.to_file(path, echo) as lines:
        lines.info("looked", number=1)
    assert json.loads(path.read_text())["number"] == 1


def test_a_full_disk_does_not_end_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written later is there; nothing is said where nobody listens."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    path = log.path_in(tmp_path)
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")
    with log.to_file(path) as lines:
        lines.info("looked", number=1)
        lines.info("looked", number=2)
        path.unlink()
        lines.info("looked", number=3)
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [3]


def test_a_full_log_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LARGEST", 1000)
    path = log.path_in(tmp_path)
    with log.to_file(path) as lines:
        for number in range(100):
            lines.info("looked", number=number)
    files = sorted(file.name for file in path.parent.iterdir())
    assert files == ["launcher.jsonl", *(f"launcher.jsonl.{n}" for n in range(1, log.KEPT + 1))]
    assert all(file.stat().st_size <= 1000 for file in path.parent.iterdir())


def test_logs_of_jobs_that_ended_long_ago_are_removed(tmp_path: Path) -> None:
    old = time.time() - 86400 * (log.DAYS + 1)
    for name in ("cpu-1.log", "cpu-1.sh", "cpu-2.log"):
        (tmp_path / name).touch()
    for name in ("cpu-1.log", "cpu-1.sh"):
        os.utime(tmp_path / name, (old, old))
    (tmp_path / "gone.log").symlink_to(tmp_path / "nothing")  # as one that is removed meanwhile
    assert log.sweep(tmp_path) == 2
    assert (tmp_path / "cpu-2.log").exists()
    assert log.sweep(tmp_path / "no folder yet") == 0


@given(lines=st.lists(st.text("abé \r", max_size=5), max_size=8), last=st.integers(1, 9))
def test_the_last_lines(
    lines: list[str], last: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "a.log"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    assert list(lines_of(path, last, False, anything)) == lines[-last:]
    wanted = [line for line in lines if "a" in line]
    assert list(lines_of(path, last, False, lambda line: "a" in line)) == wanted[-last:]


def test_a_last_line_without_an_end_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo")
    assert list(lines_of(path, 9, False, anything)) == ["one", "two"]


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[bytes]]:
    """A file that grows by one of these parts whenever its reader waits; at last it is enough."""
    path, parts = tmp_path / "a.log", list[bytes]()

    def nap(_: float) -> None:
        if not parts:
            raise KeyboardInterrupt
        part = parts.pop(0)
        if part == b"rotate":
            path.rename(tmp_path / "a.log.1")
            path.write_bytes(b"")
            return
        with path.open("ab") as file:
            file.write(part)

    monkeypatch.setattr(time, "sleep", nap)
    return path, parts


def followed(path: Path) -> list[str]:
    found = []
    try:
        for line in lines_of(path, 1, True, lambda line: line != "unwanted"):
            found.append(line)
    except KeyboardInterrupt:
        return found
    raise AssertionError("it is followed for ever")


def test_a_growing_file_is_followed(growing: tuple[Path, list[bytes]]) -> None:
    path, parts = growing
    path.write_text("zero\none\n")
    parts += [b"two\n", b"unwanted\n", b"th", b"ree\nfour\n"]
    assert followed(path) == ["one", "two", "three", "four"]


def test_lines_that_come_in_parts_are_shown_once_and_whole(
    growing: tuple[Path, list[bytes]],
) -> None:
    path, parts = growing
    path.write_bytes(b"one\ntw")
    parts += ["o é".encode()[:-1], "é\n".encode()[1:], b"\xff th", b"ree\n"]
    assert followed(path) == ["one", "two é", "\ufffd three"]


def test_a_log_that_makes_room_is_followed_to_the_next(growing: tuple[Path, list[bytes]]) -> None:
    path, parts = growing
    path.write_text("one\n")
    parts += [b"two\n", b"rotate", b"three\n"]
    assert followed(path) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("event", "about"),
    [
        ({"event": "decision", "partition": "cpu"}, True),
        ({"event": "launch", "partitions": ["gpu", "cpu"]}, True),
        ({"event": "reaped", "job": job_name("cpu", "1f3a9c")}, True),
        ({"event": "decision", "partition": "cpu-long"}, False),
        ({"event": "ended", "job": "cpu-long-1f3a9c"}, False),
        ({"event": "quarantine", "host": "n1"}, False),
        ({"event": "learnt"}, False),
    ],
)
def test_lines_about_a_partition(event: dict[str, object], about: bool) -> None:
    assert _about(json.dumps(event), "cpu") is about
    assert _about(json.dumps(event), None)


def test_lines_about_a_partition_whose_jobs_have_short_names() -> None:
    line = json.dumps({"event": "ended", "job": job_name("a_long_partition", "1f3a9c")})
    assert _about(line, "a_long_partition")
    assert not _about(line, "a_lo")


def test_the_first_signal_asks_a_launcher_to_end_and_the_second_ends_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with Ends() as interrupts:
            assert not interrupts.drain
            os.kill(os.getpid(), number)
            assert interrupts.drain
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Ends() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupts.drain
    finally:
        signal.signal(signal.SIGHUP, before)
