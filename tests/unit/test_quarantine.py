"""Quarantine: nodes that fail what goes well elsewhere are left alone, and no others."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.store.fleet import JobNote, JobState, NodeFailure, NodeNote
from qfarm_launchers.quarantine import BLAMED, FIRST, LONGEST, WINDOW, quarantine, unfit
from qfarm_schemas.failure import Budget, FailureKind
from support.build import NOW

HOUR = timedelta(hours=1)


def failed(
    fragment: str,
    host: str = "bad",
    kind: str = "crashed",
    hours: float = 1.0,
    elsewhere: str = "good",
) -> NodeFailure:
    """A failure so many hours ago."""
    finished = NOW - hours * HOUR
    return NodeFailure(host, f"{fragment}.sp", f"f{fragment}0123456789", kind, finished, elsewhere)


def three(**fields: object) -> list[NodeFailure]:
    return [failed(name, **fields) for name in "abc"]  # type: ignore[arg-type]


def hosts(notes: Sequence[NodeNote]) -> list[str]:
    return [note.host for note in notes]


def test_three_different_fragments_and_the_node_is_left_alone() -> None:
    assert quarantine(three()[:2], NOW) == ()
    (note,) = quarantine(three(), NOW)
    assert note.host == "bad"
    assert note.until == NOW + FIRST
    assert note.fragments == ("fa0123456789", "fb0123456789", "fc0123456789")
    assert note.why == (
        "3 fragments failed there (crashed) and went well on good: fa0123456, fb0123456, fc0123456"
    )


def test_the_sentence_stays_short() -> None:
    many = [
        failed(name, kind=kind) for name, kind in zip("abcde", sorted(BLAMED) * 2, strict=False)
    ]
    (note,) = quarantine(many, NOW)
    assert note.why.endswith("fc0123456, fd0123456, fe0123456 and 2 more")
    assert note.why.startswith("5 fragments failed there (bad-output, crashed, engine-missing, ")


def test_one_fragment_three_times_does_not() -> None:
    assert quarantine([failed("a", hours=hours) for hours in (1, 2, 3)], NOW) == ()


def test_what_failed_everywhere_blames_nobody() -> None:
    everywhere = [failed(name, host, elsewhere="") for name in "abc" for host in ("n1", "n2", "n3")]
    assert quarantine(everywhere, NOW) == ()
    assert quarantine(three(elsewhere="bad"), NOW) == ()  # it went well there, too


def test_old_failures_are_forgotten() -> None:
    hours = WINDOW / HOUR
    assert hosts(quarantine(three(hours=hours), NOW)) == ["bad"]
    assert quarantine([*three()[:2], failed("c", hours=hours + 0.1)], NOW) == ()


@pytest.mark.parametrize(
    "kind", ["time-limit", "out-of-memory", "scf-not-converged", "lost-worker", "of-next-year"]
)
def test_what_no_node_is_to_blame_for_never_counts(kind: str) -> None:
    assert quarantine(three(kind=kind), NOW) == ()


def test_chemistry_and_infrastructure_are_never_blamed() -> None:
    budgets = {kind.value: kind.budget for kind in FailureKind}
    assert {budgets[kind] for kind in BLAMED} == {Budget.NODE}


@pytest.mark.parametrize(("accepted", "alone"), [(0, ["bad"]), (2, ["bad"]), (3, []), (99, [])])
def test_a_node_that_accepts_as_many_is_not_black(accepted: int, alone: list[str]) -> None:
    asked: list[tuple[str, datetime]] = []

    def accept(host: str, since: datetime) -> int:
        asked.append((host, since))
        return accepted

    found = [failed("x", hours=20), failed("a", hours=3), failed("b", hours=2), failed("c")]
    assert hosts(quarantine(found, NOW, accepted=accept)) == alone
    assert asked == [("bad", NOW - 3 * HOUR)]  # since it began to fail, not since yesterday


def test_a_fragment_is_held_against_a_node_once() -> None:
    (note,) = quarantine(three(), NOW)
    later = note.until + HOUR
    assert quarantine(three(), later, past=[note]) == ()
    new = [failed(name, hours=-3) for name in "def"]
    (again,) = quarantine([*three(), *new], later, past=[note])
    assert again.fragments == tuple(failure.fragment_id for failure in new)
    assert again.until == later + 2 * FIRST


def test_each_further_quarantine_is_longer_up_to_a_day() -> None:
    past: list[NodeNote] = []
    now, lengths = NOW, []
    for round_ in range(6):
        names = [f"{round_}{name}" for name in "abc"]
        found = [
            NodeFailure("bad", f"{name}.sp", name, "crashed", now - HOUR, "good") for name in names
        ]
        (note,) = quarantine(found, now, past)
        lengths.append((note.until - now) / HOUR)
        past.append(note)
        now = note.until + HOUR
    assert lengths == [2, 4, 8, 16, 24, 24]
    assert LONGEST / HOUR == 24


def test_a_failed_self_test_makes_the_next_quarantine_no_longer() -> None:
    tested = NodeNote("bad", NOW - HOUR, "aims fails with water")
    (note,) = quarantine(three(), NOW, past=[tested])
    assert note.until == NOW + FIRST


def test_while_it_is_left_alone_nothing_new_is_said() -> None:
    alone = NodeNote("bad", NOW + HOUR, "it failed")
    assert quarantine(three(), NOW, past=[alone]) == ()


def test_the_last_node_that_does_better_stays() -> None:
    mutual = [*three(), *(failed(name, "good", elsewhere="bad") for name in "xyzv")]
    assert hosts(quarantine(mutual, NOW)) == ["good"]  # it failed more
    alone = NodeNote("good", NOW + HOUR, "it failed")
    assert quarantine(three(), NOW, past=[alone]) == ()


HOSTS = st.sampled_from(["n1", "n2", "n3", "n4"])
FAILURES = st.lists(
    st.builds(
        failed,
        st.sampled_from("abcdefgh"),
        HOSTS,
        st.sampled_from([kind.value for kind in FailureKind]),
        st.floats(0, 48),
        st.one_of(HOSTS, st.just("")),
    ),
    max_size=60,
)


@given(FAILURES, st.sets(HOSTS, max_size=3))
def test_never_are_all_nodes_left_alone(failures: list[NodeFailure], before: set[str]) -> None:
    past = [NodeNote(host, NOW + HOUR, "earlier") for host in sorted(before)]
    notes = quarantine(failures, NOW, past)
    seen = {failure.host for failure in failures} | {failure.succeeded_on for failure in failures}
    alone = before | {note.host for note in notes}
    if notes:
        assert seen - {""} - alone
    assert not before & {note.host for note in notes}


@given(FAILURES)
def test_every_quarantine_has_three_fragments_that_went_well_elsewhere(
    failures: list[NodeFailure],
) -> None:
    for note in quarantine(failures, NOW):
        speak = [
            failure
            for failure in failures
            if failure.host == note.host
            and failure.kind in BLAMED
            and failure.succeeded_on not in ("", note.host)
            and NOW - failure.finished <= WINDOW
        ]
        assert {failure.fragment_id for failure in speak} == set(note.fragments)
        assert len(note.fragments) == len(set(note.fragments)) >= 3


@given(FAILURES, st.randoms())
def test_the_order_of_failures_does_not_matter(failures: list[NodeFailure], random: object) -> None:
    mixed = list(failures)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    shown = {(note.host, note.until, frozenset(note.fragments)) for note in quarantine(mixed, NOW)}
    straight = quarantine(failures, NOW)
    assert shown == {(note.host, note.until, frozenset(note.fragments)) for note in straight}


def job(
    name: str,
    host: str = "bad",
    hours: float = 1.0,
    why: str = "self-test failed: no aims",
    partition: str = "cpu",
) -> JobNote:
    """A job that ended so many hours ago."""
    ended = NOW - hours * HOUR
    begun = ended - timedelta(minutes=1)
    return JobNote(name, partition, JobState.ENDED, host=host, started=begun, ended=ended, why=why)


def at_work(host: str = "good", partition: str = "cpu", hours: float = 9.0) -> JobNote:
    begun = NOW - hours * HOUR
    return JobNote(
        f"{host} at work", partition, JobState.RUNNING, host=host, started=begun, worked=True
    )


SICK = [job(name, hours=hours) for name, hours in (("a", 1.0), ("b", 0.5), ("c", 0.1))]


def test_three_jobs_that_fail_their_self_test_while_others_work() -> None:
    (note,) = unfit([*SICK, at_work()], NOW)
    assert (note.host, note.until, note.fragments) == ("bad", NOW + FIRST, ())
    assert note.why == (
        "3 jobs in a row failed their self-test there, while others work on good: no aims"
    )


@pytest.mark.parametrize(
    "jobs",
    [
        SICK,  # nobody works: the partition is out of order
        [*SICK[:2], at_work()],
        [*SICK, at_work("bad", hours=0.01)],  # it works again
        [*SICK, at_work(partition="gpu")],
        [*SICK, replace(at_work(), ended=NOW - 2 * HOUR)],  # before
        [*SICK[:2], job("d", hours=0.2, why="its lifetime is over"), SICK[2], at_work()],
        [*SICK[:2], replace(SICK[2], host="worse"), at_work()],
        [*SICK[:2], replace(SICK[2], partition="gpu"), at_work()],
        [job("a", hours=25.0), *SICK[1:], at_work()],
    ],
)
def test_and_what_is_no_reason(jobs: list[JobNote]) -> None:
    assert unfit(jobs, NOW) == ()


def test_a_job_that_got_through_before_does_not_excuse_the_node() -> None:
    """Its GPU fell off the bus while the job computes on."""
    assert hosts(unfit([*SICK, at_work("bad"), at_work()], NOW)) == ["bad"]


def test_after_its_time_the_node_needs_three_new_ones_and_gets_twice_as_long() -> None:
    past = NodeNote("bad", NOW - 0.3 * HOUR, "of before")
    assert unfit([*SICK, at_work()], NOW, [past]) == ()
    fresh = [job(name, hours=0.2) for name in "def"]
    (note,) = unfit([*SICK, *fresh, at_work()], NOW, [past])
    assert note.until == NOW + 2 * FIRST
    now_alone = NodeNote("bad", NOW + HOUR, "still")
    assert unfit([*SICK, *fresh, at_work()], NOW, [now_alone]) == ()
