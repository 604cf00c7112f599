"""Charge, multiplicity, class and tags, as real files write them and ASE mangles them."""

import pytest

from qfarm.intake import labels
from qfarm.intake.problem import Flaw
from qfarm.intake.structure import Structure, structure
from support.intake import WATER_ATOMS, frame


def read(comment: str, atoms: tuple[str, ...] = WATER_ATOMS) -> Structure:
    found = structure(frame(comment, atoms))
    assert isinstance(found, Structure)
    return found


def what(found: object) -> str:
    assert isinstance(found, Flaw), f"accepted: {found!r}"
    return str(found)


@pytest.mark.parametrize("key", ["charge", "total_charge", "molecular_charge", "Charge"])
def test_charge_keys(key: str) -> None:
    assert labels.charge(read(f"{key}=-1")) == -1
    assert labels.charge(read(f"{key}=2.0")) == 2


@pytest.mark.parametrize("key", ["multiplicity", "spin", "total_spin", "molecular_multiplicity"])
def test_multiplicity_keys_all_mean_2s_plus_1(key: str) -> None:
    assert labels.multiplicity(read(f"{key}=3")) == 3


def test_absent_is_not_zero() -> None:
    assert labels.charge(read("")) is None
    assert labels.multiplicity(read("energy=-1.5")) is None
    assert labels.fragment_class(read("water dimer")) is None
    assert labels.tags(read("")) == ()


def test_aliases_agree_or_are_refused() -> None:
    assert labels.charge(read("charge=1 total_charge=1.0")) == 1
    assert "charge=1 and total_charge=2 disagree" in what(
        labels.charge(read("charge=1 total_charge=2"))
    )
    assert "disagree" in what(labels.multiplicity(read("spin=1 multiplicity=3")))
    assert "disagree" in what(labels.fragment_class(read("class=ion fragment_class=lipid")))


def test_the_same_key_twice() -> None:
    assert "twice" in what(labels.charge(read("charge=1 charge=0")))
    assert labels.charge(read('charge=1 note="charge=0 before"')) == 1


@pytest.mark.parametrize("key", ["class", "tags", "name", "multiplicity", "Charge"])
def test_a_key_with_two_values(key: str) -> None:
    values = ("1", "2") if key in ("multiplicity", "Charge") else ("a", "b")
    ask = getattr(labels, {"class": "fragment_class"}.get(key, key.lower()))
    first, second = values
    assert f"twice: {first!r} and {second!r}" in what(ask(read(f"{key}={first} {key}={second}")))
    assert not isinstance(ask(read(f"{key}={first} x=1 {key}={first}")), Flaw)
    assert not isinstance(ask(read(f'{key}={first} note="x {key}={second}"')), Flaw)


def test_tags_in_two_spellings() -> None:
    assert "disagree" in what(labels.tags(read("tags=a Tags=b")))


@pytest.mark.parametrize("comment", ["0 1", " -1  2 ", "0,1", "42", "+1 2"])
def test_bare_numbers_are_no_charge_of_zero(comment: str) -> None:
    assert "charge=... multiplicity=..." in what(labels.charge(read(comment)))


@pytest.mark.parametrize("comment", ["water 42", "1 2 3", "-76.4", "name=42", "step 7"])
def test_other_numbers_are_a_comment(comment: str) -> None:
    assert labels.charge(read(comment)) is None


@pytest.mark.parametrize("key", ["units", "Unit", "length_unit", "pos_unit", "positions-units"])
def test_coordinates_in_other_units(key: str) -> None:
    for value in ("bohr", "au", "nm", '"A eV"', "1"):
        found = what(labels.unit(read(f"{key}={value}")))
        assert f"{key}=" in found
        assert "Convert" in found
    for value in ("A", "angstrom", "Angstrom", "\u00c5", "\u212b", "A\u030a", "[A]"):
        assert labels.unit(read(f"{key}={value}")) is None


