"""Scratch folders: fresh, kept by policy, swept when their worker died."""

import os
import tracemalloc
from pathlib import Path

import pytest

from qfarm_workers import scratch
from qfarm_workers.scratch import LARGEST, LARGEST_KEPT, OWNER, Scratch
from support import build
from support.claims import claim


def test_a_folder_is_fresh_and_its_own(tmp_path: Path) -> None:
    place = Scratch(tmp_path / "deep" / "scratch")
    first = place.open(claim(token="a"))
    (first / "left.txt").write_text("x")
    assert place.open(claim(token="b")) != first
    assert place.open(claim(token="a")) == first
    assert not (first / "left.txt").exists()


@pytest.mark.parametrize(
    ("keep", "failed", "stays"),
    [
        ("never", False, False),
        ("never", True, False),
        ("failed", False, False),
        ("failed", True, True),
        ("always", False, True),
        ("always", True, True),
    ],
)
def test_policy(tmp_path: Path, keep: str, failed: bool, stays: bool) -> None:
    place = Scratch(tmp_path, keep)  # type: ignore[arg-type]
    folder = place.open(claim())
    place.close(folder, failed=failed)
    assert folder.exists() is stays is place.keeps(failed)


def test_sweep_takes_folders_of_the_dead_and_leaves_kept_ones(tmp_path: Path) -> None:
    place = Scratch(tmp_path, "failed")
    dead = build.WORKER.model_copy(update={"pid": 1})
    of_dead = place.open(claim(token="a", worker=dead))
    of_living = place.open(claim(token="b"))
    kept = place.open(claim(token="c", worker=dead))
    place.close(kept, failed=True)
    (tmp_path / "supervisor.log").write_text("")
    assert place.sweep(lambda worker: worker.pid == 1) == 1
    assert (of_dead.exists(), of_living.exists(), kept.exists()) == (False, True, True)


def test_a_kept_failure_loses_large_temporaries(tmp_path: Path) -> None:
    place = Scratch(tmp_path, "failed")
    folder = place.open(claim())
    (folder / "deep").mkdir()
    for name, size in (("stdout.txt", LARGEST_KEPT), ("tmp1.h5", LARGEST_KEPT + 1)):
        (folder / name).write_bytes(b"x" * size)
        (folder / "deep" / name).write_bytes(b"x" * size)
    place.close(folder, failed=True)
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    assert left == ["deep/stdout.txt", "stdout.txt"]
    assert place.free_mb() > 0


def test_sweep_of_a_folder_half_made(tmp_path: Path) -> None:
    folder = Scratch(tmp_path).open(claim())
    (folder / OWNER).write_text('{"name": "w')
    assert Scratch(tmp_path).sweep(lambda _: True) == 0
    assert Scratch(tmp_path / "nowhere").sweep(lambda _: True) == 0


def test_texts_are_the_plain_text_files(tmp_path: Path) -> None:
    folder = Scratch(tmp_path).open(claim())
    scratch.fill(folder, {"job.json": "{}", "geometry.in": "atom 0 0 0 H"})
    (folder / "density.cube").write_bytes(b"\0\1\2")
    (folder / "latin").write_bytes(b"\xe9nergie")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("/etc/hostname")
    assert scratch.texts(folder) == {
        "geometry.in": "atom 0 0 0 H",
        "job.json": "{}",
        "latin": "\N{REPLACEMENT CHARACTER}nergie",
    }


def test_of_a_huge_file_the_end_is_read(tmp_path: Path) -> None:
    with (tmp_path / "stdout.txt").open("wb") as file:
        file.seek(LARGEST + 10)
        file.write(b"the end")
    assert scratch.texts(tmp_path) == {}  # the hole reads as NUL: no text
    with (tmp_path / "stdout.txt").open("wb") as file:
        file.write(b"y" * (LARGEST + 10) + b"the end")
    text = scratch.texts(tmp_path)["stdout.txt"]
    assert len(text) == LARGEST
    assert text.endswith("ythe end")


def test_of_a_binary_file_only_the_head_is_read(tmp_path: Path) -> None:
    (tmp_path / "late").write_bytes(b"x" * 10_000 + b"\0")
    with (tmp_path / "density").open("wb") as file:
        file.write(b"\0")
        file.truncate(2**40)  # sparse: a terabyte that takes no space
    tracemalloc.start()
    assert list(scratch.texts(tmp_path)) == ["late"]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**20


@pytest.mark.parametrize("keep", ["never", "failed", "always"])
@pytest.mark.parametrize("failed", [True, False])
def test_what_a_scratch_folder_links_to_is_never_touched(
    tmp_path: Path, keep: str, failed: bool
) -> None:
    species = tmp_path / "species"
    (species / "tight").mkdir(parents=True)
    (species / "tight" / "08_O").write_bytes(b"x" * (LARGEST_KEPT + 1))
    place = Scratch(tmp_path / "scratch", keep)  # type: ignore[arg-type]
    folder = place.open(claim())
    scratch.link(folder, "species", species)
    assert (folder / "species" / "tight" / "08_O").is_file()
    assert scratch.texts(folder) == {}
    assert scratch.others(folder, ()) == ("species",)
    place.close(folder, failed=failed)
    place.open(claim())  # removes a leftover
    assert (species / "tight" / "08_O").stat().st_size == LARGEST_KEPT + 1


def test_what_nobody_put_there_is_stale(tmp_path: Path) -> None:
    folder = Scratch(tmp_path).open(claim())
    scratch.fill(folder, {"control.in": ""})
    assert scratch.others(folder, {"control.in"}) == ()
    (folder / "results.tag").touch()
    assert scratch.others(folder, {"control.in"}) == ("results.tag",)
