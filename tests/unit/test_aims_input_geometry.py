"""geometry.in and species of FHI-aims, read back by pyfhiaims."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfhiaims.geometry.geometry import AimsGeometry
from pyfhiaims.species_defaults.species import SpeciesDefaults

from qfarm.engines.aims import species
from qfarm.engines.aims.geometry import geometry_in, initial_moments
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory
from support import build
from support.needs import shared_fixture
from support.species import species_name, species_text, species_texts, species_tree

LEVEL = LevelOfTheory(**(build.PBE0.model_dump() | {"engine": "aims"}))
TEXTS = species_texts(["H", "O"])

coordinates = st.tuples(*[st.floats(-500.0, 500.0)] * 3)
atoms = st.lists(st.tuples(st.integers(1, 102), coordinates), min_size=1, max_size=8)


def read(text: str) -> AimsGeometry:
    return AimsGeometry.from_strings(text.splitlines())


@given(atoms)
def test_geometry_comes_back_in_order_within_1e_9(rows: list[tuple[int, tuple[float]]]) -> None:
    fragment = Fragment(numbers=[row[0] for row in rows], positions=[row[1] for row in rows])
    text = geometry_in(fragment)
    found = read(text).atoms
    assert [atom.number for atom in found] == fragment.numbers.tolist()
    np.testing.assert_allclose([atom.position for atom in found], fragment.positions, atol=1e-9)
    assert text == geometry_in(fragment)
    assert "moment" not in text


def test_lines_are_those_of_the_manual() -> None:
    first = geometry_in(build.WATER).splitlines()[0].split()
    assert first[0] == "atom"
    assert [float(word) for word in first[1:4]] == [0.0, 0.0, 0.119]
    assert first[4:] == ["O"]


def test_unpaired_electrons_are_shared_out_and_sum_up() -> None:
    radical = Fragment(numbers=[6, 1, 1, 1], positions=np.eye(4, 3), multiplicity=2)
    moments = [atom.initial_moment for atom in read(geometry_in(radical)).atoms]
    assert sum(moments) == pytest.approx(1.0)
    np.testing.assert_allclose(moments, [6 / 9, 1 / 9, 1 / 9, 1 / 9])


@given(st.lists(st.integers(1, 86), min_size=1, max_size=6), st.integers(1, 12))
def test_no_atom_starts_with_more_unpaired_electrons_than_electrons(
    numbers: list[int], multiplicity: int
) -> None:
    positions = [[0.0, 0.0, 2.0 * row] for row in range(len(numbers))]
    fragment = Fragment(numbers=numbers, positions=positions, multiplicity=multiplicity)
    assert all(0 <= m <= n for m, n in zip(initial_moments(fragment), numbers, strict=True))


# species


def test_names_are_sorted_and_unique() -> None:
    fragment = Fragment(numbers=[8, 1, 1, 17, 102], positions=np.arange(15.0).reshape(5, 3))
    assert species.names(fragment, LEVEL) == (
        "tight/01_H_default",
        "tight/08_O_default",
        "tight/17_Cl_default",
        "tight/102_No_default",
    )


def test_made_texts_have_the_format_that_pyfhiaims_reads() -> None:
    found = SpeciesDefaults.from_strings(species_text("O").splitlines())
    assert (found.label, found.nucleus, found.l_hartree) == ("O", 8.0, 6)
    assert len(found.basis_set.basis_set) == 1


def test_a_tree_has_the_names_that_the_engine_asks_for(tmp_path: object) -> None:
    tree = species_tree(tmp_path, ["H", "O"], ["light", "tight"])  # type: ignore[arg-type]
    for name in species.names(build.WATER, LEVEL):
        assert (tree / name).read_text() == TEXTS[name]
    assert not (tree / "intermediate").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (species_text("N"), "defines N, not the species O"),
        (species_text("O") + species_text("H"), "defines O, H"),
        ("", "defines nothing"),
        (species_text("O").replace("nucleus             8", "nucleus 7"), "nucleus 7, not 8"),
        (species_text("O").replace("nucleus             8", "nucleus x"), "nucleus x, not 8"),
        (species_text("O").replace("    nucleus", "#   nucleus"), "nucleus nothing"),
        (species_text("O", "light"), "holds 'light' settings"),
    ],
)
def test_a_text_that_is_not_the_element_is_named_and_left_out(text: str, words: str) -> None:
    texts = TEXTS | {species_name("O"): text}
    reason = species.wrong(build.WATER, LEVEL, texts)
    assert reason is not None
    assert words in reason
    assert "tight/08_O_default" in reason
    assert species.pasted(build.WATER, LEVEL, texts) == species_text("H")


def test_a_text_that_is_missing_is_named() -> None:
    reason = species.wrong(build.WATER, LEVEL, {})
    assert reason == "the species file tight/01_H_default was not given"
    assert species.pasted(build.WATER, LEVEL, {}) == ""


def test_tight_settings_are_not_taken_for_light_ones() -> None:
    light = LEVEL.model_copy(update={"basis": BasisTier.LIGHT})
    texts = {species_name(s, "light"): species_text(s, "tight") for s in ("H", "O")}
    assert "'tight'" in str(species.wrong(build.WATER, light, texts))


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    texts = TEXTS | {species_name("O"): text}
    assert species.wrong(build.WATER, LEVEL, texts) is not None


def test_real_species_texts_are_taken() -> None:
    """From the control.in of a recorded PBE0 calculation: O, then H."""
    recorded = shared_fixture("aims") / "pbe0_tight_hirshfeld_forces_w09_0055" / "control.in"
    head, oxygen, hydrogen = recorded.read_text().split("#  FHI-aims code project")
    texts = {species_name("O"): oxygen, species_name("H"): hydrogen}
    assert "xc" in head
    assert species.wrong(build.WATER, LEVEL, texts) is None
