"""Cutting files into frames: nothing valid is lost, nothing broken is passed on."""

from hypothesis import example, given
from hypothesis import strategies as st

from qfarm.intake.frames import MOST_ATOMS, Frame
from qfarm.intake.problem import Problem
from support.intake import WATER_ATOMS, cut, frame_text

WATER = frame_text("water")


def shape(found: list[Frame | Problem]) -> str:
    """One letter a frame: F good, P a problem."""
    return "".join("F" if isinstance(one, Frame) else "P" for one in found)


def test_frames_and_lines_count_from_one() -> None:
    first, second = cut(WATER + "\n\n" + WATER)
    assert (first.where.frame, first.where.line) == (1, 1)
    assert (second.where.frame, second.where.line) == (2, 8)
    assert isinstance(first, Frame)
    assert first.comment == "water"
    assert first.atoms == WATER_ATOMS
    assert first.text == WATER


def test_windows_line_ends_byte_order_mark_and_no_last_newline() -> None:
    data = b"\xef\xbb\xbf" + WATER.replace("\n", "\r\n").encode().rstrip()
    (found,) = cut(data)
    assert isinstance(found, Frame)
    assert found.atoms == WATER_ATOMS


def test_a_comment_may_be_a_number() -> None:
    assert shape(cut(frame_text("42") + frame_text("7"))) == "FF"


def test_missing_atom_line_spares_later_frames() -> None:
    short = "\n".join(WATER.splitlines()[:-1]) + "\n"
    found = cut(WATER + short + WATER)
    assert shape(found) == "FPF"
    assert "announces 3 atoms, but after 2 of them line 10 is '3'" in str(found[1])
    assert str(found[1]).startswith("a.xyz, frame 2 (line 6): ")


def test_count_too_small_rejects_the_frame_itself() -> None:
    """A lost line must not turn water into OH."""
    found = cut("2" + WATER[1:] + WATER)
    assert shape(found) == "PF"
    assert "line 5" in str(found[0])


def test_cut_off_file() -> None:
    (found,) = cut("\n".join(WATER.splitlines()[:4]))
    assert isinstance(found, Problem)
    assert "the file ends" in str(found)


def test_not_xyz_at_all() -> None:
    (found,) = cut("data_water\nloop_\n")
    assert isinstance(found, Problem)
    assert "begins with its number of atoms, but line 1 is 'data_water'" in str(found)


def test_huge_count_is_refused_before_it_is_read() -> None:
    found = cut(f"{MOST_ATOMS + 1}\n\nH 0 0 0\n" + WATER)
    assert shape(found) == "PF"


def test_empty_frames_and_empty_files() -> None:
    assert [one.atoms for one in cut("0\nempty\n") if isinstance(one, Frame)] == [()]
    assert cut("") == []
    assert cut("\n \n") == []


@given(st.binary(max_size=300))
@example(b"\x1c0\n\n")  # white space to a regular expression, but not to int()
def test_any_bytes_give_frames_or_problems(data: bytes) -> None:
    for found in cut(data):
        assert isinstance(found, Frame | Problem)


@given(st.integers(0, 3), st.integers(0, 4))
def test_a_deleted_line_never_gives_another_molecule(which: int, line: int) -> None:
    """Of four frames one loses a line: every frame that survives is the original."""
    texts = [frame_text(f"frame {i}").splitlines() for i in range(4)]
    del texts[which][line]
    found = cut("\n".join("\n".join(text) for text in texts))
    good = [one for one in found if isinstance(one, Frame)]
    assert len(good) >= 2
    assert any(isinstance(one, Problem) for one in found) or line == 1
    assert all(one.atoms == WATER_ATOMS for one in good)
