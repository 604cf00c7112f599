"""Species files in the format of FHI-aims with made-up numbers: for tests, useless for physics."""

from collections.abc import Iterable
from pathlib import Path

from ase.data import atomic_masses, atomic_numbers

RULE = "#" * 80

L_HARTREE = {"light": 4, "intermediate": 5, "tight": 6}


def species_text(symbol: str, tier: str = "tight") -> str:
    """A species file; nothing in it but symbol, nucleus and mass is a real value."""
    number = atomic_numbers[symbol]
    return f"""\
{RULE}
#
#  Made for the tests of qfarm: the numbers are invented, no part of FHI-aims
#
#  Suggested "{tier}" defaults for {symbol} atom (made for tests)
#
{RULE}
  species        {symbol}
#     global species definitions
    nucleus             {number}
    mass                {atomic_masses[number]:.4f}
#
    l_hartree           {L_HARTREE[tier]}
#
    cut_pot             9.1  9.2  1.0
    basis_dep_cutoff    1e-4
#
    radial_base         11 9.0
    radial_multiplier   1
    angular_grids specified
      division   0.1111   50
      division   0.2222  110
#      division   0.3333  194
      outer_grid  110
{RULE}
#  Definition of "minimal" basis
{RULE}
    valence      1  s   1.
    ion_occ      1  s   0.5
{RULE}
#  "First tier" - improvements: invented
     hydro 2 s 9.9
     hydro 2 p 8.8
#     hydro 3 d 7.7
# for_aux hydro 4 f 0.0
"""


def species_name(symbol: str, tier: str = "tight") -> str:
    """Path below the tree, as in FHI-aims."""
    return f"{tier}/{atomic_numbers[symbol]:02d}_{symbol}_default"


def species_texts(symbols: Iterable[str], tier: str = "tight") -> dict[str, str]:
    """Path below the tree -> text, as `Site.texts` has it."""
    return {species_name(symbol, tier): species_text(symbol, tier) for symbol in symbols}


def species_tree(
    folder: Path,
    symbols: Iterable[str] = ("H", "C", "N", "O"),
    tiers: Iterable[str] = ("light", "intermediate", "tight"),
) -> Path:
    """Make a tree of species files in `folder`, named as FHI-aims' own; returns it."""
    chosen = tuple(symbols)
    for tier in tiers:
        for path, text in species_texts(chosen, tier).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    return folder
