"""`qfarm launch` and `qfarm launcher` on jobs of this machine: what users do, and what befalls."""

import json
import os
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qfarm.costs.model import UNKNOWN, Key, Observation, learn, works
from qfarm.store.fleet import NodeNote
from qfarm.store.protocol import StageState
from qfarm_schemas.config import Policy
from qfarm_schemas.failure import FailureKind
from support import engines, steps
from support.build import PBE0, stage
from support.clusters import QFARM, kill
from support.local_farm import QUICK, LocalFarm, farm
from support.wait import gone, lives, until

__all__ = ["farm"]

UNTIL_DONE = (*QUICK, "--until-done")
SEVEN = ("slurm", "pbs", "sge", "lsf", "htcondor", "oar", "local")


def gated(farm: LocalFarm, name: str = "gate") -> str:
    """Submit a stage that goes on until a file is there; its fragment."""
    return farm.submit(engines.stage("gated", options={"gate": str(farm.root / name)}))


def waits(farm: LocalFarm, name: str = "gate") -> int:
    """Wait until an attempt waits for its gate; the pid of its engine."""
    announced = farm.root / f"{name}.pid"
    until(announced.exists)
    return int(announced.read_text())


def status(farm: LocalFarm) -> dict[str, Any]:
    """What `qfarm launcher status --json` says of the partition."""
    found: dict[str, Any] = json.loads(farm.say("launcher", "status", "--json").raw)
    (row,) = found["partitions"]
    return dict(row)


def finish(process: subprocess.Popen[str], seconds: float = 20.0) -> int:
    return process.wait(seconds)


def test_the_job_script_of_every_scheduler_is_printed(farm: LocalFarm) -> None:
    tables = [
        f'[[partitions]]\nname = "on-{name}"\nscheduler = "{name}"\nwalltime = 3600\nslots = 1\n'
        for name in SEVEN
    ]
    config = farm.root / "qfarm.toml"
    config.write_text(config.read_text().partition("[lease]")[0] + "".join(tables))
    (farm.root / "mongo.uri").unlink()  # it asks nobody
    said = farm.say("launch", "--dry-run", *(f"on-{name}" for name in SEVEN))
    assert said.code == 0
    for name in SEVEN:
        assert f"# partition on-{name}: a job for {name}" in said.out
    assert said.out.count("-m qfarm_workers.job") == len(SEVEN)
    for mark in ("#SBATCH", "#PBS", "#$", "#BSUB", "#OAR", "Executable"):
        assert mark in said.out, mark
    alone = farm.say("launch", "--dry-run", "on-sge")
    assert alone.out.count("# partition") == 1
    assert not (farm.root / ".qfarm" / "log").exists()


def test_a_queue_is_worked_off_and_the_launcher_ends(farm: LocalFarm) -> None:
    farm.configure(slots=2, idle=0.5)
    fragments = [farm.submit(engines.stage("good")) for _ in range(5)]
    with farm.launcher("cpu", start=UNTIL_DONE) as process:
        assert finish(process) == 0
    assert all(farm.kinds(one) == [None] for one in fragments)
    (note,) = farm.jobs("cpu", ended=True)
    assert (note.attempts, note.why) == (5, "")
    made = [farm.attempts(one)[0] for one in fragments]
    assert {one.worker.job for one in made} == {note.name}
    assert {one.environment.scheduler_job for one in made if one.environment} == {note.scheduler_id}
    logs = sorted((farm.root / ".qfarm" / "log" / "jobs").iterdir())
    assert [log.name for log in logs] == [f"{note.name}.log", f"{note.name}.sh"]
    shown(farm, note.name)


def test_the_end_of_all_tells_whether_something_failed(farm: LocalFarm) -> None:
    """`qfarm launch --until-done && qfarm export` must not export what is not whole."""
    farm.configure(slots=2, idle=0.5)
    farm.submit(engines.stage("good"))
    farm.submit(engines.stage("crash", policy=Policy(node=1)))
    with farm.launcher("cpu", start=UNTIL_DONE) as process:
        assert finish(process) == 3
    told = (farm.root / "launcher.err").read_text()
    assert "1 stages done, 1 failed, 0 waiting." in told


