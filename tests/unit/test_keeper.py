"""The launcher of one partition, on stand-ins: what it notes, submits, cancels and bears."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from qfarm.config import Farm
from qfarm.costs.model import CostModel, works
from qfarm.engines import engine
from qfarm.errors import ConfigError, StoreError
from qfarm.store.fleet import Fleet, Gate, JobNote, JobState, Standing
from qfarm.store.wish import Ahead
from qfarm_launchers import keeper as keeping
from qfarm_launchers import roster as rosters
from qfarm_launchers.batch import Refused, SchedulerAway
from qfarm_launchers.keeper import SAMPLE, Keeper, ReplacedError
from qfarm_launchers.reconcile import LOST_AFTER
from qfarm_launchers.roster import Roster
from qfarm_launchers.schedulers.base import Ending, EndingKind, Queued, QueueState
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_workers.appraisal import Foresight
from support import build
from support.engines import look_up
from support.memory_fleet import Lines, MemoryBatch, MemoryFleet

CPU = Partition(name="cpu", scheduler="slurm", slots=1, max_jobs=2)
GPU = Partition(name="gpu", scheduler="slurm", slots=1, spill_to=("cpu",))
CONFIG = FarmConfig(partitions=(CPU, GPU))


class Desk:
    """A launcher of ``cpu`` with all that it works on, and the time of day in the test's hand."""

    def __init__(self, root: Path) -> None:
        self.fleet, self.batch, self.log = MemoryFleet(), MemoryBatch(), Lines()
        self.clock = 1000.0
        self.farm = Farm(root, CONFIG)
        self.keeper = self.another()

    def another(self) -> Keeper:
        """One more launcher, as after a kill -9."""
        fleet, lines = cast(Fleet, self.fleet), cast(Any, self.log)
        roster = Roster(CPU, fleet, self.batch, lines)
        return Keeper(self.farm, CPU, fleet, roster, build.WORKER, lines)

    def look(self, after: float = 60.0) -> bool:
        """Look, so many seconds later."""
        self.clock += after
        return self.keeper.look((), Foresight(CostModel(), look_up, CONFIG), ("bad",))

    @property
    def notes(self) -> list[JobNote]:
        return list(self.fleet.notes.values())

    @property
    def why(self) -> str:
        """What `qfarm launcher status` would show."""
        words = self.keeper._words()
        return str(words["trouble"] or words["why"])

    def begin(self, number: int = 0, ago: float = 0.0, **fields: Any) -> str:
        """A job begins; its name."""
        name = self.notes[number].name
        started = datetime.now(UTC) - timedelta(seconds=ago)
        fields = {"host": "n1", "slots": 1} | fields
        self.fleet.change(name, state=JobState.RUNNING, started=started, seen=started, **fields)
        return name

    def age(self, name: str, by: timedelta) -> None:
        """All that is known of a job happened so much earlier."""
        note = self.fleet.notes[name]
        times = ("submitted", "started", "seen")
        older = {key: at - by for key in times if (at := getattr(note, key)) is not None}
        self.fleet.change(name, **older)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path)
    for module in (keeping, rosters):
        monkeypatch.setattr(module.time, "monotonic", lambda: desk.clock)
    assert desk.keeper.take(free=False)
    desk.keeper.open()
    return desk


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> NoReturn:
        raise error

    return fail


AWAY = SchedulerAway("scheduler 'slurm' gives no answer: connection refused", "Wait.")


def test_an_empty_queue_asks_for_nothing(desk: Desk) -> None:
    assert desk.look()
    assert desk.batch.orders == []
    assert desk.why == "nothing is ready"
    assert desk.keeper.idle


def test_nodes_are_left_out_on_which_jobs_have_run(desk: Desk) -> None:
    """Of a node of another cluster Slurm says: Invalid node name specified."""
    desk.fleet.ready = 100_000
    desk.look()
    desk.begin(host="bad")
    desk.look()
    desk.fleet.end(desk.begin(1, host="good"), "told to end")
    desk.look()
    assert [order.exclude for order in desk.batch.orders] == [(), (), ("bad",)]


