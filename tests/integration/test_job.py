"""A batch job without its launcher: what it claims, when it ends, what it leaves behind."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from qfarm.store.fleet import Gate, JobState, NodeNote
from qfarm.store.protocol import Selection, StageState
from qfarm_launchers.learning import relearn
from qfarm_launchers.reaper import Reaper
from qfarm_schemas.config import Partition, Policy
from qfarm_schemas.failure import Budget, FailureKind
from qfarm_workers.identity import gone, node_name, this_process
from qfarm_workers.options import arguments
from qfarm_workers.restart import Restarts
from support import engines, steps
from support.local_farm import LocalFarm, family, farm
from support.wait import gone as ended
from support.wait import lives, until

__all__ = ["farm"]

INTERRUPTED, WALLTIME = FailureKind.INTERRUPTED, FailureKind.WALLTIME
LOST = FailureKind.LOST_WORKER


def gated(root: Path, name: str, **fields: object) -> object:
    return engines.stage("gated", options={"gate": str(root / name)}, **fields)


def test_it_works_until_nothing_has_been_left_to_do_for_a_while(farm: LocalFarm) -> None:
    """What comes meanwhile is taken by the same job."""
    farm.configure(slots=2, idle=1.5)
    first = [farm.submit(engines.stage("good")) for _ in range(3)]
    with farm.job() as job:
        until(lambda: farm.done)
        second = farm.submit(engines.stage("good"))
        until(lambda: farm.done)
        assert job.wait() == 0
    made = [farm.attempts(one) for one in (*first, second)]
    assert [len(one) for one in made] == [1] * 4
    assert {one[0].worker.job for one in made} == {"cpu-1"}
    assert {one[0].worker.name for one in made} <= {"cpu-1.0", "cpu-1.1"}
    note = farm.note
    assert (note.state, note.attempts, note.why) == (JobState.ENDED, 4, "")
    assert (note.host, note.slots) == (node_name(), 2)
    assert "cpu-1 ends: nothing was left to do" in job.said


def test_a_job_goes_on_without_any_launcher_and_obeys_the_gates(farm: LocalFarm) -> None:
    farm.configure(idle=2.0)
    slow = farm.submit(gated(farm.root, "gate"))
    later = farm.submit(engines.stage("good"))
    with farm.job() as job:
        until((farm.root / "gate.pid").exists)
        farm.store.fleet.ask("cpu", Gate.PAUSED)
        beats = farm.note.seen
        until(lambda: farm.note.seen != beats)
        until(lambda: farm.note.seen not in (None, beats))
        (farm.root / "gate").touch()
        until(lambda: farm.kinds(slow) == [None])
        until(lambda: not job.slots() or farm.note.busy == 0)
        assert farm.attempts(later) == []
        farm.store.fleet.ask("cpu", Gate.OPEN)
        until(lambda: farm.kinds(later) == [None])
        assert job.wait() == 0


def test_a_job_that_is_to_drain_claims_no_more(farm: LocalFarm) -> None:
    slow = farm.submit(gated(farm.root, "gate"))
    later = farm.submit(engines.stage("good"))
    with farm.job() as job:
        until((farm.root / "gate.pid").exists)
        farm.store.fleet.drain(["cpu-1"])
        seen = farm.note.seen
        until(lambda: farm.note.seen != seen)
        (farm.root / "gate").touch()
        assert job.wait() == 0
    assert farm.kinds(slow) == [None]
    assert farm.kinds(later) == []


def test_told_to_end_it_hands_back_all_it_has(farm: LocalFarm) -> None:
    """As `scancel` does: every process of the job, engines too, gets the signal at once."""
    farm.configure(slots=2, more='walltime = "01:00:00"')
    obeys = farm.submit(steps.stage(600))
    dies = farm.submit(engines.stage("sleep"))
    waits = [farm.submit(engines.stage("good")) for _ in range(3)]
    with farm.job() as job:
        until(lambda: len(farm.store.running()) == 2)
        until(lambda: list((farm.root / ".qfarm" / "scratch").glob("*/reached.state")))
        until(lambda: list((farm.root / ".qfarm" / "scratch").glob("*/pid")))
        slots = [one.worker.pid for one in farm.store.running()]
        job.signal(signal.SIGTERM)
        assert job.wait() == 0
        assert not any(map(lives, slots)), "with it, the batch system would have killed them"
    assert farm.kinds(obeys) == [INTERRUPTED]
    assert farm.kinds(dies) == [INTERRUPTED]
    assert [farm.kinds(one) for one in waits] == [[]] * 3
    assert farm.store.running() == ()
    assert {count.state for count in farm.store.counts()} == {StageState.READY}
    assert list((farm.root / ".qfarm" / "restart").glob("*"))
    note = farm.note
    assert note.ended is not None
    assert note.why == "the batch system, or somebody, told it to end"
    assert note.attempts == 2


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGINT])
def test_told_to_end_by_the_signal_of_other_batch_systems(
    farm: LocalFarm, number: signal.Signals
) -> None:
    """Where nothing ends a job but people, that is no walltime."""
    farm.configure(slots=2)
    fragments = [farm.submit(steps.stage(600)), farm.submit(engines.stage("sleep"))]
    scratch = farm.root / ".qfarm" / "scratch"
    with farm.job() as job:
        until(lambda: list(scratch.glob("*/reached.state")))
        until(lambda: list(scratch.glob("*/pid")))
        job.signal(number)
        assert job.wait() == 0
    assert [farm.kinds(one) for one in fragments] == [[INTERRUPTED]] * 2
    assert {count.state for count in farm.store.counts()} == {StageState.READY}
    assert not list(scratch.glob("*/")), "nothing went wrong that somebody might look into"


def test_a_claim_of_many_that_was_not_begun_is_given_back(farm: LocalFarm) -> None:
    """Short attempts are claimed by the dozen; the signal comes in the middle of one."""
    quick = [farm.submit(engines.stage("good")) for _ in range(12)]
    slow = farm.submit(gated(farm.root, "gate"))
    rest = [farm.submit(engines.stage("good")) for _ in range(4)]
    with farm.job() as job:
        until((farm.root / "gate.pid").exists)
        job.signal(signal.SIGTERM)
        assert job.wait() == 0
    assert all(farm.kinds(one) == [None] for one in quick)
    assert farm.kinds(slow) == [INTERRUPTED]
    assert all(farm.kinds(one) == [] for one in rest)
    assert {count.state for count in farm.store.counts()} == {StageState.READY, StageState.DONE}


def test_killed_its_slots_finish_and_end(farm: LocalFarm) -> None:
    farm.configure(slots=2)
    slow = [farm.submit(gated(farm.root, f"gate{n}")) for n in range(2)]
    later = farm.submit(engines.stage("good"))
    with farm.job() as job:
        until(lambda: len(list(farm.root.glob("gate?.pid"))) == 2)
        slots = [attempt.worker.pid for attempt in farm.store.running()]
        os.kill(job.process.pid, signal.SIGKILL)
        job.process.wait()
        for number in range(2):
            (farm.root / f"gate{number}").touch()
        for pid in slots:
            ended(pid, 10)
    assert [farm.kinds(one) for one in slow] == [[None], [None]]
    assert farm.kinds(later) == []
    assert farm.note.ended is None, "its launcher finds that it is gone"


def test_a_slot_that_is_killed_begins_again(farm: LocalFarm) -> None:
    farm.configure(idle=1.0)
    fragment = farm.submit(gated(farm.root, "gate"))
    with farm.job() as job:
        until((farm.root / "gate.pid").exists)
        (running,) = farm.store.running()
        os.kill(running.worker.pid, signal.SIGKILL)
        until(lambda: gone(running.worker))
        (farm.root / "gate").touch()
        reaper = Reaper(farm.store, this_process("reaper"), steps.look_up, 0.5)
        until(lambda: reaper.reap(gone))
        assert job.wait() == 0
    assert farm.kinds(fragment) == [LOST, None]
    assert "slot 0 ended with exit code -9" in job.said
    assert farm.note.attempts == 1


def test_slots_that_die_at_once_end_the_job(farm: LocalFarm) -> None:
    farm.submit(engines.stage("good"))
    with farm.job(module="support.dying_job") as job:
        assert job.wait() == 1
    assert farm.note.why.startswith("5 slots died before an attempt")
    assert farm.note.attempts == 0
    assert job.said.count("ended with exit code 7") == 5


def test_on_a_node_that_is_left_alone_nothing_is_claimed(farm: LocalFarm) -> None:
    until_then = datetime.now(UTC) + timedelta(hours=1)
    farm.store.fleet.suspect(NodeNote(node_name(), until_then, "3 fragments failed there"))
    fragment = farm.submit(engines.stage("good"))
    with farm.job() as job:
        assert job.wait() == 0
    assert farm.kinds(fragment) == []
    assert farm.note.why.startswith(f"the node is left alone until {until_then:%H:%M} UTC: 3 fra")
    assert f"cpu-1 ends: {farm.note.why}" in job.said


def test_with_no_engine_that_works_nothing_is_claimed(farm: LocalFarm) -> None:
    level = engines.level("good").model_copy(update={"engine": "aims"})
    fragment = farm.submit(engines.stage("good").model_copy(update={"level": level}))
    with farm.job() as job:
        assert job.wait() == 1
    assert farm.kinds(fragment) == []
    assert farm.note.why.startswith("self-test failed: aims fails with water: there is no engine")


def test_a_full_disk_is_found_before_anything_is_claimed(farm: LocalFarm) -> None:
    (farm.root / "scratch").write_text("a file where the folder should be")
    farm.configure(more='scratch = "scratch"')
    fragment = farm.submit(engines.stage("good"))
    with farm.job() as job:
        job.wait()
    assert farm.kinds(fragment) == []
    assert "cannot be written" in farm.note.why
    assert farm.note.why.startswith("self-test failed: ")


def test_a_partition_that_is_not_there_is_said(farm: LocalFarm) -> None:
    text = (farm.root / "qfarm.toml").read_text()
    (farm.root / "qfarm.toml").write_text(text.replace('name = "cpu"', 'name = "gpu"'))
    with farm.job() as job:
        assert job.wait() == 1
    assert "error: there is no partition 'cpu'" in job.said


def test_a_job_that_is_killed_at_its_first_attempt_has_worked(farm: LocalFarm) -> None:
    with farm.job() as job:
        until(lambda: any(note.seen for note in farm.jobs("cpu")))
        assert not farm.note.worked, "it has found nothing so far"
        farm.submit(gated(farm.root, "gate"))
        until((farm.root / "gate.pid").exists)
        until(lambda: farm.note.worked)
        os.kill(job.process.pid, signal.SIGKILL)
    assert farm.note.attempts == 0


def test_an_engine_that_is_told_to_end_ends_no_slot(farm: LocalFarm) -> None:
    """By somebody, or by words of srun's: time is left all the same."""
    farm.configure(idle=1.0, more='walltime = "01:00:00"')
    fragment = farm.submit(gated(farm.root, "gate"))
    more = farm.submit(engines.stage("good"))
    with farm.job() as job:
        until((farm.root / "gate.pid").exists)
        os.kill(int((farm.root / "gate.pid").read_text()), signal.SIGTERM)
        (farm.root / "gate").touch()
        assert job.wait() == 0
    assert farm.kinds(fragment) == [WALLTIME, None]
    assert farm.kinds(more) == [None]
    assert farm.note.why == ""


