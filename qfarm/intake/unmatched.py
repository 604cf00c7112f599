"""Unmatched: what to do with a fragment that no rule of a protocol covers. Pure."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from qfarm.plan import NoLevel
from qfarm_schemas.config import LevelRule, Protocol, StageTemplate


def remedy(missed: NoLevel, protocol: Protocol) -> str:
    """Say which property no rule covers: the class, else the elements, else the size.

    Another class is proposed only for a class that the protocol does not know: for an element
    or a size it would give numbers at a level that is not meant for the fragment.
    """
    known = _known_classes(missed.fragment_class, protocol)
    if known:
        return _other_class(missed.fragment_class, known, protocol.name)
    stage = next((one for one in protocol.stages if one.name == missed.stage), None)
    if stage is None:
        return "Leave it out (--skip-invalid), or take another protocol."
    return f"{_uncovered(missed, stage)} {_OWN_RULE}"


def _known_classes(fragment_class: str, protocol: Protocol) -> list[str]:
    """Classes of the first stage that has no rule for this one; empty when every stage has."""
    for stage in protocol.stages:
        if all(rule.classes and fragment_class not in rule.classes for rule in stage.levels):
            return list(dict.fromkeys(name for rule in stage.levels for name in rule.classes))
    return []


def _other_class(given: str, known: Sequence[str], protocol: str) -> str:
    near = get_close_matches(given, known, n=1)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known)
    return (
        f"{guess}Protocol {protocol!r} has the classes {listed}: set the right one (key class=, "
        "or --class), or take another protocol."
    )


def _uncovered(missed: NoLevel, stage: StageTemplate) -> str:
    named = missed.fragment_class
    of_class = [rule for rule in stage.levels if not rule.classes or named in rule.classes]
    of_size = [rule for rule in of_class if rule.matches(*_without_elements(missed, rule))]
    lacking = _fewest(set(missed.elements) - set(rule.elements) for rule in of_size)
    if lacking:
        return f"Its rules for this class and size are not for {', '.join(lacking)}."
    return f"Its rules for this class are for {_sizes(of_class)} atoms."


def _without_elements(missed: NoLevel, rule: LevelRule) -> tuple[str, int, frozenset[str]]:
    return missed.fragment_class, missed.n_atoms, frozenset(rule.elements)


def _fewest(sets: Iterable[set[str]]) -> list[str]:
    return min((sorted(one) for one in sets), key=len, default=[])


def _sizes(rules: Iterable[LevelRule]) -> str:
    ends = dict.fromkeys((rule.min_atoms, rule.max_atoms) for rule in rules)
    return ", ".join(f"{least}-{most or ''}" for least, most in ends)


_OWN_RULE: Final = (
    "Leave the fragment out (--skip-invalid), or give a copy of the protocol a rule for it, with "
    "a level or with skip = true."
)
