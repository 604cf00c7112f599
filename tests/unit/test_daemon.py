"""The launcher of several partitions: all or none, for weeks, whatever is away; on stand-ins."""

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from qfarm import config
from qfarm.config import Farm
from qfarm.errors import ConfigError, StoreError, UserError
from qfarm.store.fleet import Fleet, Gate, JobNote, JobState, NodeFailure
from qfarm.store.protocol import Claim, Running
from qfarm_launchers import daemon as daemons
from qfarm_launchers.daemon import Daemon
from qfarm_launchers.interrupts import Interrupts
from qfarm_launchers.keeper import Keeper
from qfarm_launchers.roster import Roster
from qfarm_launchers.schedulers.base import Queued, QueueState
from qfarm_schemas.attempt import Worker
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_schemas.failure import FailureKind
from qfarm_workers.identity import this_process
from support import build
from support.engines import look_up
from support.memory_fleet import Lines, MemoryBatch, MemoryFleet

CPU = Partition(name="cpu", scheduler="slurm", slots=1, max_jobs=1)
GPU = Partition(name="gpu", scheduler="slurm", slots=1, max_jobs=1)
BOTH = (CPU, GPU)


class MemoryStore:
    """The part of a store that a launcher asks; `look` is called whenever it does."""

    def __init__(self, fleet: MemoryFleet) -> None:
        self.fleet = fleet
        self.look: Callable[[], None] = lambda: None
        self.attempts: tuple[Running, ...] = ()
        self.gone: Callable[[Worker], bool] = lambda _: False

    def running(self) -> tuple[Running, ...]:
        self.look()
        return self.attempts

    def take_over(
        self, gone: Callable[[Worker], bool], worker: Worker, seconds: float
    ) -> tuple[Claim, ...]:
        self.gone = gone
        return ()


class Desk:
    """A launcher of both partitions, and what it works on."""

    def __init__(self, root: Path) -> None:
        self.fleet, self.batch, self.log = MemoryFleet(), MemoryBatch(), Lines()
        self.store = MemoryStore(self.fleet)
        self.farm = Farm(root, FarmConfig(partitions=BOTH))
        self.looks = 0
        self.plan: dict[int, Callable[[], object]] = {}
        self.store.look = self.look

    def daemon(self, *partitions: Partition, me: Worker = build.WORKER, **fields: Any) -> Daemon:
        fleet, lines = cast(Fleet, self.fleet), cast(Any, self.log)
        keepers = [
            Keeper(self.farm, one, fleet, Roster(one, fleet, self.batch, lines), me, lines)
            for one in partitions or BOTH
        ]
        store = cast(Any, self.store)
        return Daemon(self.farm, store, keepers, me, look_up, lines, look_seconds=0.0, **fields)

    def alive(self) -> list[str]:
        return [one.name for one in self.fleet.standings() if one.alive]

    def before(self, look: int, do: Callable[[], object]) -> None:
        """Have something done before a certain look."""
        self.plan[look] = do

    def look(self) -> None:
        self.looks += 1
        assert self.looks < 100, "the launcher never ends"
        self.plan.get(self.looks, lambda: None)()


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> NoReturn:
        raise error

    return fail


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_it_takes_all_partitions_or_none(desk: Desk) -> None:
    first = desk.daemon(GPU, me=this_process("first"))
    first.take()
    second = desk.daemon(me=this_process("second"))
    with pytest.raises(ConfigError, match=f"'gpu' is launched by process {os.getpid()} on"):
        second.take()
    assert desk.alive() == ["gpu"]
    assert first.keepers[0].look((), first_foresight(first), ()), "it still has it"


def first_foresight(daemon: Daemon) -> Any:
    daemon._learn()
    return daemon._foreseen


def test_a_dead_launcher_of_this_host_is_taken_over_at_once(desk: Desk) -> None:
    me = this_process("me")
    dead = me.model_copy(update={"started": me.started - timedelta(days=1)})
    desk.daemon(me=dead).take()
    desk.daemon(me=me).take()
    assert desk.fleet.standing("cpu").launcher == me
    elsewhere = me.model_copy(update={"host": "another-host"})
    desk.daemon(me=elsewhere).keepers[0].take(free=True)
    with pytest.raises(ConfigError, match="on another-host already"):
        desk.daemon(me=me).take()


