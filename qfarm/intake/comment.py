"""Comment: the second line of a frame, where a slip of the pen would hide a key from ASE. Pure.

ASE takes whatever stands in quotes or brackets for one word, up to the end of the line where the
closing one is missing, and of two equal keys it keeps the last. Both are refused here.
"""

import re
from collections.abc import Iterator
from typing import Final

from qfarm.intake.problem import Flaw, Kind

_CLOSING: Final = {"'": "'", '"': '"', "{": "}", "[": "]"}
"""Delimiters of `ase.io.extxyz.key_val_str_to_dict`; it does not nest them."""

_BRACKETS: Final = (("{", "}"), ("[", "]"))

_PAIR: Final = re.compile(r"(?<!\S)(?P<key>[^\s=]+)\s*=\s*(?P<value>\S*)")

_WORD: Final = re.compile(r"(?<!\S)([^\s=]+)(?:\s*=\s*\S*)?")

_MAY_HOLD_A_KEY: Final = re.compile(r"(?i)[=:]|charge|mult|spin|unit|class|tag")

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


def pairs(comment: str) -> Iterator[tuple[str, str]]:
    """Keys and raw values in order, repeated ones too; none from inside quotes or brackets."""
    text, _ = _mask(comment)
    for match in _PAIR.finditer(text):
        key, value = (comment[slice(*match.span(group))] for group in ("key", "value"))
        yield key, value.strip("\"'{}[]")


def repeated(comment: str, keys: tuple[str, ...], kind: Kind) -> Flaw | None:
    """One of the keys with two values; ASE would keep the last without a word."""
    for key in keys:
        values = dict.fromkeys(value for name, value in pairs(comment) if name.lower() == key)
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
    names = "|".join(keys)
    # Not ``:charge:``, which is a column in Properties.
    packed = rf"(?i)[,;|(#/&@](?:{names})\s*[=:]|:(?:{names})\s*=|(?<!\S)(?:{names})[:,;][^\s=]"
    if match := re.search(packed, text):
        return comment[match.start() :].split(maxsplit=1)[0]
    quoted = re.compile(rf"(?i)(?<!\w)(?:{names})[\"']?\s*[=:].*\S")
    # A value goes with its key, so only what stands where a key should is looked into.
    words = (comment[slice(*match.span(1))] for match in _WORD.finditer(text))
    return next((word for word in words if quoted.search(word)), None)


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
    text, open_, escaped = [], None, False
    for char in comment:
        shown = "_" if char == "\0" else char
        if escaped:
            shown, escaped = ("\0" if open_ is None and char.isspace() else "_"), False
        elif char == "\\":
            shown, escaped = "_", True
        elif open_ is not None:
            if char == open_:
                open_ = None
            elif open_ in ("'", '"') or char not in "{}[]":
                shown = "_"
        else:
            open_ = _CLOSING.get(char)
        text.append(shown)
    return "".join(text), open_


def _broken(what: str, remedy: str) -> Flaw:
    return Flaw(
        Kind.UNREADABLE,
        f"the comment line {what}, so ASE would not see every key",
        f'{remedy}, for instance name="5\'-AMP" charge=-1.',
    )
