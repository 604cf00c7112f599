"""Quarantine: which nodes are left alone for a while, by what failed there and nowhere else.

A node is to blame for a failure that only a node can cause, when the same stage was accepted on
another node later. Three such fragments, and the node is left alone; but not one that accepts as
many as it fails: then something else is wrong with them. A node is to blame, too, for three jobs in
a row whose self-test fails there, while jobs of the same partition work elsewhere. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

from qfarm.store.fleet import JobNote, NodeFailure, NodeNote
from qfarm_schemas.failure import OF_SIZE, Budget, FailureKind
from qfarm_workers.selftest import SELF_TEST

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


def unfit(
    jobs: Iterable[JobNote], now: datetime, past: Iterable[NodeNote] = ()
) -> tuple[NodeNote, ...]:
    """Nodes to be left alone because no job gets through its self-test there.

    Without this one sick node, which is always free, would take job after job of the others.

    Parameters
    ----------
    jobs : iterable of JobNote
        Of all partitions, also those that have ended within `WINDOW`.
    now : datetime
        UTC.
    past : iterable of NodeNote
        Every quarantine that is remembered; what came before one is paid with it.

    Returns
    -------
    tuple of NodeNote
        None for a node if no job of the same partition has worked on another one meanwhile: then
        it is the partition that is out of order.
    """
    known = _by_host(past)
    by_place: dict[tuple[str, str], list[JobNote]] = {}
    jobs = [job for job in jobs if job.host]
    for job in sorted(jobs, key=lambda job: job.ended or now):
        by_place.setdefault((job.partition, job.host), []).append(job)
    found: dict[str, NodeNote] = {}
    for (partition, host), there in by_place.items():
        before = known.get(host, ())
        failed = _failed_in_a_row(there, max((note.until for note in before), default=now - WINDOW))
        others = _at_work(jobs, partition, failed[0]) - {host} if failed else set()
        if len(failed) >= DIFFERENT and others and not any(note.until > now for note in before):
            length = _length(sum(not note.fragments for note in before))
            found[host] = NodeNote(host, now + length, _unfit_sentence(failed, others))
    return tuple(found.values())


def _failed_in_a_row(jobs: Sequence[JobNote], since: datetime) -> list[JobNote]:
    """The last jobs of a node, all of which failed their self-test since a time."""
    failed: list[JobNote] = []
    for job in jobs:
        if job.ended is not None and job.why.startswith(SELF_TEST):
            failed += [job] if job.ended > since else []
        elif job.ended is not None or (failed and _began_after(job, failed[-1])):
            failed = []
    return failed


def _began_after(job: JobNote, other: JobNote) -> bool:
    """Whether a job that runs has got through its self-test since another one has not."""
    begun = job.started if job.has_worked else None
    return begun is not None and other.ended is not None and begun > other.ended


def _at_work(jobs: Iterable[JobNote], partition: str, since: JobNote) -> set[str]:
    """Hosts where jobs of a partition have worked since one failed."""
    return {
        job.host
        for job in jobs
        if job.partition == partition
        and job.has_worked
        and (job.ended is None or (since.ended is not None and job.ended > since.ended))
    }


def _unfit_sentence(failed: Sequence[JobNote], others: Iterable[str]) -> str:
    why = failed[-1].why.removeprefix(f"{SELF_TEST}: ")
    others = ", ".join(sorted(others)[:DIFFERENT])
    return (
        f"{len(failed)} jobs in a row failed their self-test there, while others work on {others}: "
        f"{why}"
    )


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
    return NodeNote(charge.host, now + _length(before), _sentence(charge), charge.fragments)


def _length(before: int) -> timedelta:
    """Of a quarantine after as many for the same reason."""
    return min(LONGEST, FIRST * (1 << min(before, 10)))


def _sentence(charge: Charge) -> str:
    kinds = ", ".join(sorted({failure.kind for failure in charge.failures}))
    shown = ", ".join(fragment[:SHORT] for fragment in charge.fragments[-DIFFERENT:])
    more = len(charge.fragments) - DIFFERENT
    others = ", ".join(sorted(charge.others)[:DIFFERENT])
    return (
        f"{len(charge.fragments)} fragments failed there ({kinds}) and went well on {others}: "
        f"{shown}{f' and {more} more' if more else ''}"
    )