def test_it_ends_when_asked_and_gives_up_its_partitions(desk: Desk) -> None:
    daemon, interrupts = desk.daemon(), Interrupts()
    daemon.take()
    assert desk.alive() == ["cpu", "gpu"]
    desk.before(3, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert desk.looks == 3
    assert desk.alive() == []


def test_until_done_it_ends_when_nothing_is_left_twice_in_a_row(desk: Desk) -> None:
    daemon = desk.daemon(until_done=True)
    daemon.take()
    desk.fleet.running = 1
    desk.before(3, lambda: setattr(desk.fleet, "running", 0))
    daemon.run(Interrupts())
    assert desk.looks == 4
    assert desk.batch.orders == []


def test_partitions_end_one_by_one(desk: Desk) -> None:
    daemon = desk.daemon()
    daemon.take()
    desk.before(2, lambda: desk.fleet.ask("gpu", Gate.DRAINING))
    desk.before(4, lambda: desk.fleet.ask("cpu", Gate.DRAINING))
    daemon.run(Interrupts())
    assert [said["partition"] for said in desk.log.of("over")] == ["gpu", "cpu"]
    assert desk.alive() == []


def test_a_partition_that_is_taken_away_is_left_and_the_others_kept(desk: Desk) -> None:
    daemon, interrupts = desk.daemon(), Interrupts()
    daemon.take()
    other = build.WORKER.model_copy(update={"name": "other"})
    desk.before(3, lambda: desk.fleet.take("gpu", other, 60, free=True))
    desk.before(6, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert [said["partition"] for said in desk.log.of("replaced")] == ["gpu"]
    assert desk.alive() == ["gpu"], "it is the other's"
    assert desk.fleet.standing("gpu").launcher == other


def test_a_mongodb_that_is_away_is_borne_and_said_once(desk: Desk) -> None:
    daemon, interrupts = desk.daemon(until_done=True), Interrupts()
    daemon.take()

    def away() -> None:
        raise StoreError("MongoDB does not answer", "Wait.")

    for look in range(2, 6):
        desk.before(look, away)
    daemon.run(interrupts)
    assert desk.looks == 7, "two good looks after the outage"
    assert len(desk.log.of("trouble")) == 1


def test_a_node_that_starts_no_process_is_borne(desk: Desk) -> None:
    daemon, interrupts = desk.daemon(), Interrupts()
    daemon.take()
    full = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    desk.batch.trouble["queue"] = raising(full)
    desk.before(2, desk.batch.trouble.clear)
    desk.before(3, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert [said["why"] for said in desk.log.of("trouble")] == [str(full)]


def test_until_done_it_waits_for_what_runs_in_partitions_of_others(desk: Desk) -> None:
    daemon = desk.daemon(until_done=True)
    daemon.take()
    now = datetime.now(UTC)
    elsewhere = build.WORKER.model_copy(update={"partition": "of another", "job": "of another"})
    desk.store.attempts = (Running("f", "w.preopt", "preopt", 1, None, elsewhere, now, now),)
    desk.before(3, lambda: setattr(desk.store, "attempts", ()))
    daemon.run(Interrupts())
    assert desk.looks == 4


def test_workers_of_jobs_that_have_ended_are_lost(desk: Desk) -> None:
    daemon, interrupts = desk.daemon(), Interrupts()
    for name in ("cpu-1", "cpu-2"):
        desk.fleet.note(JobNote(name, "cpu", JobState.PENDING))
    desk.fleet.end("cpu-1", "its scheduler says: NODE_FAIL")
    daemon.take()
    desk.before(1, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    worker = build.WORKER.model_copy(update={"partition": "cpu", "job": "cpu-1"})
    assert desk.store.gone(worker)
    assert not desk.store.gone(worker.model_copy(update={"job": "cpu-2"}))
    assert not desk.store.gone(worker.model_copy(update={"partition": "gpu"}))


def test_of_processes_of_another_cluster_nothing_is_known_whatever_their_host_is_called(
    desk: Desk,
) -> None:
    daemon = desk.daemon()
    daemon.take()
    daemon._reap()
    me = this_process("me", "cpu")
    dead = me.model_copy(update={"started": me.started - timedelta(days=1)})
    assert desk.store.gone(dead)
    assert not desk.store.gone(dead.model_copy(update={"partition": "of another cluster"}))


def test_nodes_of_others_are_theirs_to_judge(desk: Desk) -> None:
    """Another launcher's node has accepted thousands, of which this one knows nothing."""
    now, interrupts = datetime.now(UTC), Interrupts()
    desk.fleet.failures = [
        NodeFailure("g1", f"{one}.preopt", one, FailureKind.CRASHED.value, now, succeeded_on="n1")
        for one in "abc"
    ]
    daemon = desk.daemon(CPU)
    daemon.take()
    desk.before(2, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert desk.fleet.nodes == []


def test_a_node_that_fails_what_others_do_is_left_alone_and_its_jobs_drain(desk: Desk) -> None:
    now, interrupts = datetime.now(UTC), Interrupts()
    desk.fleet.failures = [
        NodeFailure("n2", f"{one}.preopt", one, FailureKind.CRASHED.value, now, succeeded_on="n1")
        for one in "abc"
    ]
    for name, host in (("cpu-1", "n1"), ("cpu-2", "n2"), ("gpu-1", "n2")):
        desk.fleet.note(JobNote(name, name[:3], JobState.RUNNING, name, host, submitted=now))
        desk.fleet.change(name, started=now, seen=now)
    daemon = desk.daemon()
    daemon.take()
    desk.before(2, lambda: setattr(desk.fleet, "ready", 100_000))
    desk.before(4, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    (note,) = desk.fleet.nodes
    assert (note.host, note.fragments) == ("n2", ("a", "b", "c"))
    assert sorted(desk.fleet.drained) == ["cpu-2", "gpu-1"]
    assert daemon._suspects == {"n2"}
    assert [said["host"] for said in desk.log.of("quarantine")] == ["n2"]


def test_a_gate_is_opened_only_when_all_partitions_are_taken(desk: Desk) -> None:
    """A launch that fails leaves a drained partition as it is."""
    desk.daemon(CPU).take()
    desk.fleet.ask("cpu", Gate.DRAINING)
    desk.fleet.leave("cpu", desk.fleet._tokens["cpu"])
    other = desk.daemon(GPU, me=this_process("other"))
    other.take()
    with pytest.raises(ConfigError, match="'gpu' is launched by"):
        desk.daemon(me=this_process("me")).take()
    assert desk.fleet.standing("cpu").gate is Gate.DRAINING
    other.keepers[0].leave()
    desk.daemon(me=this_process("me")).take()
    assert desk.fleet.standing("cpu").gate is Gate.OPEN


def test_a_launcher_of_this_host_that_is_late_is_no_dead_one(desk: Desk) -> None:
    """A scheduler that hangs keeps it from prolonging its lease; it goes on afterwards."""
    desk.daemon(me=this_process("late")).take()
    for name in ("cpu", "gpu"):
        desk.fleet._stand(name, alive=False, lost=True)
    with pytest.raises(ConfigError, match="'cpu' is launched by process"):
        desk.daemon(me=this_process("me")).take()
    for name in ("cpu", "gpu"):
        desk.fleet._stand(name, lost=False)  # it has given them up
    desk.daemon(me=this_process("me")).take()


def test_leases_of_all_are_kept_while_one_is_looked_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, interrupts = desk.daemon(), Interrupts()
    daemon.take()
    order: list[str] = []
    for keeper in daemon.keepers:
        name = keeper.partition.name
        monkeypatch.setattr(keeper, "prolong", lambda name=name: order.append(f"prolong {name}"))
        monkeypatch.setattr(keeper, "look", lambda *_, name=name: order.append(name) or True)
    desk.before(1, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert order == ["prolong cpu", "prolong gpu", "cpu", "prolong cpu", "prolong gpu", "gpu"]


def test_a_right_that_is_missing_for_a_moment_is_borne(desk: Desk) -> None:
    daemon, interrupts = desk.daemon(), Interrupts()
    daemon.take()
    desk.before(2, raising(UserError("the address has not the right for that", "Ask.")))
    desk.before(4, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert desk.looks == 4
    assert len(desk.log.of("trouble")) == 1


def test_what_ends_a_launcher_is_in_its_log(desk: Desk) -> None:
    daemon = desk.daemon()
    daemon.take()
    desk.before(2, raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError):
        daemon.run(Interrupts())
    assert [said["why"] for said in desk.log.of("fell")] == ["RuntimeError: a bug"]
    assert desk.alive() == [], "what starts it anew need not wait for its leases"


def test_old_logs_of_jobs_are_deleted_by_a_launcher_that_runs_for_weeks(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, interrupts = desk.daemon(), Interrupts()
    daemon.take()
    clock = [0.0]
    monkeypatch.setattr(daemons.time, "monotonic", lambda: clock[0])
    folder = desk.farm.folder / "log" / "jobs"
    folder.mkdir(parents=True)
    old = folder / "cpu-1.log"

    def later() -> None:
        old.touch()
        os.utime(old, (0, 0))
        clock[0] += daemons.TIDY_SECONDS + 1

    desk.before(2, later)
    desk.before(4, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert desk.looks == 4
    assert not old.exists()


def test_a_node_where_no_job_passes_its_self_test_is_left_alone(desk: Desk) -> None:
    now, interrupts = datetime.now(UTC), Interrupts()
    desk.fleet.note(JobNote("cpu-0", "cpu", JobState.RUNNING, "0", "n1"))
    desk.fleet.change("cpu-0", started=now, seen=now, worked=True)
    desk.batch.jobs["0"] = Queued("0", "cpu-0", QueueState.RUNNING)
    for name in ("cpu-1", "cpu-2", "cpu-3"):
        desk.fleet.note(JobNote(name, "cpu", JobState.RUNNING, name, "n2"))
        desk.fleet.change(name, started=now, seen=now)
        desk.fleet.end(name, "self-test failed: no aims")
    daemon = desk.daemon(CPU)
    daemon.take()
    desk.before(2, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    (note,) = desk.fleet.nodes
    assert (note.host, note.fragments) == ("n2", ())
    assert note.why == (
        "3 jobs in a row failed their self-test there, while others work on n1: no aims"
    )
    assert daemon._suspects == {"n2"}


def test_an_edited_configuration_is_told_once(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user has raised a walltime, and wonders why jobs do not get it."""
    file = tmp_path / "qfarm.toml"
    file.write_text('[[partitions]]\nname = "cpu"\nscheduler = "slurm"\n')
    desk.farm = config.load(tmp_path)
    daemon, interrupts = desk.daemon(CPU), Interrupts()
    daemon.take()
    monkeypatch.setattr(daemons, "CONFIG_SECONDS", 0.0)
    told = "qfarm.toml has changed, the launcher goes on as it began"
    counts: list[int] = []
    texts = {2: "[[partitions", 4: 'walltime = "10:00"\n', 8: ""}
    first = file.read_text()

    def edit(text: str) -> None:
        counts.append(len(desk.log.of(told)))
        file.write_text(first + text)

    for look, text in texts.items():
        desk.before(look, lambda text=text: edit(text))
    desk.before(10, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert counts == [0, 0, 1]
    assert len(desk.log.of(told)) == 1, "it is again as it was"


def test_what_is_submitted_at_a_new_level_is_foreseen_at_once(desk: Desk) -> None:
    """Until then large stages of it fit into no job that has begun."""
    daemon, interrupts = desk.daemon(), Interrupts()
    daemon.take()
    learnt: list[int] = []
    for look, engines in ((3, {}), (5, {"l1": "pyscf"}), (7, {"l1": "pyscf"}), (9, {})):
        desk.before(look, lambda engines=engines: desk.fleet.engines.update(engines))
        desk.before(look + 1, lambda: learnt.append(desk.fleet.learnt))
    desk.before(11, lambda: setattr(interrupts, "drain", True))
    daemon.run(interrupts)
    assert learnt == [1, 2, 2, 2]
