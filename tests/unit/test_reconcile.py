"""Reconcile: no job is lost, none is counted twice, and none waits for ever."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qfarm.store.fleet import JobNote, JobState
from qfarm_launchers.reconcile import LINGERS, LOST_AFTER, Changes, reconcile
from qfarm_launchers.schedulers.base import Queued, QueueState

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

NAMES = [f"cpu-{n}" for n in range(4)]
TIMES = st.none() | st.integers(0, 300).map(lambda ago: NOW - ago * SECOND)
NOTES = st.lists(
    st.builds(
        JobNote,
        name=st.sampled_from(NAMES),
        partition=st.just("cpu"),
        state=st.sampled_from([JobState.SUBMITTING, JobState.PENDING, JobState.RUNNING]),
        scheduler_id=st.sampled_from(["", "1", "2", "3"]),
        submitted=TIMES,
        started=TIMES,
        seen=TIMES,
    ),
    unique_by=lambda note: note.name,
)
QUEUES = st.lists(
    st.builds(
        Queued,
        id=st.sampled_from(["1", "2", "3", "4"]),
        name=st.sampled_from([*NAMES, "somebody-else-s"]),
        state=st.sampled_from(QueueState),
    ),
    unique_by=lambda queued: queued.id,
).map(lambda found: {queued.id: queued for queued in found})


def note(**fields: Any) -> JobNote:
    return replace(JobNote("cpu-1", "cpu", submitted=NOW), **fields)


def queue(*ids: str, name: str = "cpu-1") -> dict[str, Queued]:
    return {id_: Queued(id=id_, name=name, state=QueueState.PENDING) for id_ in ids}


@given(notes=NOTES, queue=QUEUES)
def test_each_job_is_either_there_or_gone(notes: list[JobNote], queue: dict[str, Queued]) -> None:
    changes = reconcile(notes, queue, NOW)
    there = [one.name for one in changes.present]
    gone = [one.name for one in changes.gone]
    assert sorted(there + gone) == sorted(one.name for one in notes)
    assert set(changes.known) <= set(changes.present)
    assert not set(changes.known) & set(notes), "only what changed is written"


@given(notes=NOTES, queue=QUEUES)
def test_what_the_scheduler_has_is_never_gone(
    notes: list[JobNote], queue: dict[str, Queued]
) -> None:
    names = {queued.name for queued in queue.values()}
    changes = reconcile(notes, queue, NOW)
    for one in changes.gone:
        assert one.name not in names
        signs = [time for time in (one.submitted, one.started, one.seen) if time]
        assert all(NOW - time > LINGERS for time in signs)
    for one in changes.present:
        assert one.name in names or one in notes
        assert one.name not in names or one.state is not JobState.SUBMITTING


@given(notes=NOTES, queue=QUEUES)
def test_looking_twice_changes_nothing(notes: list[JobNote], queue: dict[str, Queued]) -> None:
    once = reconcile(notes, queue, NOW)
    assert reconcile(once.present, queue, NOW) == Changes(present=once.present)


@given(notes=NOTES, queue=QUEUES)
def test_a_job_that_no_scheduler_has_is_gone_in_the_end(
    notes: list[JobNote], queue: dict[str, Queued]
) -> None:
    last = reconcile(notes, {}, NOW + LOST_AFTER + SECOND)
    assert last.gone == tuple(notes)


def test_killed_between_the_submission_and_the_note_of_its_id() -> None:
    """The name is in the queue: the next launcher takes the job over under its id."""
    changes = reconcile([note()], queue("4711"), NOW + timedelta(hours=1))
    adopted = note(scheduler_id="4711", state=JobState.PENDING)
    assert changes == Changes(known=(adopted,), present=(adopted,))


def test_killed_between_the_note_and_the_submission() -> None:
    """It may yet appear; but a job that was never submitted holds no place for ever."""
    at_last = NOW + LOST_AFTER
    assert reconcile([note()], {}, at_last) == Changes(present=(note(),))
    assert reconcile([note()], {}, at_last + SECOND) == Changes(gone=(note(),))


def test_a_job_that_just_left_the_queue_may_yet_tell_its_end() -> None:
    ran = note(scheduler_id="1", state=JobState.RUNNING, started=NOW, seen=NOW + 60 * SECOND)
    last_sign = NOW + 60 * SECOND
    assert reconcile([ran], {}, last_sign + LINGERS).present == (ran,)
    assert reconcile([ran], {}, last_sign + LINGERS + SECOND).gone == (ran,)


def test_a_scheduler_takes_a_moment_to_list_what_it_took() -> None:
    taken = note(scheduler_id="1", state=JobState.PENDING)
    assert reconcile([taken], {}, NOW + LINGERS) == Changes(present=(taken,))
    assert reconcile([taken], {}, NOW + LINGERS + SECOND) == Changes(gone=(taken,))


def test_what_a_job_says_of_itself_stays() -> None:
    """Whether it runs it says itself, and the queue may be older than what it said."""
    ran = note(scheduler_id="1", state=JobState.RUNNING, started=NOW)
    assert reconcile([ran], queue("1"), NOW) == Changes(present=(ran,))


def test_a_job_that_was_submitted_again_under_its_name_is_found() -> None:
    requeued = note(scheduler_id="1", state=JobState.RUNNING)
    found = reconcile([requeued], queue("2"), NOW)
    assert [one.scheduler_id for one in found.present] == ["2"]
    assert found.known == found.present


def test_an_id_that_was_given_again_is_not_that_job() -> None:
    """Else `qfarm launcher stop` would cancel a job of the user's that is none of qfarm's."""
    long_ago = NOW - timedelta(days=20)
    old = note(scheduler_id="9", state=JobState.RUNNING, submitted=long_ago, seen=long_ago)
    assert reconcile([old], queue("9", name="precious"), NOW) == Changes(gone=(old,))
    cut = note(scheduler_id="9", state=JobState.RUNNING)
    assert reconcile([cut], queue("9", name="cpu-"), NOW).present == (cut,)


def test_jobs_of_others_are_no_concern_of_ours() -> None:
    assert reconcile([], queue("1", "2"), NOW) == Changes()
