"""Whole batches: counts, duplicates, and what waits to be written."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from qfarm.errors import InputError
from qfarm.intake import batch as batches
from qfarm.intake import chunks
from qfarm.intake.batch import Fate, size_of
from qfarm.intake.spool import Spool, open_spool
from qfarm.plan import Plan
from support.intake import PROTOCOL, cut, examiner, frame_text, read_file

TWO = ("He 0 0 0", "He 0 0 3")


def write(folder: Path, *texts: str) -> Path:
    path = folder / "a.xyz"
    path.write_text("".join(texts))
    return path


def key_of(text: str) -> str:
    found = examiner().examine(cut(text)[0])
    assert isinstance(found, Plan)
    return found.key


def test_new_known_duplicate_and_rejected(tmp_path: Path) -> None:
    water, helium = frame_text("class=water"), frame_text("class=rare", TWO)
    path = write(tmp_path, water, frame_text("class=water charge=1"), helium, water, "nonsense\n")
    with open_spool() as handle:
        spool = Spool(handle)
        found = read_file(path, spool, frozenset({key_of(helium)}))
        plans = [one for chunk in spool.plans(PROTOCOL) for one in chunk]
    counts = {fate: found.count(fate) for fate in Fate}
    assert counts == {Fate.NEW: 1, Fate.KNOWN: 1, Fate.DUPLICATE: 0, Fate.REJECTED: 2}
    assert [plan.key for plan in plans] == [key_of(water), key_of(helium)]  # once each
    assert plans[0].fragment.source == f"{path}#1"
    assert [problem.where.frame for problem in found.problems] == [2, 4]


def test_duplicate_within_the_batch_is_kept_once(tmp_path: Path) -> None:
    text = frame_text()
    path = write(tmp_path, text, frame_text("", TWO), text, text)
    with open_spool() as handle:
        spool = Spool(handle)
        found = read_file(path, spool)
        (plans,) = spool.plans(PROTOCOL)
    assert (found.count(Fate.NEW), found.count(Fate.DUPLICATE), found.total) == (2, 2, 4)
    assert len(plans) == 2
    groups = [
        (group.fragment_class, tally.smallest, tally.largest)
        for group, tally in found.groups.values()
    ]
    assert groups == [("unclassified", 2, 3)]


def test_chunks_are_bounded_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)
    texts = [frame_text("", ("He 0 0 0", f"He 0 0 {i + 1}")) for i in range(10)]
    asked: list[int] = []

    def known(keys: Sequence[str]) -> frozenset[str]:
        asked.append(len(keys))
        return frozenset()

    with open_spool() as handle:
        spool = Spool(handle)
        batches.read([write(tmp_path, *texts)], examiner(), spool, known)
        sizes = [len(chunk) for chunk in spool.plans(PROTOCOL)]
        plans = [one.key for chunk in spool.plans(PROTOCOL) for one in chunk]
    assert asked == sizes == [4, 4, 2]
    assert plans == [key_of(text) for text in texts]


def test_progress_adds_up_to_the_size(tmp_path: Path) -> None:
    path = write(tmp_path, frame_text(), "junk\n", frame_text("", TWO), "\n\n")
    told: list[int] = []
    with open_spool() as handle:
        batches.read([path], examiner(), Spool(handle), lambda _: frozenset(), told.append)
    assert sum(told) == size_of([path]) == path.stat().st_size
    assert len(told) > 2


def test_a_file_without_frames_is_a_problem(tmp_path: Path) -> None:
    with open_spool() as handle:
        found = read_file(write(tmp_path, "\n"), Spool(handle))
    assert found.count(Fate.REJECTED) == 1
    assert "no frames" in str(found.problems[0])


@pytest.mark.parametrize("name", ["missing.xyz", "folder.xyz", "water.cif"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.xyz").mkdir()
    (tmp_path / "water.cif").write_text("data_")
    with pytest.raises(InputError, match=name) as raised:
        size_of([tmp_path / name])
    assert raised.value.remedy
