"""Check a workflow against all invariants, and cure it: pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from qfarm.store.fsck.changes import Change, apply
from qfarm.store.fsck.model import Facts, Finding, Group, Raw, grouped
from qfarm.store.fsck.table import BY_NAME, IN_WORKFLOWS
from qfarm.store.fsck.tools import Tools

_CHECKS: Final = [(item.name, item.find) for item in IN_WORKFLOWS if item.find is not None]

_TRIES: Final = 3
"""How often one finding is cured: it may come back when the cure of another uncovers it."""


class Cure(NamedTuple):
    """What cures a workflow.

    Attributes
    ----------
    changes : list of Change
        In the order in which they are to be made.
    cured, left : list of Finding
        What was found and is gone then, and what nothing could be done about.
    """

    changes: list[Change]
    cured: list[Finding]
    left: list[Finding]


def check(group: Group, facts: Facts) -> Iterator[Finding]:
    """All that is wrong with a workflow."""
    for name, find in _CHECKS:
        for found in find(group, facts):
            yield Finding(name, *found)


def cure(raw: Raw, key: str, tools: Tools) -> Cure:
    """Changes that make a workflow whole, one invariant after the other.

    Parameters
    ----------
    raw : dict
        All documents that belong to the workflow.
    key : str
        Workflow key.
    tools : Tools
        What cures need from outside.
    """
    changes: list[Change] = []
    tried: Counter[Finding] = Counter()
    found = _found(raw, key, tools.facts)
    met = {(item.name, item.where): item for item in found}
    while (finding := _next(found, tried)) is not None:
        tried[finding] += 1
        made = _made(raw, key, finding, tools)
        if made:
            raw, changes = apply(made, raw), changes + made
            found = _found(raw, key, tools.facts)
    left = {(item.name, item.where) for item in found}
    return Cure(changes, [met[one] for one in met if one not in left], found)


def _next(found: list[Finding], tried: Counter[Finding]) -> Finding | None:
    """The first finding of those that were tried least; one may be curable after another."""
    open_ = (item for item in found if tried[item] < _TRIES)
    return min(open_, key=lambda item: tried[item], default=None)


def _found(raw: Raw, key: str, facts: Facts) -> list[Finding]:
    group = _group(raw, key)
    return [] if group is None else list(check(group, facts))


def _made(raw: Raw, key: str, finding: Finding, tools: Tools) -> list[Change]:
    group, repair = _group(raw, key), BY_NAME[finding.name].repair
    return [] if group is None or repair is None else repair(group, finding, tools)


def _group(raw: Raw, key: str) -> Group | None:
    return next((group for group in grouped(raw).groups if group.key == key), None)
