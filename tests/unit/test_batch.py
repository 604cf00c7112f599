"""Submit, look, cancel through stand-ins of every scheduler's commands."""

import os
import pwd
import shlex
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qfarm_launchers import commands as detaching
from qfarm_launchers.batch import (
    BatchSystem,
    EndingKind,
    QueueState,
    Refused,
    SchedulerAway,
    script,
)
from qfarm_launchers.cluster import JobOrder, choice
from qfarm_launchers.commands import detached, environment, run
from qfarm_launchers.schedulers.words import REMEDIES, Limit
from qfarm_schemas.config import Partition
from support.commands import Commands
from support.wait import gone

SUBMIT = {
    "slurm": ("sbatch", "Submitted batch job 12 on cluster x\n", "12"),
    "pbs": ("qsub", "4821.pbs01\n", "4821"),
    "sge": ("qsub", 'Your job 3 ("cpu-1") has been submitted\n', "3"),
    "lsf": ("bsub", "Job <301> is submitted to queue <long>.\n", "301"),
    "htcondor": ("condor_submit", "Submitting job(s).\n1 job(s) submitted to cluster 7.\n", "7.0"),
    "oar": ("oarsub", "[ADMISSION RULE] Set 3\nOAR_JOB_ID=51\n", "51"),
}
CANCEL = {
    "slurm": "scancel",
    "pbs": "qdel",
    "sge": "qdel",
    "lsf": "bkill",
    "htcondor": "condor_rm",
    "oar": "oardel",
}
NEEDED = {
    "slurm": ("sbatch", "scancel", "squeue", "sinfo"),
    "pbs": ("qsub", "qdel", "qselect", "qstat"),
    "sge": ("qsub", "qdel", "qstat"),
    "lsf": ("bsub", "bkill", "bjobs"),
    "htcondor": ("condor_submit", "condor_rm", "condor_q"),
    "oar": ("oarsub", "oardel", "oarstat"),
}


def partition(scheduler: str, **changes: object) -> Partition:
    return Partition.model_validate({"name": "cpu", "scheduler": scheduler, "slots": 1} | changes)


def order(folder: Path) -> JobOrder:
    return JobOrder("cpu-1", folder / "my farm", folder / "job logs", "/opt/py", ("n1",))


@pytest.mark.parametrize("scheduler", SUBMIT)
def test_the_scheduler_gets_the_script_that_is_shown(
    scheduler: str, commands: Commands, tmp_path: Path
) -> None:
    command, answer, job = SUBMIT[scheduler]
    commands.say(command, answer)
    batch = BatchSystem(partition(scheduler))
    assert batch.submit(order(tmp_path)) == job
    shown = script(choice(batch.partition, order(tmp_path)))
    assert (tmp_path / "job logs").is_dir()
    if scheduler == "oar":  # options and the whole script as arguments
        header = [line[5:] for line in shown.splitlines() if line.startswith("#OAR ")]
        body = "".join(line for line in shown.splitlines(True) if not line.startswith("#"))
        assert commands.words(command) == [*shlex.split(" ".join(header)), body]
    else:
        assert commands.got(command, "stdin" if scheduler == "lsf" else "script") == shown


@pytest.mark.parametrize("scheduler", SUBMIT)
def test_refusals_are_shown_in_the_scheduler_s_words(
    scheduler: str, commands: Commands, tmp_path: Path
) -> None:
    command = SUBMIT[scheduler][0]
    commands.say(command, "so far\n", "would exceed the user limit of jobs\n", 1)
    with pytest.raises(Refused, match="would exceed the user limit of jobs so far") as caught:
        BatchSystem(partition(scheduler)).submit(order(tmp_path))
    assert caught.value.remedy == REMEDIES[Limit.JOBS]
    commands.say(command, "", "Unable to contact the server\n", 1)
    with pytest.raises(SchedulerAway, match="Unable to contact the server"):
        BatchSystem(partition(scheduler)).submit(order(tmp_path))


@pytest.mark.parametrize("scheduler", SUBMIT)
def test_an_answer_without_an_id_leaves_open_whether_it_has_the_job(
    scheduler: str, commands: Commands, tmp_path: Path
) -> None:
    commands.say(SUBMIT[scheduler][0], "thank you\n")
    with pytest.raises(SchedulerAway, match="thank you"):
        BatchSystem(partition(scheduler)).submit(order(tmp_path))


@pytest.mark.parametrize("scheduler", CANCEL)
def test_many_jobs_are_cancelled_in_few_commands(scheduler: str, commands: Commands) -> None:
    commands.say(CANCEL[scheduler])
    batch = BatchSystem(partition(scheduler))
    batch.cancel([])
    assert commands.calls(CANCEL[scheduler]) == 0
    batch.cancel(str(number) for number in range(250))
    assert commands.calls(CANCEL[scheduler]) == 3
    assert commands.words(CANCEL[scheduler]) == [str(number) for number in range(200, 250)]


