"""From a frame to its plan or its problems; no text makes it raise."""

from io import StringIO

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from hypothesis import given
from hypothesis import strategies as st

from qfarm.intake.examine import Rejected
from qfarm.intake.frames import Frame
from qfarm.intake.problem import Kind, Problem
from qfarm.plan import Plan
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment
from support.build import WATER
from support.intake import WATER_ATOMS, cut, examiner, frame, frame_text, problems


def test_a_good_frame() -> None:
    found = examiner(tags=("run1",)).examine(frame("charge=0 class=water tags=a"))
    assert isinstance(found, Plan)
    assert found.fragment.id == WATER.id
    assert found.fragment.fragment_class == "water"
    assert found.fragment.tags == ("a", "run1")
    assert found.fragment.source == "a.xyz#1"
    assert [stage.name for stage in found.stages] == ["preopt", "single_point"]


def test_results_that_ase_moves_to_a_calculator_do_not_matter() -> None:
    comment = (
        'Properties=species:S:1:pos:R:3:forces:R:3 energy=-76.4 dipole="0 0 1" charge=0 spin=1'
    )
    atoms = tuple(f"{line} 0.1 0.2 0.3" for line in WATER_ATOMS)
    found = examiner().examine(frame(comment, atoms))
    assert isinstance(found, Plan)
    assert found.fragment.id == WATER.id


def test_the_class_option_wins_over_the_file() -> None:
    found = examiner(fragment_class="ion").examine(frame("class=F"))
    assert isinstance(found, Plan)
    assert found.fragment.fragment_class == "ion"


def test_every_flaw_of_a_frame_is_listed() -> None:
    found = examiner().examine(
        frame('Lattice="5 0 0 0 5 0 0 0 5" charge=x spin=0 class=T', ("H 0 0 0", "H 0 0 nan"))
    )
    expected = {Kind.PERIODIC, Kind.CHARGE, Kind.MULTIPLICITY, Kind.CLASS, Kind.NOT_FINITE}
    assert set(problems(found)) == expected
    assert all(text.startswith("a.xyz, frame 1 (line 1): ") for text in problems(found).values())


def test_unknown_element() -> None:
    for symbol in ("Xx", "D", "8", "X"):
        found = examiner().examine(frame("", (f"{symbol} 0 0 0",)))
        assert set(problems(found)) == {Kind.ELEMENT}


def test_bad_atom_line_is_named() -> None:
    found = examiner().examine(frame("", ("H 0 0 0", "H 0 zero 1")))
    assert "line 4: 'H 0 zero 1'" in problems(found)[Kind.UNREADABLE]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("H 0 0 1", "line 4: 'H 0 0 1' has 4 fields, but 7 are expected"),
        ("H 0 0 1 0 x 0", "line 4: 'H 0 0 1 0 x 0' has 'x' in field 6, where forces1 is expected"),
    ],
)
def test_bad_row_of_a_frame_with_properties_is_named(row: str, said: str) -> None:
    comment = "Properties=species:S:1:pos:R:3:forces:R:3"
    found = problems(examiner().examine(frame(comment, ("H 0 0 0 0 0 0", row))))
    text = found[Kind.UNREADABLE]
    assert text.startswith("a.xyz, frame 1 (line 1): ")
    assert said in text
    assert f"({comment})" in text


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ('name="x charge=-1 multiplicity=2', 'lacks a closing "'),
        ("5'-AMP charge=-1", "lacks a closing '"),
        ("a={x charge=-1", "lacks a closing }"),
        ("a={x {y} charge=-1", "has 2 { but 1 }"),
        ("x] charge=-1", "has 0 [ but 1 ]"),
        ("dir=C:\\data\\ charge=-1", "backslash"),
    ],
)
def test_a_comment_that_hides_the_charge(comment: str, said: str) -> None:
    found = problems(examiner().examine(frame(comment)))
    assert list(found) == [Kind.UNREADABLE]
    assert said in found[Kind.UNREADABLE]
    assert "for instance name=" in found[Kind.UNREADABLE]


@pytest.mark.parametrize("comment", ["5'-AMP, conformer 3", "O5' to C3'-endo {", "water"])
def test_mere_words_hide_nothing(comment: str) -> None:
    found = examiner().examine(frame(comment))
    assert isinstance(found, Plan), problems(found)


@pytest.mark.parametrize(
    "comment",
    ["s=[[1,0],[0,1]]", 'a="\\"" b="\'{"', "smiles=C[N+](C)C", "c=C:\\data\\x", '"5\'-AMP"'],
)
def test_a_balanced_comment_keeps_its_charge(comment: str) -> None:
    found = examiner().examine(frame(f"{comment} charge=2 multiplicity=3"))
    assert isinstance(found, Plan), problems(found)
    assert (found.fragment.charge, found.fragment.multiplicity) == (2, 3)


@pytest.mark.parametrize("comment", ["0 1", "units=bohr", "name=a name=b", "e=1,charge=-2"])
def test_what_would_be_passed_over_is_refused_once(comment: str) -> None:
    assert len(problems(examiner().examine(frame(comment)))) == 1


