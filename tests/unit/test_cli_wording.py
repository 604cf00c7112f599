"""Levels, times and ids in words."""

import pytest

from qfarm.cli.wording import (
    SHORTEST_ID,
    counted,
    duration,
    id_length,
    level_name,
    level_words,
    rung_words,
    thresholds_words,
)
from qfarm_schemas.attempt import Rung
from qfarm_schemas.level import LevelOfTheory, Thresholds
from support.build import PBE0
from support.work import GFN2


def test_levels() -> None:
    assert level_name(PBE0) == "PBE0+MBD/tight"
    assert level_name(GFN2) == "GFN2-xTB"
    words = level_words(PBE0)
    assert words == "PBE0+MBD, beta 0.85, basis tight (def2-TZVP); engine pyscf"
    assert level_words(GFN2) == "GFN2-xTB; engine tblite"
    other = LevelOfTheory(engine="aims", method="PBE0", basis="light", options={"grid": 3})
    assert level_words(other) == "PBE0, basis light, grid 3; engine aims"
    assert "energy 1e-05 eV, eigenvalue sum 0.001 eV" in thresholds_words(PBE0)
    waived = PBE0.model_copy(update={"thresholds": Thresholds(eigenvalues=None, forces=None)})
    expected = "energy 1e-05 eV, density 1e-05, none for eigenvalue sum and forces"
    assert thresholds_words(waived) == expected


def test_rungs() -> None:
    assert rung_words(Rung(scf="diis", geometry="lbfgs")) == "diis, lbfgs"
    assert rung_words(Rung(basis="intermediate")) == "basis intermediate"
    assert rung_words(None) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_ids_are_cut_where_they_still_differ() -> None:
    assert id_length([]) == id_length(["f" + "0" * 64]) == SHORTEST_ID
    same = "f" + "a" * 20
    assert id_length([same + "1" * 44, same + "2" * 44, same + "2" * 44]) == 22


def test_counted() -> None:
    assert counted(1, "stage") == "1 stage"
    assert counted(1200, "stage") == "1,200 stages"