def test_ids_that_would_be_options_are_left_out(commands: Commands) -> None:
    commands.say("scancel")
    BatchSystem(partition("slurm")).cancel(["--user=me", "3", "-u me", "4_[1-5]", "5.pbs.site"])
    assert commands.words("scancel") == ["3", "4_[1-5]", "5.pbs.site"]


def test_only_what_is_gone_may_stay_uncancelled(commands: Commands) -> None:
    batch = BatchSystem(partition("slurm"))
    commands.say("scancel", "", "scancel: error: Kill job error on job id 3: Invalid job id\n", 1)
    batch.cancel(["3"])
    commands.say("scancel", "", "scancel: error: 3: Access/permission denied\n", 1)
    with pytest.raises(Refused, match="permission denied"):
        batch.cancel(["3"])
    commands.say("scancel", "", "scancel: error: Unable to contact slurm controller\n", 1)
    with pytest.raises(SchedulerAway):
        batch.cancel(["3"])


def test_pbs_is_asked_for_ids_first(commands: Commands) -> None:
    batch = BatchSystem(partition("pbs"))
    commands.say("qselect")
    assert batch.queue() == {}
    assert commands.calls("qstat") == 0
    commands.say("qselect", "4821.pbs01\n4822.pbs01\n")
    text = "Job Id: 4821.pbs01\n    Job_Name = cpu-1\n    job_state = R\n"
    commands.say("qstat", text, "qstat: Unknown Job Id 4822.pbs01\n", 153)  # it ended meanwhile
    assert {job: queued.state for job, queued in batch.queue().items()} == {
        "4821": QueueState.RUNNING
    }
    assert commands.words("qstat") == ["-f", "4821.pbs01", "4822.pbs01"]
    commands.say("qselect", "", "Connection refused\nqselect: cannot connect to server\n", 255)
    with pytest.raises(SchedulerAway, match="Connection refused"):
        batch.queue()


@pytest.mark.parametrize("code", [0, 255])
def test_lsf_says_on_standard_error_that_there_is_nothing(commands: Commands, code: int) -> None:
    commands.say("bjobs", "", "No unfinished job found\n", code)
    assert BatchSystem(partition("lsf")).queue() == {}


@pytest.mark.parametrize(
    ("scheduler", "command"),
    [
        ("slurm", "squeue"),
        ("pbs", "qselect"),
        ("sge", "qstat"),
        ("lsf", "bjobs"),
        ("htcondor", "condor_q"),
        ("oar", "oarstat"),
    ],
)
def test_a_failing_command_is_never_an_empty_queue(
    scheduler: str, command: str, commands: Commands
) -> None:
    batch = BatchSystem(partition(scheduler))
    commands.say(command, "", "", 1)
    with pytest.raises(SchedulerAway, match=f"{command} ended with exit code 1"):
        batch.queue()
    commands.say(command, "", "something unheard of\n")
    if scheduler != "pbs":  # whose qselect says nothing where there is nothing
        with pytest.raises(SchedulerAway, match="something unheard of"):
            batch.queue()


def test_who_forgot_a_job_is_asked_no_more(commands: Commands) -> None:
    batch = BatchSystem(partition("slurm"))
    forgot = "slurm_load_jobs error: Invalid job id specified\n"
    commands.say("scontrol", "", forgot, 1)
    commands.say("sacct", "JobIDRaw|State|ExitCode|NodeList\n9|TIMEOUT|0:0|c2\n")
    ending = batch.ending("9")
    assert ending is not None
    assert ending.kind is EndingKind.TIMEOUT
    assert commands.words("sacct")[0] == "--jobs=9"
    commands.say("sacct", "", "Slurm accounting storage is disabled\n", 1)
    assert batch.ending("9") is None
    commands.say("scontrol", "", "Unable to contact slurm controller\n", 1)
    with pytest.raises(SchedulerAway, match="Unable to contact slurm controller"):
        batch.ending("9")


def test_commands_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    batch = BatchSystem(partition("oar"))
    for ask in (batch.queue, lambda: batch.ending("1"), lambda: batch.cancel(["1"])):
        with pytest.raises(SchedulerAway, match=r"oar(stat|del) is not on the PATH") as caught:
            ask()
        assert "login node" in caught.value.remedy