def test_no_level_for_the_size() -> None:
    atoms = tuple(f"He 0 0 {i}" for i in range(61))
    found = examiner().examine(frame("class=ion", atoms))
    assert "class 'ion' with 61 atoms of He in stage 'single_point'" in problems(found)[Kind.LEVEL]
    assert isinstance(found, Rejected)
    assert (found.fragment_class, found.n_atoms) == ("ion", 61)


def test_each_planned_stage_asks_its_engine() -> None:
    asked = []

    def refuse(fragment: Fragment, stage: Stage) -> str | None:
        asked.append(stage.name)
        return "no such element: use another engine" if stage.name == "single_point" else None

    found = examiner(refuse).examine(frame())
    assert asked == ["preopt", "single_point"]
    text = problems(found)[Kind.ENGINE]
    assert text.endswith("stage 'single_point' (pyscf): no such element: use another engine.")


def test_real_engines_refuse_what_they_cannot_do() -> None:
    from qfarm.intake.examine import refusal

    found = examiner(refusal).examine(frame("charge=0", ("I 0 0 0", "I 0 0 2.7")))
    assert "pyscf" in problems(found)[Kind.ENGINE]
    assert isinstance(examiner(refusal).examine(frame()), Plan)


@given(
    st.integers(-3, 3),
    st.sampled_from(["{}", "x {}", 'n="a b" {}', "n={{a b}} {}", "n='{{' {}", 'n="x {}', "'{} "]),
    st.sampled_from([" ", "  ", ",", ", ", ";", ":"]),
)
def test_a_charge_in_the_comment_is_read_or_refused(charge: int, frame_of: str, gap: str) -> None:
    """Whatever surrounds it: a charge that is written is never taken for another."""
    said = f"e=1{gap}charge={charge}{gap}multiplicity={1 + charge % 2}"
    found = examiner().examine(frame(frame_of.format(said)))
    assert isinstance(found, Rejected) or found.fragment.charge == charge


numbers = st.lists(st.integers(1, 17), min_size=1, max_size=6)


@given(numbers, st.integers(0, 2**32 - 1), st.integers(-1, 1), st.booleans())
def test_writing_with_ase_and_reading_back_keeps_the_id(
    elements: list[int], seed: int, charge: int, aliases: bool
) -> None:
    noise = np.random.default_rng(seed).uniform(-0.2, 0.2, (len(elements), 3))
    # ASE's extxyz prints 8 decimals.
    positions = np.round(np.arange(len(elements))[:, None] * 1.5 + noise, 8)
    electrons = sum(elements) - charge
    multiplicity = 1 + electrons % 2
    keys = ("total_charge", "spin") if aliases else ("charge", "multiplicity")
    atoms = Atoms(numbers=elements, positions=positions)
    atoms.info = {keys[0]: charge, keys[1]: multiplicity, "energy": -1.0}
    file = StringIO()
    write(file, atoms, format="extxyz")
    (one,) = cut(file.getvalue())
    found = examiner().examine(one)
    if electrons < 1:
        assert set(problems(found)) >= {Kind.CHARGE}
        return
    expected = Fragment(
        numbers=elements, positions=positions, charge=charge, multiplicity=multiplicity
    )
    assert isinstance(found, Plan), problems(found)
    assert found.fragment.id == expected.id


CORRUPTIBLE = frame_text("charge=0 multiplicity=1 class=water").encode()


@given(st.integers(0, len(CORRUPTIBLE) - 1), st.integers(0, 255))
def test_a_changed_byte_gives_a_sound_fragment_or_a_problem(at: int, byte: int) -> None:
    data = bytearray(CORRUPTIBLE)
    data[at] = byte
    for one in cut(bytes(data)):
        assert_sound(one)


@given(st.text(max_size=80), st.lists(st.text(max_size=40), max_size=3))
def test_any_text_gives_a_sound_fragment_or_a_problem(comment: str, atoms: list[str]) -> None:
    assert_sound(frame(comment.replace("\n", " "), tuple(atoms)))


MALFORMED = (
    *("charge=1", "spin=F", "charge='", "_JSON", 'a="_JSON ["', "=", "\\", "{", "pbc=T", "pbc=9"),
    *("Properties=5", "Properties=pos:R:3", "Properties=species:S:1:pos:R:2", 'Lattice="1 2"'),
    *("Properties=species:S:1:pos:R:3:tags:I:1", "Properties=Z:I:1:pos:R:3", "tags=1", "stress=1"),
    *("0", "1", "units=nm", "units", "a={b", "]", "name=a", "name=b", "x,charge=1", "\\ "),
    *("Properties=species:S:1:pos:R:3:move_mask:L:1", "magmom=x", "class="),
)


@given(st.lists(st.sampled_from(MALFORMED), max_size=4))
def test_malformed_keys_give_a_sound_fragment_or_a_problem(words: list[str]) -> None:
    assert_sound(frame(" ".join(words)))


def assert_sound(one: Frame | Problem) -> None:
    """What is accepted has whole atoms and an electron count that fits; the rest says why."""
    found = examiner().examine(one)
    if isinstance(found, Rejected):
        assert found.problems
        return
    fragment = found.fragment
    assert isinstance(one, Frame)
    assert fragment.n_atoms == len(one.atoms)
    assert np.isfinite(fragment.positions).all()
    assert (fragment.n_electrons + fragment.multiplicity) % 2 == 1
    assert fragment.id
