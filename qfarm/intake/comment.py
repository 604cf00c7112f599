"""Comment: the second line of a frame, where a slip of the pen would hide a key from ASE. Pure.

ASE takes whatever stands in quotes or brackets for one word, up to the end of the line where the
closing one is missing, and of two equal keys it keeps the last. Both are refused here.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from qfarm.intake.problem import Flaw, Kind

_CLOSING: Final = {"'": "'", '"': '"', "{": "}", "[": "]"}
"""Delimiters of `ase.io.extxyz.key_val_str_to_dict`; it does not nest them."""

_KEPT: Final = 8
"""Lines whose reading is remembered: every check asks for the same one, and never comes back."""

_BRACKETS: Final = (("{", "}"), ("[", "]"))

_PAIR: Final = re.compile(r"(?<!\S)(?P<key>[^\s=]+)\s*=\s*(?P<value>\S*)")

_WORD: Final = re.compile(r"(?<!\S)([^\s=]+)(?:\s*=\s*\S*)?")

_MAY_HOLD_A_KEY: Final = re.compile(r"(?i)[=:]|charge|mult|spin|unit|class|tag")

_RUN: Final = re.compile(r"[^\\'\"{}\[\]\0]+|.", re.DOTALL)
"""Characters that mean themselves, or one that may mean more."""

_BARE_NUMBERS: Final = re.compile(r"\s*[+-]?\d+(?:[\s,;]+[+-]?\d+)?\s*")


def unbalanced(comment: str) -> Flaw | None:
    """Quotes or brackets without their partner, or a backslash that hides a space.

    A comment of mere words, such as ``5'-AMP, conformer 3``, hides nothing.
    """
    if not _MAY_HOLD_A_KEY.search(comment):
        return None
    text, open_ = _mask(comment)
    if open_ is not None:
        return _broken(f"lacks a closing {open_}", "Balance the quotes and brackets")
    for opening, closing in _BRACKETS:
        if text.count(opening) != text.count(closing):
            what = f"has {text.count(opening)} {opening} but {text.count(closing)} {closing}"
            return _broken(what, "Balance the brackets")
    if "\0" in text:
        return _broken("has a backslash before a space, which joins two words", "Take it out")
    return None


def bare_numbers(comment: str) -> bool:
    """Whether the line is one or two whole numbers, as other programs give charge and spin."""
    return _BARE_NUMBERS.fullmatch(comment) is not None


def pairs(comment: str) -> tuple[tuple[str, str], ...]:
    """Keys and raw values in order, repeated ones too; none from inside quotes or brackets."""
    return _pairs(comment)


def repeated(comment: str, keys: tuple[str, ...], kind: Kind) -> Flaw | None:
    """One of the keys with two values; ASE would keep the last without a word."""
    given = _values(comment)
    for key in keys:
        values = given.get(key, ())
        if len(values) > 1:
            listed = " and ".join(repr(value) for value in values)
            what = f"the comment line gives {key!r} twice: {listed}"
            return Flaw(kind, what, "Keep the right one.")
    return None


def hidden(comment: str, keys: tuple[str, ...]) -> str | None:
    """Find a key that ASE takes for part of a word: ``e=1,charge=1``, ``charge:1``, ``{charge=1}``.

    Quoted values may hold anything: ``note="charge=0 before"`` hides nothing.
    """
    text, _ = _mask(comment)
    packed, quoted = _patterns(keys)
    if match := packed.search(text):
        return comment[match.start() :].split(maxsplit=1)[0]
    return next((word for word in _suspects(comment) if quoted.search(word)), None)


@lru_cache(maxsize=_KEPT)
def _pairs(comment: str) -> tuple[tuple[str, str], ...]:
    text, _ = _mask(comment)
    return tuple(
        (comment[slice(*match.span("key"))], comment[slice(*match.span("value"))].strip("\"'{}[]"))
        for match in _PAIR.finditer(text)
    )


@lru_cache(maxsize=_KEPT)
def _values(comment: str) -> Mapping[str, tuple[str, ...]]:
    """Different values of each key, in order; keys in lower case."""
    found: dict[str, dict[str, None]] = {}
    for key, value in _pairs(comment):
        found.setdefault(key.lower(), {})[value] = None
    return {key: tuple(values) for key, values in found.items()}


@lru_cache(maxsize=_KEPT)
def _suspects(comment: str) -> tuple[str, ...]:
    """Words that may hold a key; a value goes with its key, so only what stands there counts."""
    text, _ = _mask(comment)
    words = (comment[slice(*match.span(1))] for match in _WORD.finditer(text))
    return tuple(word for word in words if "=" in word or ":" in word)


@lru_cache
def _patterns(keys: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """One of the keys packed with another word, and within quotes or brackets."""
    names = "|".join(keys)
    # Not ``:charge:``, which is a column in Properties.
    packed = rf"(?i)[,;|(#/&@](?:{names})\s*[=:]|:(?:{names})\s*=|(?<!\S)(?:{names})[:,;][^\s=]"
    quoted = rf"(?i)(?<!\w)(?:{names})[\"']?\s*[=:].*\S"
    return re.compile(packed), re.compile(quoted)


@lru_cache(maxsize=_KEPT)
def _mask(comment: str) -> tuple[str, str | None]:
    r"""Blank out what ASE takes literally, character by character.

    Returns
    -------
    text : str
        As long as `comment`: ``_`` for what is quoted or escaped, ``\0`` for a space that a
        backslash joins to the word; brackets stay unless they are in quotes.
    open_ : str or None
        The delimiter that is still missing at the end.
    """
    text: list[str] = []
    open_: str | None = None
    escaped = False
    for run in _RUN.findall(comment):
        for part in (run[:1], run[1:]) if escaped else (run,):
            shown, open_, escaped = _shown(part, open_, escaped)
            text.append(shown)
    return "".join(text), open_


def _shown(part: str, open_: str | None, escaped: bool) -> tuple[str, str | None, bool]:
    """What `_mask` puts for a part of a line, what is open behind it, whether it escapes."""
    if escaped:
        return ("\0" if open_ is None and part.isspace() else "_" * len(part)), open_, False
    if part == "\\":
        return "_", open_, True
    shown = part.replace("\0", "_")
    if open_ is None:
        return shown, _CLOSING.get(part), False
    if part == open_:
        return shown, None, False
    kept = open_ not in ("'", '"') and part in ("{", "}", "[", "]")
    return (shown if kept else "_" * len(part)), open_, False


def _broken(what: str, remedy: str) -> Flaw:
    return Flaw(
        Kind.UNREADABLE,
        f"the comment line {what}, so ASE would not see every key",
        f'{remedy}, for instance name="5\'-AMP" charge=-1.',
    )