def test_unit_given_twice_bare_or_of_something_else() -> None:
    assert what(labels.unit(read("units=bohr units=A")))
    assert what(labels.unit(read("units bohr")))
    assert labels.unit(read('energy_unit=eV unit_cell=1 note="units=bohr"')) is None


@pytest.mark.parametrize(
    "comment",
    [
        *("energy=-1.5,charge=-1", "charge:-1", "(charge=-1)", "{charge=-1}", '"charge=-1"'),
        *('{"charge": -1, "x": 2}', 'a" charge=-1 "b', "name=x;Spin=2", "x=1|units=bohr"),
    ],
)
def test_a_key_inside_another_word(comment: str) -> None:
    assert "is not read" in what(labels.hidden_key(read(comment)))


@pytest.mark.parametrize(
    "comment",
    [
        *('note="charge=0 before"', "note = 'spin: 1'", "core-charge=1", "charge = -1, spin=2"),
        *("Properties=species:S:1:pos:R:3", "a charge: 1", "charge", "supercharge:2"),
    ],
)
def test_what_hides_no_key(comment: str) -> None:
    assert labels.hidden_key(read(comment)) is None


@pytest.mark.parametrize("value", ["1.5", "nan", "inf", "one", "F", '"0 1"', "1e400", "T"])
def test_charge_must_be_a_whole_number(value: str) -> None:
    assert what(labels.charge(read(f"charge={value}")))


@pytest.mark.parametrize("comment", ["charge -1", "total charge: 1", "Charge: 1"])
def test_a_bare_word_is_no_charge_of_zero(comment: str) -> None:
    """In a plain xyz comment ASE makes the word a key that is true."""
    assert "without a number" in what(labels.charge(read(comment)))


@pytest.mark.parametrize("value", [0, -1])
def test_multiplicity_below_one(value: int) -> None:
    assert "2S+1" in what(labels.multiplicity(read(f"spin={value}")))


@pytest.mark.parametrize("comment", ["mult=2", "q=-1", "net_charge=1", "uhf=1"])
def test_keys_that_only_look_right_are_refused(comment: str) -> None:
    assert "is not read" in what(labels.mistaken_key(read(comment)))


def test_a_word_of_a_plain_comment_is_no_such_key() -> None:
    assert labels.mistaken_key(read("q or mult or not")) is None


def test_atomic_charges_without_a_total() -> None:
    atoms = ("Na 0 0 0 0.9", "He 0 0 3 0.08")
    for column in ("initial_charges", "charge"):
        comment = f"Properties=species:S:1:pos:R:3:{column}:R:1"
        found = read(comment, atoms)
        assert "charge=1" in what(labels.charge(found))
        assert labels.charge(read(f"{comment} charge=0", atoms)) == 0


@pytest.mark.parametrize("total", ["magmom=2.0", "magmom=-2"])
def test_magnetic_moment_that_ase_hides_in_its_calculator(total: str) -> None:
    assert "multiplicity=3" in what(labels.multiplicity(read(total)))
    assert labels.multiplicity(read(f"{total} spin=3")) == 3


@pytest.mark.parametrize("value", ["F", "T", "007", "1e5", '"two words"', "a/b", "class"])
def test_class_names_that_ase_mangles(value: str) -> None:
    comment = "class" if value == "class" else f"class={value}"
    assert what(labels.fragment_class(read(comment)))


def test_class_and_tags() -> None:
    assert labels.fragment_class(read("class=ion-water")) == "ion-water"
    assert labels.fragment_class(read("fragment_class=lipid")) == "lipid"
    assert labels.tags(read('tags="s22 demo,s22"')) == ("s22", "demo")
    assert labels.tags(read('tags="_JSON [\\"a\\", \\"b\\"]"')) == ("a", "b")
    assert what(labels.tags(read("tags=007")))
    assert "ASCII letter" in what(labels.tags(read("tags=\u00e4 \u6c34")))
    assert what(labels.tags(read('tags="a 7"')))