def test_the_database_s_clock_counts(desk: Desk) -> None:
    """Ours is ten minutes ahead: what was submitted just now was not submitted long ago."""
    desk.fleet.behind = timedelta(minutes=10)
    desk.fleet.ready = 100_000
    for _ in range(20):
        desk.look(5.0)
    assert len(desk.batch.orders) == CPU.max_jobs
    assert [note.ended for note in desk.notes] == [None, None]


def brief(desk: Desk) -> Callable[[], int]:
    """Jobs live for a minute, and ``gpu`` for longer; what looks and counts the submissions."""
    short = CPU.model_copy(update={"walltime": 60.0})
    longer = GPU.model_copy(update={"walltime": 9e9})
    config = FarmConfig(partitions=(short, longer))
    stage = build.stage()
    start = engine(stage.level.engine).start_costs(stage.level, stage.task)
    model = CostModel(works([(stage, start)]))
    desk.keeper.partition, desk.keeper.farm = short, Farm(desk.farm.root, config)
    desk.fleet.first = Ahead("single_point", stage.level.id, "C99H200", 299)

    def look() -> int:
        desk.clock += 60.0
        desk.keeper.look((), Foresight(model, engine, config))
        return len(desk.batch.orders)

    return look


def test_stages_that_may_outlast_a_job_get_one_unless_another_partition_takes_them(
    desk: Desk,
) -> None:
    """Workers that are fresh take them; a guess that is too careful must not stop the farm."""
    look = brief(desk)
    desk.fleet.ready = 7
    token = desk.fleet.take("gpu", build.WORKER, 60.0)
    assert look() == 0
    assert desk.why.startswith("7 stages are ready, left to partitions with more memory or")
    desk.fleet.leave("gpu", token)
    assert look() == CPU.max_jobs


@pytest.mark.parametrize(("ready", "jobs"), [(SAMPLE, 0), (SAMPLE + 1, CPU.max_jobs)])
def test_stages_behind_a_head_of_the_queue_left_to_others_get_jobs(
    desk: Desk, ready: int, jobs: int
) -> None:
    look = brief(desk)
    desk.fleet.take("gpu", build.WORKER, 60.0)
    desk.fleet.ready, desk.fleet.further = ready, replace(desk.fleet.first, formula="H2O")
    assert look() == jobs
    assert len(desk.fleet.wishes) == (2 if jobs else 1), "a second sample where there is more"


