"""Species defaults: which files a fragment needs, and whether a text is what its name says. Pure.

The names are those below one tree of FHI-aims, ``species_defaults/defaults_2020``, which the site
names as the folder of parameter files. A tier stands for that tree: its meaning never changes,
because the id of a level of theory hashes the tier alone.
"""

import re
from collections.abc import Mapping
from typing import Final

from qfarm_schemas.elements import SYMBOLS
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory

TREE: Final = "defaults_2020"
"""Name of the tree that the tiers stand for."""

TIERS: Final = (BasisTier.LIGHT, BasisTier.INTERMEDIATE, BasisTier.TIGHT)

HEAVIEST: Final = 102
"""Nobelium: the last element with species defaults."""

_SPECIES: Final = re.compile(r"^\s*species\s+(\S+)", re.MULTILINE)
_NUCLEUS: Final = re.compile(r"^\s*nucleus\s+(\S+)", re.MULTILINE)
_TIER: Final = re.compile(r'^#\s*Suggested "(\w+)" defaults', re.MULTILINE)


def name(number: int, tier: BasisTier) -> str:
    """Path of an element's file below the tree, for instance ``tight/08_O_default``."""
    return f"{tier.value}/{number:02d}_{SYMBOLS[number]}_default"


def names(fragment: Fragment, level: LevelOfTheory) -> tuple[str, ...]:
    """Paths of the files that a fragment needs, by atomic number."""
    return tuple(name(number, level.basis) for number in elements(fragment))


def elements(fragment: Fragment) -> tuple[int, ...]:
    """Atomic numbers that occur in the fragment, each once, in order."""
    return tuple(sorted({int(number) for number in fragment.numbers}))


def pasted(fragment: Fragment, level: LevelOfTheory, texts: Mapping[str, str]) -> str:
    """The texts one after another as they are, those left out that are not what they should be.

    FHI-aims stops at once without the species of an atom, before it has cost anything; `wrong`
    says why.
    """
    good = (
        texts[name(number, level.basis)]
        for number in elements(fragment)
        if _wrong(number, level.basis, texts) is None
    )
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in good)


def wrong(fragment: Fragment, level: LevelOfTheory, texts: Mapping[str, str]) -> str | None:
    """What is wrong with the first text that is not what its name says; None when all are good.

    Parameters
    ----------
    fragment, level : Fragment, LevelOfTheory
        What is computed.
    texts : mapping
        Text of each file of `names`.
    """
    found = (_wrong(number, level.basis, texts) for number in elements(fragment))
    return next((reason for reason in found if reason), None)


def _wrong(number: int, tier: BasisTier, texts: Mapping[str, str]) -> str | None:
    path, symbol = name(number, tier), SYMBOLS[number]
    text = texts.get(path)
    if text is None:
        return f"the species file {path} was not given"
    labels, nuclei = _SPECIES.findall(text), _NUCLEUS.findall(text)
    if labels != [symbol]:
        return f"the species file {path} defines {_listed(labels)}, not the species {symbol}"
    if len(nuclei) != 1 or _number(nuclei[0]) != number:
        return f"the species file {path} has nucleus {_listed(nuclei)}, not {number}"
    return _other_tier(text, path, tier)


def _other_tier(text: str, path: str, tier: BasisTier) -> str | None:
    """Light settings by their heading where others belong, and the reverse.

    Nothing more is judged: headings of the denser tiers do not always name their own tier.
    """
    for said in _TIER.findall(text):
        if (said == "light") != (tier is BasisTier.LIGHT):
            return f"the species file {path} holds {said!r} settings, says its heading"
    return None


def _number(word: str) -> float | None:
    try:
        return float(word.lower().replace("d", "e"))
    except ValueError:
        return None


def _listed(words: list[str]) -> str:
    return ", ".join(words) or "nothing"
