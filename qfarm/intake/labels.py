"""Labels: charge, multiplicity, class, tags and unit from the keys that the field uses. Pure.

Every multiplicity key means 2S+1: OMol25's ``spin``, MACE's ``total_spin`` (default 1) and
QCElemental's ``molecular_multiplicity`` are all defined so. A file that means 2S instead cannot
slip through, because 2S and 2S+1 differ in parity and the electron count tells them apart.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, Final

import numpy as np

from qfarm.intake.comment import bare_numbers, hidden, pairs, repeated
from qfarm.intake.problem import Flaw, Kind
from qfarm.intake.structure import Structure

CHARGE_KEYS: Final = ("charge", "total_charge", "molecular_charge")
"""Total charge in e: most files and OMol25, MACE, QCElemental."""

MULTIPLICITY_KEYS: Final = ("multiplicity", "spin", "total_spin", "molecular_multiplicity")
"""2S+1: most files, OMol25, MACE, QCElemental."""

CLASS_KEYS: Final = ("class", "fragment_class")
TAG_KEYS: Final = ("tags",)
NAME_KEYS: Final = ("name",)

UNIT_KEY: Final = re.compile(
    r"(?:(?:length|pos|positions?|coords?|coordinates?|distances?|geom|geometry|xyz|cell)[_-]?)?"
    r"units?"
)
"""Keys for the unit of the coordinates; `energy_unit` and the like are others."""

ANGSTROM: Final = frozenset({"a", "ang", "angstrom", "angstroms", "å", "ångstrom", "ångström"})
"""The one unit that is read; xyz files are in A by convention."""

MISTAKEN: Final[Mapping[str, str]] = {
    "q": "charge",
    "chrg": "charge",
    "net_charge": "charge",
    "formal_charge": "charge",
    "mult": "multiplicity",
    "spin_multiplicity": "multiplicity",
    "uhf": "multiplicity",
    "n_unpaired": "multiplicity",
}
"""Keys that look like a charge or a multiplicity but are not read; refused, never ignored."""

_KEPT: Final = 1024
"""Keys that are remembered; files have few, and use them in every frame."""

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:+-]*")
"""A class or a tag: ASE keeps such a word as it is."""


def charge(structure: Structure) -> int | Flaw | None:
    """Total charge, e; None when no key gives it."""
    found = _whole_number(structure, CHARGE_KEYS, Kind.CHARGE)
    total = round(structure.summed_charge) if isfinite(structure.summed_charge) else 0
    if found is None and bare_numbers(structure.comment):
        return Flaw(
            Kind.CHARGE,
            f"the comment line is just {_short(structure.comment)!r}, which xyz does not define as "
            "charge and multiplicity",
            "Write charge=... multiplicity=... (2S+1), or put name= before a number that is a "
            "name.",
        )
    if found is None and total != 0:
        return Flaw(
            Kind.CHARGE,
            f"the atomic charges sum to {total:+d} e, but no key gives the total charge",
            f"Write charge={total} in the comment line.",
        )
    return found


def multiplicity(structure: Structure) -> int | Flaw | None:
    """Spin multiplicity 2S+1; None when no key gives it."""
    found = _whole_number(structure, MULTIPLICITY_KEYS, Kind.MULTIPLICITY)
    unpaired = round(structure.summed_spin) if isfinite(structure.summed_spin) else 0
    if found is None and unpaired != 0:
        return Flaw(
            Kind.MULTIPLICITY,
            f"the magnetic moments sum to {unpaired}, but no key gives the multiplicity",
            f"Write multiplicity={abs(unpaired) + 1} in the comment line.",
        )
    if isinstance(found, int) and found < 1:
        return Flaw(
            Kind.MULTIPLICITY,
            f"the multiplicity is {found}",
            "The multiplicity is 2S+1, so 1 for a closed shell; `spin` means the same, as in "
            "OMol25.",
        )
    return found


def fragment_class(structure: Structure) -> str | Flaw | None:
    """Class of the data set; None when no key gives it."""
    values = _values(structure.info, CLASS_KEYS)
    for key, value in values.items():
        if not isinstance(value, str) or not NAME.fullmatch(value):
            return _bad_name(Kind.CLASS, key, value)
    if len(set(values.values())) > 1:
        return _disagree(Kind.CLASS, values)
    twice = repeated(structure.comment, CLASS_KEYS, Kind.CLASS)
    return twice or next(iter(values.values()), None)


def tags(structure: Structure) -> tuple[str, ...] | Flaw:
    """Return the tags, in order; empty when there are none."""
    values = _values(structure.info, TAG_KEYS)
    read: dict[str, tuple[str, ...]] = {}
    for key, value in values.items():
        words = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value
        if not isinstance(words, list) or not all(_is_name(word) for word in words):
            return _bad_name(Kind.TAGS, key, value)
        read[key] = tuple(dict.fromkeys(words))
    if len(set(read.values())) > 1:
        return _disagree(Kind.TAGS, values)
    twice = repeated(structure.comment, TAG_KEYS, Kind.TAGS)
    return twice or next(iter(read.values()), ())


def name(structure: Structure) -> Flaw | None:
    """Two different names: nothing depends on a name, but two may mean two frames run into one."""
    return repeated(structure.comment, NAME_KEYS, Kind.NAME)


def unit(structure: Structure) -> Flaw | None:
    """Coordinates in another unit than A."""
    for key, value in (*structure.info.items(), *pairs(structure.comment)):
        if not _is_unit(key):
            continue
        if value is True or unicodedata.normalize("NFC", str(value)).lower() not in ANGSTROM:
            return Flaw(
                Kind.UNITS,
                f"the comment line has {key}={'' if value is True else _short(value)}, but "
                "coordinates are read in A",
                "Convert the coordinates to A (1 bohr = 0.529177 A) and write "
                f"{key.strip(':;,')}=angstrom or leave it out; a unit of something else needs "
                "another key, such as energy_unit.",
            )
    return None


def misread(structure: Structure) -> tuple[Flaw | None, ...]:
    """Whatever else the comment line says that would be passed over in silence."""
    asked = (mistaken_key, hidden_key, unit, name)
    return tuple(ask(structure) for ask in asked)


def mistaken_key(structure: Structure) -> Flaw | None:
    """A key that the writer may have meant as charge or multiplicity."""
    for key, value in structure.info.items():
        meant = MISTAKEN.get(key.lower())
        if meant is not None and not isinstance(value, bool):
            kind = Kind.CHARGE if meant == "charge" else Kind.MULTIPLICITY
            return Flaw(kind, f"the key {key!r} is not read", f"Write {meant}= instead.")
    return None


def hidden_key(structure: Structure) -> Flaw | None:
    """A charge, a multiplicity or a unit that ASE reads as part of another word."""
    for kind, keys in (
        (Kind.CHARGE, CHARGE_KEYS),
        (Kind.MULTIPLICITY, MULTIPLICITY_KEYS),
        (Kind.UNITS, ("units?",)),
    ):
        word = hidden(structure.comment, keys)
        if word is not None:
            what = f"{_short(word)!r} in the comment line is one word to ASE, so it is not read"
            remedy = "Write key=value with spaces around it, without quotes or brackets."
            return Flaw(kind, what, remedy)
    return None


def _whole_number(structure: Structure, keys: tuple[str, ...], kind: Kind) -> int | Flaw | None:
    values = _values(structure.info, keys)
    for key, value in values.items():
        if isinstance(value, bool):
            return Flaw(
                kind, f"the comment line has {key!r} without a number", f"Write {keys[0]}=N."
            )
        if not _is_whole(value):
            return Flaw(kind, f"{key}={_short(value)} is not a whole number", f"Write {keys[0]}=N.")
    if len({int(value) for value in values.values()}) > 1:
        return _disagree(kind, values)
    return repeated(structure.comment, keys, kind) or next(
        (int(value) for value in values.values()), None
    )


@lru_cache(maxsize=_KEPT)
def _is_unit(key: str) -> bool:
    return UNIT_KEY.fullmatch(_bare(key)) is not None


@lru_cache(maxsize=_KEPT)
def _bare(key: str) -> str:
    """A key in lower case, without a colon behind it."""
    return key.lower().strip(":;,")


def _is_whole(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and isfinite(value) and float(value).is_integer()


def _is_name(word: Any) -> bool:
    return isinstance(word, str) and NAME.fullmatch(word) is not None


def _values(info: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return entries whose key is one of `keys`, whatever its case or a colon behind it."""
    return {key: value for key, value in info.items() if _bare(key) in keys}


def _disagree(kind: Kind, values: Mapping[str, Any]) -> Flaw:
    listed = " and ".join(f"{key}={_short(value)}" for key, value in values.items())
    return Flaw(kind, f"{listed} disagree", "Keep the right one.")


def _bad_name(kind: Kind, key: str, value: Any) -> Flaw:
    return Flaw(
        kind,
        f"{key}={_short(value)} is no name (as ASE reads it)",
        "Begin with an ASCII letter, go on with ASCII letters, digits and _ . : + -; T, F, True "
        "and False are truth values to ASE.",
    )


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:40]}..."
