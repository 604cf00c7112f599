"""Quarantine: which nodes are left alone for a while, by what failed there and nowhere else.

A node is to blame for a failure that only a node can cause, when the same stage was accepted on
another node later. Three such fragments, and the node is left alone; but not one that accepts as
many as it fails: then something else is wrong with them. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

from qfarm.store.fleet import NodeFailure, NodeNote
from qfarm_schemas.failure import OF_SIZE, Budget, FailureKind

WINDOW: Final = timedelta(hours=24)
"""How long a failure is held against a node; operators mend nodes within days, not minutes."""

DIFFERENT: Final = 3
"""Fragments that must have failed; one or two may be chance, as two crashes of one bad library
call are."""

FIRST: Final = timedelta(hours=2)
"""The first quarantine. Full disks, hung mounts and jobs of others that eat the memory often pass
in that time; and a node that does not mend costs three fragments one retry every two hours."""

LONGEST: Final = timedelta(hours=24)
"""Each further quarantine is twice as long, up to this: a node that never mends costs three retries
a day, and one that was mended works again the day after."""

SHORT: Final = 9
"""Characters of a fragment's id in a sentence; `qfarm show` finds it by them."""

BLAMED: Final = frozenset(
    kind.value for kind in FailureKind if kind.budget is Budget.NODE and kind not in OF_SIZE
)
"""Kinds of failures that are held against a node; those of `OF_SIZE` may go well elsewhere only
because another partition allows more."""

Accepted = Callable[[str, datetime], int]
"""How many attempts were accepted on a host since a time."""


@dataclass(frozen=True)
class Charge:
    """What is held against a node.

    Attributes
    ----------
    host : str
        Its name.
    failures : tuple of NodeFailure
        The last failure of each fragment, oldest first.
    """

    host: str
    failures: tuple[NodeFailure, ...]

    @property
    def since(self) -> datetime:
        """When the last so many different fragments began to fail that make a quarantine."""
        return self.failures[-DIFFERENT:][0].finished

    @property
    def fragments(self) -> tuple[str, ...]:
        """Ids of the fragments that failed."""
        return tuple(failure.fragment_id for failure in self.failures)

    @property
    def others(self) -> frozenset[str]:
        """Hosts where it went well."""
        return frozenset(failure.succeeded_on for failure in self.failures)


def quarantine(
    failures: Sequence[NodeFailure],
    now: datetime,
    past: Iterable[NodeNote] = (),
    accepted: Accepted | None = None,
) -> tuple[NodeNote, ...]:
    """Nodes to be left alone from now on, besides those that are already.

    Parameters
    ----------
    failures : sequence of NodeFailure
        Of the last `WINDOW`, in any order.
    now : datetime
        UTC.
    past : iterable of NodeNote
        Every quarantine that is remembered, also those that are over: a fragment is held against a
        node once, and each further quarantine is longer. Whoever forgets them gives a node one
        more quarantine of `FIRST`.
    accepted : callable or None
        Asked for hosts that are charged; None: that nothing was accepted is taken for granted.

    Returns
    -------
    tuple of NodeNote
        None for a node if all that did better are left alone themselves; so never all are.
    """
    known = _by_host(past)
    alone = {host for host, notes in known.items() if any(note.until > now for note in notes)}
    notes = []
    for charge in _charges(failures, now, known):
        free = charge.host not in alone and bool(charge.others - alone)
        if free and _fails_more(charge, accepted):
            alone.add(charge.host)
            notes.append(_note(charge, now, known.get(charge.host, ())))
    return tuple(notes)


def _by_host(past: Iterable[NodeNote]) -> dict[str, list[NodeNote]]:
    known: dict[str, list[NodeNote]] = {}
    for note in past:
        known.setdefault(note.host, []).append(note)
    return known


def _charges(
    failures: Sequence[NodeFailure], now: datetime, known: Mapping[str, Sequence[NodeNote]]
) -> list[Charge]:
    """Nodes with enough fragments against them, those with most first."""
    by_host: dict[str, dict[str, NodeFailure]] = {}
    recent = (one for one in failures if _blames(one) and now - one.finished <= WINDOW)
    for failure in sorted(recent, key=lambda one: (one.finished, one.key)):
        if failure.fragment_id not in _held(known.get(failure.host, ())):
            of_host = by_host.setdefault(failure.host, {})
            of_host.pop(failure.fragment_id, None)
            of_host[failure.fragment_id] = failure
    charges = [Charge(host, tuple(found.values())) for host, found in by_host.items()]
    enough = (charge for charge in charges if len(charge.failures) >= DIFFERENT)
    return sorted(enough, key=lambda charge: (-len(charge.failures), charge.host))


def _blames(failure: NodeFailure) -> bool:
    """Whether a failure speaks against its node."""
    return failure.kind in BLAMED and failure.succeeded_on not in ("", failure.host)


def _held(notes: Iterable[NodeNote]) -> frozenset[str]:
    return frozenset(chain.from_iterable(note.fragments for note in notes))


def _fails_more(charge: Charge, accepted: Accepted | None) -> bool:
    """Whether, since the last `DIFFERENT` fragments failed, fewer attempts were accepted there."""
    return accepted is None or accepted(charge.host, charge.since) < DIFFERENT


def _note(charge: Charge, now: datetime, known: Iterable[NodeNote]) -> NodeNote:
    before = sum(bool(note.fragments) for note in known)  # those of self-tests have none
    length = min(LONGEST, FIRST * 2 ** min(before, 10))
    return NodeNote(charge.host, now + length, _sentence(charge), charge.fragments)


def _sentence(charge: Charge) -> str:
    kinds = ", ".join(sorted({failure.kind for failure in charge.failures}))
    shown = ", ".join(fragment[:SHORT] for fragment in charge.fragments[-DIFFERENT:])
    more = len(charge.fragments) - DIFFERENT
    others = ", ".join(sorted(charge.others)[:DIFFERENT])
    return (
        f"{len(charge.fragments)} fragments failed there ({kinds}) and went well on {others}: "
        f"{shown}{f' and {more} more' if more else ''}"
    )
