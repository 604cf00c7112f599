"""What is read without ASE's `Atoms` is read as ASE reads it; the rest is left to ASE."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.intake import comment as comments
from qfarm.intake.frames import Frame
from qfarm.intake.plain import plain
from qfarm.intake.structure import Structure, by_ase, structure
from support.intake import WATER_ATOMS, frame

WORDS = st.sampled_from(
    [
        "charge=1",
        "charge=-1.0",
        "charge=T",
        "Charge=2",
        "class=F",
        "class=dimer",
        "tags=007",
        'tags="a,b"',
        'tags="T F"',
        "name=frag1",
        "name=1e5",
        "bare",
        "q",
        "5'-AMP",
        'pbc="F F F"',
        "pbc=F",
        'pbc="0 0 0"',
        "pbc=T",
        "energy=-1.5",
        "dipole=1",
        "virial=1",
        'note="_JSON [1]"',
        "Properties=species:S:1:pos:R:3",
        "Properties",
        "Properties=pos:R:3:species:S:1",
        'Lattice="9 0 0 0 9 0 0 0 9"',
        "a=",
        "=b",
        "a=b=c",
        'note=""',
        "{x=1}",
        "back\\slash",
        "=",
        ":",
    ]
)
ROWS = st.sampled_from(
    [
        "O 0 0 0.119",
        "h 0.0 7.63e-1 -0.477",
        "CL 1_0 2 3 more words",
        "X nan inf 1",
        "Xx 1 2 3",
        "8 1 2 3",
        "H 1 2",
        "H 1 2 x",
    ]
)


def same(mine: Structure, theirs: Structure) -> bool:
    arrays = [(mine.numbers, theirs.numbers), (mine.positions, theirs.positions)]
    return (
        all(np.array_equal(one, other, equal_nan=True) for one, other in arrays)
        and mine.numbers.dtype == theirs.numbers.dtype
        and mine.periodic == theirs.periodic
        and list(map(repr, mine.info.items())) == list(map(repr, theirs.info.items()))
        and (mine.summed_charge, mine.summed_spin) == (theirs.summed_charge, theirs.summed_spin)
    )


@given(st.lists(WORDS, max_size=5), st.lists(ROWS, min_size=1, max_size=3))
def test_what_is_plain_is_as_ase_reads_it(words: list[str], rows: list[str]) -> None:
    whole = frame(" ".join(words), tuple(rows))
    if plain(whole) is not None:
        mine, theirs = structure(whole), by_ase(whole)
        assert isinstance(mine, Structure)
        assert isinstance(theirs, Structure), whole
        assert same(mine, theirs)


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "water",
        'Properties=species:S:1:pos:R:3 charge=1 class=dimer tags="a,b" name=f1 pbc="F F F"',
    ],
)
def test_usual_frames_are_plain(comment: str) -> None:
    assert plain(frame(comment)) is not None


@pytest.mark.parametrize(
    "unusual",
    [
        frame('Lattice="9 0 0 0 9 0 0 0 9"'),
        frame("pbc=T"),
        frame("energy=1"),
        frame("virial=1"),
        frame("Properties=species:S:1:pos:R:3:forces:R:3"),
        frame('name="" charge=1'),
        frame("charge = 1"),
        frame("", ("H 0 0",)),
        frame("", ("Xx 0 0 0", *WATER_ATOMS)),
    ],
)
def test_whatever_else_is_left_to_ase(unusual: Frame) -> None:
    assert plain(unusual) is None


def reference(comment: str) -> tuple[str, str | None]:
    """`comment._mask` as it is specified, one character after the other."""
    text, open_, escaped = [], None, False
    for char in comment:
        shown = "_" if char == "\0" else char
        if escaped:
            shown, escaped = ("\0" if open_ is None and char.isspace() else "_"), False
        elif char == "\\":
            shown, escaped = "_", True
        elif open_ is not None:
            if char == open_:
                open_ = None
            elif open_ in ("'", '"') or char not in "{}[]":
                shown = "_"
        else:
            open_ = {"'": "'", '"': '"', "{": "}", "[": "]"}.get(char)
        text.append(shown)
    return "".join(text), open_


@given(st.text("ab =\t\\'\"{}[]\0é", max_size=30))
def test_lines_are_masked_as_specified(comment: str) -> None:
    assert comments._mask(comment) == reference(comment)
