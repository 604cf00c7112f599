"""`qfarm submit` for FHI-aims: species files are missed before anything is queued."""

import numpy as np
import pytest

from support.farm import Desk, desk
from support.species import species_tree

__all__ = ["desk"]

PROTOCOL = """
name = "mine"
[[stages]]
name = "single_point"
task = "single-point"
[stages.policy]
basis_above_350 = "{fallback}"
[[stages.levels]]
[stages.levels.level]
engine = "aims"
method = "PBE0"
dispersion = "mbd"
mbd_beta = 0.85
basis = "tight"
"""


def helium(count: int) -> str:
    rows = (f"He {2.5 * i:.1f} 0 0" for i in np.arange(count))
    return "\n".join((str(count), "", *rows)) + "\n"


@pytest.mark.parametrize(
    ("count", "fallback", "code"),
    [(350, "intermediate", 0), (351, "intermediate", 1), (351, "none", 0)],
)
def test_the_tier_to_fall_back_to_must_be_there_too(
    desk: Desk, count: int, fallback: str, code: int
) -> None:
    species_tree(desk.folder / "species", ["He"], ["tight"])
    (desk.folder / "qfarm.toml").write_text('[engines.aims]\nparameters = "species"\n')
    (desk.folder / "mine.toml").write_text(PROTOCOL.format(fallback=fallback))
    said = desk.run("submit", desk.file(helium(count)), "--protocol", "mine.toml")
    assert said.code == code, said.err
    if code:
        assert "aims needs intermediate/02_He_default" in said.err
        assert not list(desk.store.counts())


def test_a_species_file_of_another_tier_is_refused(desk: Desk) -> None:
    species_tree(desk.folder / "species", ["He"], ["light"])
    (desk.folder / "species/light").rename(desk.folder / "species/tight")
    (desk.folder / "qfarm.toml").write_text('[engines.aims]\nparameters = "species"\n')
    (desk.folder / "mine.toml").write_text(PROTOCOL.format(fallback="none"))
    said = desk.run("submit", desk.file(helium(3)), "--protocol", "mine.toml")
    assert said.code == 1
    assert "tight/02_He_default holds 'light' settings" in said.err