def test_jobs_are_noted_with_their_ids(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.look()
    (order,), (note,) = desk.batch.orders, desk.notes
    assert (note.name, note.scheduler_id, note.state) == (order.name, "1", JobState.PENDING)
    assert order.exclude == ()
    assert order.farm == desk.farm.root
    assert order.log_folder == desk.farm.folder / "log" / "jobs"
    assert desk.why == "1 stage is ready: 1 job submitted"
    assert not desk.keeper.idle
    desk.look()
    assert len(desk.batch.orders) == 1, "one is enough"


def test_never_more_jobs_than_allowed(desk: Desk) -> None:
    desk.fleet.ready = 100_000
    for _ in range(3):
        desk.look()
    assert len(desk.batch.orders) == CPU.max_jobs
    assert "as many as max_jobs = 2 allows" in desk.why


def test_killed_between_note_and_submission(desk: Desk) -> None:
    """The note holds a place for two minutes, for the job may appear; then it is given up."""
    desk.fleet.ready = 1
    desk.batch.trouble["submit"] = raising(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        desk.look()
    (lost,) = desk.notes
    assert (lost.state, lost.scheduler_id) == (JobState.SUBMITTING, "")
    desk.batch.trouble.clear()
    desk.keeper = desk.another()
    assert desk.keeper.take(free=True)
    desk.look()
    assert desk.batch.orders == []
    desk.age(lost.name, LOST_AFTER)
    desk.look()
    assert desk.fleet.notes[lost.name].ended is not None
    assert [order.name == lost.name for order in desk.batch.orders] == [False]


def test_killed_between_submission_and_its_answer(desk: Desk) -> None:
    """The next launcher finds the job by its name, and submits no second one."""
    desk.fleet.ready = 1
    desk.batch.trouble["answer"] = raising(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        desk.look()
    desk.batch.trouble.clear()
    desk.keeper = desk.another()
    assert desk.keeper.take(free=True)
    desk.look()
    (note,) = desk.notes
    assert (note.scheduler_id, note.state) == ("1", JobState.PENDING)
    assert len(desk.batch.orders) == 1


def test_a_submission_without_an_answer_counts_until_it_is_known(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.batch.trouble["answer"] = raising(AWAY)
    assert desk.look()
    assert "gives no answer" in desk.why
    assert [note.ended for note in desk.notes] == [None]
    desk.batch.trouble.clear()
    desk.look()
    assert [note.scheduler_id for note in desk.notes] == ["1"]
    assert len(desk.batch.orders) == 1


def test_a_scheduler_without_an_answer_is_not_asked_at_every_look(desk: Desk) -> None:
    desk.fleet.ready = 100_000
    tries: list[float] = []

    def fail() -> NoReturn:
        tries.append(desk.clock)
        raise AWAY

    desk.batch.trouble["submit"] = fail
    for _ in range(10):
        desk.look(5)
    assert len(tries) == 2, "the first, and one 30 s later"


def test_a_refusal_is_shown_and_tried_again_later(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.batch.trouble["submit"] = raising(Refused("sbatch: error: invalid account", "Set it."))
    assert desk.look()
    assert [note.why for note in desk.notes] == ["not submitted: sbatch: error: invalid account"]
    desk.look(5)
    assert "invalid account; next try in" in desk.why
    assert len(desk.notes) == 1
    for _ in range(3):
        desk.look(200)
    assert "invalid account" in desk.fleet.standing("cpu").refused, "others may take its stages"
    desk.batch.trouble.clear()
    desk.look(1000)
    desk.look(5)
    assert desk.fleet.standing("cpu").refused == ""
    assert len(desk.batch.orders) == 1


def test_what_the_scheduler_cannot_do_ends_no_launcher(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.batch.trouble["submit"] = raising(ConfigError("sge gives a job one node", "Set nodes."))
    assert desk.look()
    desk.look(5)
    assert "sge gives a job one node" in desk.why
    desk.batch.trouble["submit"] = raising(StoreError("MongoDB is away", "Wait."))
    with pytest.raises(StoreError):
        desk.look(100)


def test_a_scheduler_that_is_away_is_no_reason_to_end(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.batch.trouble["queue"] = raising(AWAY)
    assert desk.look()
    assert "gives no answer" in desk.why
    assert desk.notes == []
    desk.batch.trouble.clear()
    desk.look()
    assert desk.why == "1 stage is ready: 1 job submitted"


def test_a_partition_that_is_down_gets_no_jobs(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.batch.closed = "partition cpu is down"
    desk.look()
    assert desk.batch.orders == []
    assert desk.fleet.standing("cpu").refused == "partition cpu is down"
    desk.batch.closed = ""
    desk.look()
    assert desk.fleet.standing("cpu").refused == ""
    assert len(desk.batch.orders) == 1


def test_a_cancel_that_is_refused_ends_no_launcher(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.look()
    desk.fleet.ask("cpu", Gate.STOPPING)
    desk.batch.trouble["cancel"] = raising(Refused("scancel: error: access denied", "Ask."))
    assert desk.look()
    assert "access denied" in desk.why
    desk.batch.trouble.clear()
    assert not desk.look(), "it was told again"
    assert desk.batch.cancelled == ["1"]


def test_drain_cancels_what_waits_and_ends_with_the_last_job(desk: Desk) -> None:
    desk.fleet.ready = 100_000
    desk.look()
    name = desk.begin(attempts=1)
    desk.fleet.ask("cpu", Gate.DRAINING)
    assert desk.look()
    assert desk.batch.cancelled == ["2"]
    assert [note.name for note in desk.notes if note.ended is None] == [name]
    assert desk.look()
    assert len(desk.batch.orders) == 2
    desk.fleet.end(name)
    del desk.batch.jobs["1"]
    assert not desk.look()


def test_pause_keeps_jobs_and_submits_none(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.look()
    desk.fleet.ready = 100_000
    desk.fleet.ask("cpu", Gate.PAUSED)
    for _ in range(3):
        assert desk.look()
    assert desk.batch.cancelled == []
    assert len(desk.batch.orders) == 1
    desk.fleet.ask("cpu", Gate.OPEN)
    desk.look()
    assert len(desk.batch.orders) == 2


def test_stop_cancels_all_jobs_and_waits_for_those_that_run(desk: Desk) -> None:
    desk.fleet.ready = 100_000
    desk.look()
    name = desk.begin()
    desk.fleet.ask("cpu", Gate.STOPPING)
    assert desk.look()
    assert sorted(desk.batch.cancelled) == ["1", "2"]
    assert [note.why for note in desk.notes] == ["", "stopped by the user"]
    desk.fleet.end(name, "told to end")
    assert not desk.look()
    assert desk.keeper._memory.vain == 0, "that they ended speaks against nothing"


def test_a_launcher_after_a_drain_or_stop_opens_the_partition(desk: Desk) -> None:
    for before, after in (
        (Gate.DRAINING, Gate.OPEN),
        (Gate.STOPPING, Gate.OPEN),
        (Gate.PAUSED, Gate.PAUSED),
    ):
        desk.fleet.ask("cpu", before)
        desk.keeper.leave()
        desk.keeper = desk.another()
        assert desk.keeper.take(free=False)
        assert desk.fleet.standing("cpu").gate is before, "the others are not taken yet"
        desk.keeper.open()
        assert desk.fleet.standing("cpu").gate is after


def test_a_launcher_after_one_that_was_killed_in_a_drain_goes_on_with_it(desk: Desk) -> None:
    for gate in (Gate.DRAINING, Gate.STOPPING, Gate.OPEN):
        desk.fleet.ask("cpu", gate)
        desk.keeper = desk.another()
        assert desk.keeper.take(free=True)
        desk.keeper.open()
        assert desk.fleet.standing("cpu").gate is gate


def test_a_second_launcher_gets_nothing_and_the_first_may_lose_it(desk: Desk) -> None:
    other = desk.another()
    assert not other.take(free=False)
    assert desk.look()
    assert other.take(free=True)
    with pytest.raises(ReplacedError, match="was taken from this launcher"):
        desk.look()
    desk.keeper.leave()
    assert desk.fleet.standing("cpu").alive, "it is the other's"


def test_the_submission_rate_holds_across_launchers(desk: Desk) -> None:
    desk.fleet.ready = 100_000
    desk.fleet.age = timedelta(seconds=10)
    for number in range(int(CPU.submit_per_minute)):
        name = f"cpu-{number:06x}"
        desk.fleet.note(JobNote(name, "cpu", JobState.PENDING))
        desk.fleet.end(name, "its scheduler says: FAILED")
    desk.keeper = desk.another()
    assert desk.keeper.take(free=True)
    desk.keeper.open()
    desk.look(1)
    assert desk.batch.orders == []
    desk.look(60)
    assert len(desk.batch.orders) == CPU.max_jobs


def test_jobs_that_die_at_once_are_tried_one_by_one_and_later(desk: Desk) -> None:
    desk.fleet.ready = 100_000
    for _ in range(3):
        desk.look()
        for note in desk.notes:
            desk.fleet.end(note.name, "5 slots died before an attempt")
        desk.batch.jobs.clear()
    assert len(desk.batch.orders) == 2 * CPU.max_jobs
    desk.look(5)
    assert len(desk.batch.orders) == 2 * CPU.max_jobs
    assert "jobs in a row died before they could work, the last: 5 slots died" in desk.why
    assert "died before" in desk.fleet.standing("cpu").refused
    for _ in range(3):
        desk.look(1000)
    assert len(desk.batch.orders) == 2 * CPU.max_jobs + 1, "one is tried"
    desk.begin(-1, attempts=1)
    desk.look(5)
    assert len(desk.batch.orders) == 2 * CPU.max_jobs + 2
    assert desk.fleet.standing("cpu").refused == ""


def test_a_job_that_is_gone_without_a_word_ends_with_its_scheduler_s(desk: Desk) -> None:
    desk.fleet.ready = 1
    desk.look()
    name = desk.begin()
    worker = build.WORKER.model_copy(update={"partition": "cpu", "job": name})
    desk.look()
    assert not desk.keeper.roster.lost(worker)
    del desk.batch.jobs["1"]
    desk.batch.endings["1"] = Ending("NODE_FAIL", EndingKind.NODE_FAILURE, text="n1 rebooted")
    desk.look()
    assert not desk.keeper.roster.lost(worker), "it may yet tell"
    desk.age(name, LOST_AFTER)
    desk.look()
    assert desk.fleet.notes[name].why == "its scheduler says: NODE_FAIL n1 rebooted"
    assert desk.keeper.roster.lost(worker)
    elsewhere = worker.model_copy(update={"partition": "gpu"})
    assert not desk.keeper.roster.lost(elsewhere)
    desk.batch.trouble["ending"] = raising(AWAY)
    ending = desk.keeper.roster.ending_of(worker)
    assert ending is not None
    assert ending.kind is EndingKind.NODE_FAILURE, "it is remembered"


def test_a_job_that_its_scheduler_runs_again_is_not_lost(desk: Desk) -> None:
    """Slurm requeues jobs of nodes that failed, under the same name and id."""
    desk.fleet.ready = 1
    desk.look()
    name = desk.begin()
    desk.look()
    queued = desk.batch.jobs.pop("1")
    desk.age(name, LOST_AFTER)
    desk.look()
    worker = build.WORKER.model_copy(update={"partition": "cpu", "job": name})
    assert desk.keeper.roster.lost(worker)
    desk.batch.jobs["1"] = queued
    desk.fleet.change(name, ended=None, why="")
    desk.begin()
    desk.look()
    assert not desk.keeper.roster.lost(worker)
    assert desk.keeper.roster.ending_of(worker) is None
    assert name in [note.name for note in desk.keeper.roster.present]


def test_stages_of_closed_partitions_that_spill_here_are_wanted(desk: Desk) -> None:
    desk.look()
    desk.fleet.refuse("gpu", "no GPU is left")
    desk.look()
    assert [wish.partitions for wish in desk.fleet.wishes] == [("cpu",), ("cpu", "gpu")]


def test_what_runs_elsewhere_under_the_same_user_is_not_touched(desk: Desk) -> None:
    other = Queued(id="77", name="my-own-work", state=QueueState.PENDING)
    desk.batch.jobs["77"] = other
    desk.fleet.ready = 1
    desk.look()
    desk.fleet.ask("cpu", Gate.STOPPING)
    desk.look()
    assert desk.batch.jobs == {"77": other}


def test_what_is_left_to_do_is_said_in_seconds(desk: Desk) -> None:
    desk.fleet.ready = 10
    desk.look()
    assert desk.keeper._words()["left"] is None, "nothing runs"
    desk.begin(busy=1)
    desk.look()
    words = desk.keeper._words()
    assert (words["jobs"], words["slots"], words["ready"]) == (1, 1, 10)
    left = words["left"]
    assert isinstance(left, int)
    assert left > 0
    assert replace(desk.keeper.standing, look={}).alive


def test_to_end_without_jobs_no_scheduler_is_needed(desk: Desk) -> None:
    """As on a machine without sbatch, where it would wait for ever."""
    desk.fleet.ready = 1
    desk.look()
    desk.batch.trouble["queue"] = raising(AWAY)
    desk.fleet.ask("cpu", Gate.STOPPING)
    assert desk.look()
    assert desk.why == AWAY.what
    desk.fleet.end(desk.notes[0].name, "told to end")
    desk.batch.jobs.clear()
    successor = desk.keeper = desk.another()
    assert successor.take(free=True)
    desk.fleet.ask("cpu", Gate.STOPPING)
    assert not desk.look()


def test_as_long_as_the_scheduler_is_away_nobody_knows_that_all_is_done(desk: Desk) -> None:
    """Else `qfarm launch --until-done` would end with nothing done."""
    desk.batch.trouble["queue"] = raising(AWAY)
    desk.look()
    assert not desk.keeper.idle
    desk.batch.trouble.clear()
    desk.look()
    assert desk.keeper.idle
    desk.batch.trouble["queue"] = raising(AWAY)
    desk.look()
    assert not desk.keeper.idle


def test_a_name_that_was_a_job_s_before_is_not_given_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the old one's note the new one would be taken to have ended."""
    drawn = iter(["0000000a", "0000000a", "0000000a", "0000000b"])
    monkeypatch.setattr(keeping, "token_hex", lambda _: next(drawn))
    desk.fleet.note(JobNote("cpu-0000000a", "cpu"))
    desk.fleet.end("cpu-0000000a", "its lifetime is over")
    desk.fleet.ready = 1
    desk.look()
    assert [order.name for order in desk.batch.orders] == ["cpu-0000000b"]


def test_a_lease_is_kept_while_others_are_looked_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    monkeypatch.setattr(desk.fleet, "keep", lambda name, *_: kept.append(name) or Standing(name))
    desk.look()
    desk.keeper.prolong()
    assert kept == ["cpu"], "a moment ago"
    desk.clock += 11.0
    desk.keeper.prolong()
    assert kept == ["cpu", "cpu"]
    monkeypatch.setattr(desk.fleet, "keep", lambda *_: None)
    desk.clock += 11.0
    desk.keeper.prolong()  # that it was replaced, its own look says
    with pytest.raises(ReplacedError):
        desk.look()


def test_how_a_job_ended_is_not_asked_again_and_again(desk: Desk) -> None:
    """Of a slow accounting each question takes half a minute: it was asked for each attempt."""
    asked: list[int] = []
    worker = build.WORKER.model_copy(update={"partition": "cpu", "job": "cpu-1"})
    other = worker.model_copy(update={"job": "cpu-2"})
    for name in ("cpu-1", "cpu-2"):
        desk.fleet.note(JobNote(name, "cpu", JobState.PENDING, name))
        desk.fleet.end(name, "gone")
    desk.keeper.roster.begin()
    desk.batch.trouble["ending"] = lambda: asked.append(1)
    for _ in range(3):
        assert desk.keeper.roster.ending_of(worker) is None
    assert len(asked) == 1
    desk.clock += 61.0
    desk.batch.trouble["ending"] = raising(AWAY)
    assert desk.keeper.roster.ending_of(worker) is None
    desk.batch.trouble["ending"] = lambda: asked.append(2)
    assert desk.keeper.roster.ending_of(other) is None, "it was away a moment ago"
    assert len(asked) == 1
    desk.clock += 61.0
    desk.batch.endings["cpu-2"] = Ending("TIMEOUT", EndingKind.TIMEOUT)
    for _ in range(3):
        assert desk.keeper.roster.ending_of(other) == Ending("TIMEOUT", EndingKind.TIMEOUT)
    assert asked == [1, 2]


def test_of_many_that_ended_between_two_looks_each_is_known(desk: Desk) -> None:
    for number in range(150):
        desk.fleet.note(JobNote(f"cpu-{number}", "cpu", JobState.PENDING, str(number)))
        desk.batch.jobs[str(number)] = Queued(str(number), f"cpu-{number}", QueueState.PENDING)
    desk.look()
    desk.batch.jobs.clear()
    for note in desk.notes:
        desk.fleet.end(note.name, "told to end")
    desk.look()
    assert len(desk.keeper.roster.ended) == 150


def test_of_jobs_long_ended_nothing_is_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "REMEMBERED", 2)
    roster = desk.keeper.roster
    for number in range(6):
        name = f"cpu-{number}"
        desk.fleet.note(JobNote(name, "cpu", JobState.RUNNING, str(number)))
        desk.fleet.change(name, started=datetime.now(UTC))
        desk.batch.jobs[str(number)] = Queued(str(number), name, QueueState.RUNNING)
        desk.look()
        roster.cancel(roster.present, "stopped by the user")
        desk.age(name, LOST_AFTER)
        desk.batch.endings[str(number)] = Ending("CANCELLED", EndingKind.CANCELLED)
        desk.look()
        desk.look()
    assert set(roster.ended) == {"cpu-4", "cpu-5"}
    assert roster._on_purpose <= {"cpu-4", "cpu-5"}
    assert roster._endings.keys() <= {"cpu-4", "cpu-5"}