def shown(farm: LocalFarm, job: str) -> None:
    """Its logs, as the user reads them."""
    lines = farm.say("launcher", "logs").out.splitlines()
    assert any(f"submitted: job {job}, id" in line for line in lines)
    assert any(f"ended: job {job}" in line for line in lines)
    assert len(farm.say("launcher", "logs", "-n", "1").out.splitlines()) == 1
    assert farm.say("launcher", "logs", "gpu").out == ""
    assert f"ended: job {job}" in farm.say("launcher", "logs", "cpu").out
    for words in (("--job", job), ("cpu", "--job", job)):
        assert f"{job} ends: nothing was left to do" in farm.say("launcher", "logs", *words).out
    missing = farm.say("launcher", "logs", "--job", "cpu-nobody")
    assert missing.code == 1
    assert "there is no log of a job 'cpu-nobody'" in missing.err


def test_what_was_learnt_of_costs_is_shown(farm: LocalFarm) -> None:
    assert "Nothing is learnt yet" in farm.say("launcher", "costs").out
    key = Key("cpu", PBE0.id, "single_point")
    model = learn([Observation(key, 100.0, 30.0, 1000.0)] * 9, works([(stage(), UNKNOWN)]))
    farm.store.fleet.keep_costs(model.as_document())
    *_, row = farm.say("launcher", "costs").out.splitlines()
    assert row.split()[:6] == ["cpu", "single_point", "pyscf", "PBE0+MBD/tight", "9", "100"]


def test_what_cannot_be_launched_is_said(farm: LocalFarm) -> None:
    for words in (("launch", "gpu"), ("launch", "gpu", "--detach"), ("launcher", "drain", "gpu")):
        said = farm.say(*words)
        assert said.code == 1, words
        assert "there is no partition 'gpu'" in said.err
        assert "Partitions in qfarm.toml: cpu." in said.err
    missing = farm.say("launcher", "logs")
    assert missing.code == 1
    assert "no launcher ran here" in missing.err
    assert farm.say("launcher", "stop", "--keep-jobs").out == "cpu has no launcher"
    (farm.root / "mongo.uri").rename(farm.root / "elsewhere")
    assert farm.say("launch").code == 1
    (farm.root / "elsewhere").rename(farm.root / "mongo.uri")
    nobody = farm.say("launcher", "status")
    assert "No launcher runs: `qfarm launch`" in nobody.out
    assert status(farm)["launcher"] == "none"


def test_a_detached_launcher(farm: LocalFarm) -> None:
    """The real command: it returns when the launcher is one, and a second one is refused."""
    farm.configure(idle=1.0)
    said = farm.run(QFARM, "launch", "cpu", "--detach")
    assert said.returncode == 0, said.stderr
    row = status(farm)
    host, _, pid = row["launcher"].rpartition(":")
    assert f"The launcher is process {pid};" in said.stdout
    assert (row["state"], row["alive"], row["jobs"]) == ("open", True, 0)
    assert os.getsid(int(pid)) == int(pid)
    second = farm.say("launch", "cpu")
    assert second.code == 1
    assert f"is launched by process {pid} on {host} already" in second.err
    another = farm.run(QFARM, "launch", "--detach")
    assert another.returncode == 1
    assert f"is launched by process {pid}" in another.stderr
    os.kill(int(pid), signal.SIGTERM)
    gone(int(pid), 10)
    assert status(farm)["alive"] is False
    assert "No launcher runs" in farm.say("launcher", "status").out