LARGE = engines.stage("devices", name="large", options={"seconds": 4})
"""By what is foreseen it fits into a fresh life of 40 s only, which is one for 3.5 s."""


def small(farm: LocalFarm, number: int) -> list[str]:
    return [farm.submit(engines.stage("good", time_limit=1.0)) for _ in range(number)]


def test_small_stages_behind_large_ones_are_found_at_the_end_of_a_life(farm: LocalFarm) -> None:
    farm.configure(idle=1.0, more="walltime = 40.0")
    first, *rest = [farm.submit(LARGE) for _ in range(40)]
    behind = small(farm, 5)
    relearn(farm.store.fleet, farm.store.fleet.stages(), steps.look_up)
    with farm.job() as job:
        assert job.wait(35) == 0
    assert farm.kinds(first) == [None]
    assert [farm.kinds(one) for one in behind] == [[None]] * 5
    assert [farm.kinds(one) for one in rest] == [[]] * 39
    assert farm.note.why == "its lifetime is over"


def test_slots_are_started_for_what_fits_after_others_found_nothing(farm: LocalFarm) -> None:
    """One slot is busy for long; the other has idled, and then passed over a large stage."""
    farm.configure(slots=2, idle=1.0, more="walltime = 40.0")
    slow = farm.submit(gated(farm.root, "gate"))
    with farm.job() as job:
        until((farm.root / "gate.pid").exists)
        aged = time.monotonic() + 5
        until(lambda: time.monotonic() > aged and farm.note.busy == 1, seconds=15)
        large = farm.submit(LARGE)
        later = time.monotonic() + 1.5
        until(lambda: time.monotonic() > later and farm.note.busy == 1)
        fit = small(farm, 3)
        relearn(farm.store.fleet, farm.store.fleet.stages(), steps.look_up)
        until(lambda: [farm.kinds(one) for one in fit] == [[None]] * 3)
        assert farm.kinds(slow) == []
        (farm.root / "gate").touch()
        assert job.wait() == 0
    assert farm.kinds(slow) == [None]
    assert farm.kinds(large) == []
    assert farm.note.why == "its lifetime is over"