def test_hosts_that_slurm_knows_no_more_are_not_left_out(
    commands: Commands, tmp_path: Path
) -> None:
    unknown = "sbatch: error: Batch job submission failed: Invalid node name specified"
    path = commands.folder / "sbatch"
    path.write_text(f"""#!/bin/sh
echo x >> {commands.folder}/sbatch.calls
if grep -q -e --exclude "$1"; then echo '{unknown}' >&2; exit 1; fi
echo Submitted batch job 12
""")
    path.chmod(0o755)
    batch = BatchSystem(partition("slurm"))
    assert batch.submit(order(tmp_path)) == "12"
    assert commands.calls("sbatch") == 2
    commands.say("sbatch", "", unknown, 1)
    with pytest.raises(Refused, match="Invalid node name"):
        batch.submit(order(tmp_path))
    assert commands.calls("sbatch") == 4
    commands.say("sbatch", "", "Invalid account", 1)
    with pytest.raises(Refused, match="Invalid account"):
        batch.submit(order(tmp_path))
    assert commands.calls("sbatch") == 5


def test_the_user_is_known_by_id(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "nobody-else")
    commands.say("squeue", "JOBID|STATE|EXEC_HOST|REASON|NAME\n")
    batch = BatchSystem(partition("slurm"))
    assert batch.queue() == {}
    assert f"--user={pwd.getpwuid(os.getuid()).pw_name}" in commands.words("squeue")
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # has no entry, as in some containers
    assert batch.queue() == {}
    assert "--user=nobody-else" in commands.words("squeue")


def test_what_a_launcher_in_the_background_said_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "log" / "launcher.out"
    monkeypatch.setattr(detaching, "LARGEST", 60)
    for name in ("one", "two"):
        assert detached(["echo", name], out).wait() == 0
    first, one, second, two = out.read_text().splitlines()
    assert (one, two) == ("one", "two")
    assert first.startswith("--- 20")
    assert second.startswith("--- 20")
    out.write_text("x" * 61)
    assert detached(["echo", "three"], out).wait() == 0
    assert out.read_text().splitlines()[1:] == ["three"]


def test_commands_of_another_user_that_hang_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(child: subprocess.Popen[str]) -> None:
        raise PermissionError(child.pid)

    monkeypatch.setattr(subprocess.Popen, "kill", kill)
    began = time.monotonic()
    with pytest.raises(SchedulerAway, match="sleep did not answer within 0 s"):
        run(["sleep", "20"], seconds=0.05)
    assert time.monotonic() - began < 10
    (child,) = detaching._left
    os.kill(child.pid, signal.SIGKILL)
    gone(child.pid)
    assert run(["cat"], standard_input="é").out == "é"
    assert child.returncode == -signal.SIGKILL, "it is no zombie"
    assert detaching._left == []


def test_commands_that_hang_are_ended() -> None:
    with pytest.raises(SchedulerAway, match="sleep did not answer within 0 s"):
        run(["sleep", "60"], seconds=0.05)


def test_commands_see_no_settings_that_change_what_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SBATCH_PARTITION", "SQUEUE_FORMAT", "SLURM_NTASKS", "SLURM_CONF", "OTHER"):
        monkeypatch.setenv(name, "x")
    from qfarm_launchers.schedulers import slurm

    seen = environment(slurm.DIALECT.clean)
    assert {"SLURM_CONF", "OTHER"} <= set(seen)
    assert not {"SBATCH_PARTITION", "SQUEUE_FORMAT", "SLURM_NTASKS"} & set(seen)
    assert seen["LC_ALL"] == "C"


def test_only_slurm_says_whether_it_takes_jobs(commands: Commands) -> None:
    assert BatchSystem(partition("pbs")).available() == ""
    commands.say("sinfo", "PARTITION|AVAIL|STATE\ncpu*|down|idle\n")
    assert BatchSystem(partition("slurm")).available() == "Slurm's default partition is down"
    commands.say("sinfo", "")
    with pytest.raises(SchedulerAway):
        BatchSystem(partition("slurm")).available()


def test_a_script_that_cannot_be_written_is_a_refusal(commands: Commands, tmp_path: Path) -> None:
    commands.say("sbatch", "Submitted batch job 1\n")
    (tmp_path / "log").write_text("no folder")
    wanted = replace(order(tmp_path), log_folder=tmp_path / "log" / "jobs")
    with pytest.raises(Refused, match=r"from this machine: .*Not a directory"):
        BatchSystem(partition("slurm")).submit(wanted)


def test_a_log_folder_that_is_there_is_used(commands: Commands, tmp_path: Path) -> None:
    commands.say("sbatch", "Submitted batch job 1\n")
    wanted = replace(order(tmp_path), log_folder=tmp_path)
    assert BatchSystem(partition("slurm")).submit(wanted) == "1"


def test_commands_that_are_not_here(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(commands.folder))
    for name, needed in NEEDED.items():
        assert BatchSystem(partition(name)).missing() == needed
    for command in NEEDED["slurm"][:-1]:
        commands.say(command)
    assert BatchSystem(partition("slurm")).missing() == ("sinfo",)
    assert BatchSystem(partition("local")).missing() == ()