def test_a_launcher_that_is_killed_is_taken_over_with_its_job(farm: LocalFarm) -> None:
    farm.configure(slots=1, idle=1.0)
    first, later = gated(farm), gated(farm, "later")
    with farm.launcher("cpu", start=QUICK) as launcher:
        engine = waits(farm)
        (before,) = farm.jobs("cpu")
        kill(launcher)
    assert lives(engine)
    (farm.root / "gate").touch()
    waits(farm, "later")
    assert farm.kinds(first) == [None], "the job went on pulling"
    with farm.launcher("cpu", start=UNTIL_DONE) as launcher:
        until(lambda: status(farm)["attempts"] == 1)
        assert [note.name for note in farm.jobs("cpu")] == [before.name]
        (farm.root / "later").touch()
        assert finish(launcher) == 0
    (note,) = farm.jobs("cpu", ended=True)
    assert (note.name, note.scheduler_id) == (before.name, before.scheduler_id)
    assert (farm.kinds(first), farm.kinds(later)) == ([None], [None])
    assert (note.attempts, note.why) == (2, "")


def test_sigterm_ends_a_launcher_and_not_its_jobs(farm: LocalFarm) -> None:
    farm.configure(idle=1.0)
    fragment = gated(farm)
    with farm.launcher("cpu", start=QUICK) as launcher:
        engine = waits(farm)
        launcher.send_signal(signal.SIGTERM)
        assert finish(launcher, 20) == 0
    assert (
        "The launcher has ended; 1 job goes on without it."
        in (farm.root / "launcher.err").read_text()
    )
    assert lives(engine)
    assert status(farm)["alive"] is False
    (farm.root / "gate").touch()
    until(lambda: farm.kinds(fragment) == [None])
    until(lambda: farm.note.ended is not None)


def test_pause_and_resume_then_drain(farm: LocalFarm) -> None:
    first, second, third = gated(farm), gated(farm, "second"), gated(farm, "third")
    with farm.launcher("cpu", start=QUICK) as launcher:
        waits(farm)
        assert "cpu is paused" in farm.say("launcher", "pause").out
        until(lambda: farm.note.busy == 1)
        paused_since = farm.note.seen
        until(lambda: farm.note.seen > paused_since + timedelta(seconds=0.3))  # type: ignore[operator]
        (farm.root / "gate").touch()
        until(lambda: farm.kinds(first) == [None])
        until(lambda: farm.note.busy == 0)
        until(lambda: status(farm)["attempts"] == 0)
        row = status(farm)
        assert (row["state"], row["ready"]) == ("paused", 2)
        assert row["why"] == "paused: no new jobs; `qfarm launcher resume` goes on"
        assert farm.kinds(second) == []
        assert farm.say("launcher", "resume").out == "cpu is open"
        waits(farm, "second")
        drained = farm.say("launcher", "drain", "cpu").out
        assert drained == "cpu drains: what runs is finished, then its launcher ends"
        until(lambda: "draining: no new jobs; 1 job to finish" in str(status(farm)["why"]))
        (farm.root / "second").touch()
        assert finish(launcher) == 0
    assert farm.kinds(second) == [None]
    assert farm.kinds(third) == []
    assert farm.note.ended is not None
    assert status(farm)["state"] == "draining"


def test_stop_ends_jobs_which_costs_nothing(farm: LocalFarm) -> None:
    fragment = farm.submit(steps.stage(600))
    with farm.launcher("cpu", start=QUICK) as launcher:
        until(lambda: list((farm.root / ".qfarm" / "scratch").glob("*/reached.state")))
        said = farm.say("launcher", "stop")
        assert said.out == "cpu stops: its jobs are ended, then its launcher"
        assert finish(launcher) == 0
    assert farm.kinds(fragment) == [FailureKind.INTERRUPTED]
    assert {count.state for count in farm.store.counts()} == {StageState.READY}
    assert farm.note.ended is not None
    assert farm.store.running() == ()