def test_slots_outlive_the_process_that_forked_them(farm: LocalFarm) -> None:
    farm.configure(idle=1.0)
    slow = farm.submit(gated(farm.root, "gate"))
    with farm.job() as job:
        until((farm.root / "gate.pid").exists)
        (running,) = farm.store.running()
        (forks,) = [
            p for p in family(job.process.pid) if p.pid == psutil.Process(running.worker.pid).ppid()
        ]
        forks.kill()
        later = farm.submit(engines.stage("good"))
        seen = farm.note.seen
        until(lambda: farm.note.seen != seen)
        until(lambda: farm.note.seen not in (None, seen))
        assert farm.note.busy == 1
        assert farm.kinds(later) == []
        (farm.root / "gate").touch()
        assert job.wait() == 0
    assert [one.worker.pid for one in (*farm.attempts(slow), *farm.attempts(later))] == [
        running.worker.pid
    ] * 2
    assert farm.note.why == ""


def test_it_keeps_what_its_scheduler_granted(
    farm: LocalFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was changed after the job was submitted; its slots read it, too."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    farm.configure(slots=1, idle=1.0, more='walltime = "01:00:00"')
    for _ in range(2):
        farm.submit(engines.stage("devices", options={"seconds": 1.5}))
    granted = arguments(Partition(slots=2, memory_mb=500, gpus=2))
    with farm.job(given=granted) as job:
        until(lambda: len(farm.store.running()) == 2)
        until(lambda: farm.done)
        assert job.wait() == 0
    seen = {one.result.engine_version for one in farm.store.records(Selection())}
    assert seen == {"sees 4", "sees 5"}
    assert (farm.note.slots, farm.note.ends) == (2, None)


def test_a_chain_of_short_jobs_finishes_long_work(farm: LocalFarm) -> None:
    """Soft stops and restart files: a walltime costs no chemistry."""
    farm.configure(more="walltime = 10.0\n")
    policy = Policy(chemistry=1, node=1, infrastructure=5)
    fragment = farm.submit(steps.stage(110, policy=policy))
    for number in range(1, 5):
        with farm.job(f"cpu-{number}") as job:
            assert job.wait() == 0
        if farm.done:
            break
    kinds = farm.kinds(fragment)
    assert kinds == [*[WALLTIME] * (len(kinds) - 1), None]
    assert 2 <= len(kinds) <= 4
    assert all(kind.budget is Budget.INFRASTRUCTURE for kind in kinds if kind)
    assert farm.attempts(fragment)[-1].continued_from == len(kinds) - 1
    assert not list(Restarts(farm.root / ".qfarm" / "restart").root.iterdir())
    first = farm.jobs("cpu", ended=True)[0]
    assert first.why == "its lifetime is over"
    assert first.ends is not None