def test_stop_may_leave_the_jobs_and_stops_them_without_a_launcher(farm: LocalFarm) -> None:
    fragment = gated(farm)
    with farm.launcher("cpu", start=QUICK) as launcher:
        engine = waits(farm)
        said = farm.say("launcher", "stop", "--keep-jobs")
        assert said.out == "the launcher of cpu ends within seconds; its jobs go on"
        assert finish(launcher) == 0
        assert "was taken from this launcher" in (farm.root / "launcher.err").read_text()
    assert lives(engine)
    assert farm.note.ended is None
    said = farm.say("launcher", "stop")
    assert said.code == 0
    assert "Ending 1 job of cpu" in said.err
    gone(engine)
    assert farm.kinds(fragment) == [FailureKind.INTERRUPTED]
    assert farm.note.ended is not None


def test_a_job_that_is_killed_is_noticed_and_what_it_did_done_again(farm: LocalFarm) -> None:
    farm.configure(slots=2, idle=1.0)
    fragments = [farm.submit(engines.stage("sleep")) for _ in range(2)]
    with farm.launcher("cpu", start=QUICK):
        until(lambda: len(farm.store.running()) == 2)
        (note,) = farm.jobs("cpu")
        os.kill(int(note.scheduler_id.partition(".")[0]), signal.SIGKILL)
        until(lambda: all(farm.kinds(one) for one in fragments))
        until(lambda: len(farm.jobs("cpu", ended=True)) == 2)
    assert [farm.kinds(one) for one in fragments] == [[FailureKind.LOST_WORKER]] * 2
    (before,) = [one for one in farm.jobs("cpu", ended=True) if one.ended]
    assert before.name == note.name
    assert "signal 9" in before.why


def test_jobs_that_die_at_once_are_not_submitted_again_and_again(
    farm: LocalFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.configure(slots=5)
    monkeypatch.setenv("JOB_MODULE", "support.dying_job")
    fragment = farm.submit(engines.stage("good"))
    with farm.launcher("cpu", start=QUICK):
        until(lambda: "died before they could work" in str(status(farm)["why"]), 30)
        row = status(farm)
        assert row["state"] == "refused"
        assert re.match(
            r"3 jobs in a row died before they could work, the last: \d slots died", row["why"]
        )
        count = len(farm.jobs("cpu", ended=True))
        time.sleep(1.0)
        assert len(farm.jobs("cpu", ended=True)) == count == 3
    assert farm.kinds(fragment) == []


def test_nodes_that_are_left_alone_are_shown_and_used_again(farm: LocalFarm) -> None:
    until_then = datetime.now(UTC) + timedelta(hours=2)
    note = NodeNote("n17", until_then, "3 fragments failed there (crashed)", ("a", "b", "c"))
    farm.store.fleet.suspect(note)
    shown_text = farm.say("launcher", "status").out
    assert f"n17 {until_then:%Y-%m-%d %H:%M} UTC 3 fragments failed there (crashed)" in shown_text
    assert "Mended? `qfarm launcher use NODE`" in shown_text
    (node,) = json.loads(farm.say("launcher", "status", "--json").raw)["nodes"]
    assert (node["host"], node["fragments"]) == ("n17", ["a", "b", "c"])
    wrong = farm.say("launcher", "use", "n18")
    assert wrong.code == 1
    assert "no node 'n18' is left alone" in wrong.err
    assert farm.say("launcher", "use", "n17").out == "n17 is used again"
    assert "n17" not in farm.say("launcher", "status").out


def test_a_growing_log_is_followed_until_the_user_has_enough(farm: LocalFarm) -> None:
    log = farm.root / ".qfarm" / "log" / "launcher.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"event": "launch", "partitions": ["cpu"], "at": "2026-01-01T12:00:00"}\n')
    words = [QFARM, "launcher", "logs", "-f"]
    with subprocess.Popen(
        words, cwd=farm.root, env=farm.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "12:00:00 launch: partitions ['cpu']\n"
        with log.open("a") as file:
            file.write('{"event": "gate", "partition": "cpu", "at": "2026-01-01T12:00:01"}\n')
        assert process.stdout.readline() == "12:00:01 gate: partition cpu\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
