"""What schedulers print is read as it is meant; what they never print is no answer."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.errors import NotFoundError
from qfarm_launchers.schedulers import TABLE, dialect, slurm
from qfarm_launchers.schedulers.base import (
    Ending,
    EndingKind,
    Queued,
    QueueState,
    UnreadableError,
)
from qfarm_launchers.schedulers.words import Limit, away, gone, limit
from qfarm_schemas.config import Partition

PENDING, RUNNING = QueueState.PENDING, QueueState.RUNNING
ENDING, OTHER = QueueState.ENDING, QueueState.OTHER

SQUEUE = """\
JOBID|STATE|EXEC_HOST|REASON|NAME
12|PENDING|n/a|Resources|cpu-1f
13|RUNNING|c1|None|cpu-20
14|COMPLETING|c2|None|a|b
15|CONFIGURING|c2|None|cpu-21
16|SUSPENDED|c1|None|cpu-22
17|PENDING|n/a|AssocMaxJobsLimit|cpu-23
18|TIMEOUT|c1|TimeLimit|cpu-24
19|PENDING|n/a|JobHeldUser|cpu-25
20|PENDING|n/a|launch failed requeued held|cpu-26
21|PENDING|n/a|AssocGrpCpuLimit|cpu-27
"""

QSTAT_F = """\
Job Id: 4821.pbs01
    Job_Name = cpu-1f
    Job_Owner = anna@login1.hpc
    job_state = R
    queue = long
    exec_host = n017/0*8+n018/0*8
    comment = Job run at Sat Nov 28 at 10:00 on (n017:ncpus=8:mem=4194304kb)+(n0
\t18:ncpus=8)
    Variable_List = PBS_O_HOME=/home/anna,PBS_O_LANG=en_US.UTF-8,
\tPBS_O_PATH=/usr/bin

Job Id: 4822.pbs01
    Job_Name = cpu-20
    job_state = Q
    comment = Not Running: Insufficient amount of resource: ncpus

Job Id: 4823.pbs01
    Job_Name = cpu-21
    job_state = H

Job Id: 4824.pbs01
    Job_Name = cpu-22
    job_state = E
    exec_host = n017/1
Job Id: 4825.pbs01
    Job_Name = cpu-23
    job_state = F
"""

QSTAT_XML = """\
<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>1</JB_job_number>
      <JAT_prio>0.55500</JAT_prio>
      <JB_name>cpu-1f</JB_name>
      <JB_owner>anna</JB_owner>
      <state>r</state>
      <JAT_start_time>2026-11-28T19:24:50</JAT_start_time>
      <queue_name>all.q@node7</queue_name>
      <slots>2</slots>
    </job_list>
    <job_list state="running">
      <JB_job_number>2</JB_job_number><JB_name>cpu-20</JB_name><state>dr</state>
      <queue_name>all.q@node8.hpc</queue_name>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>3</JB_job_number><JB_name>cpu-21</JB_name><state>qw</state>
      <queue_name></queue_name>
    </job_list>
    <job_list state="pending">
      <JB_job_number>4</JB_job_number><JB_name>cpu-22</JB_name><state>Eqw</state>
      <queue_name></queue_name>
    </job_list>
  </job_info>
</job_info>
"""

BJOBS = """\
JOBID|STAT|EXEC_HOST|JOB_NAME
301|RUN|8*node1:8*node2|cpu-1f
302|PEND|-|cpu-20
303|USUSP|node3|cpu-21
304|DONE|node3|cpu-22
"""

CONDOR_Q = """\
[
{"ClusterId": 7, "ProcId": 0, "JobBatchName": "cpu-1f", "JobStatus": 2,
 "RemoteHost": "slot1_2@node1.hpc.example.org"},
{"ClusterId": 8, "ProcId": 0, "JobBatchName": "cpu-20", "JobStatus": 1},
{"ClusterId": 9, "ProcId": 0, "JobBatchName": "cpu-21", "JobStatus": 5,
 "HoldReason": "memory usage exceeded request_memory"},
{"ClusterId": 10, "ProcId": 0, "JobBatchName": "cpu-22", "JobStatus": 4}
]
"""

OARSTAT = """\
{
 "51": {"name": "cpu-1f", "state": "Running", "assigned_network_address": ["n-3.site", "n-4.site"],
        "message": "R=8,W=1:0:0"},
 "52": {"name": "cpu-20", "state": "Waiting", "assigned_network_address": [], "message": ""},
 "53": {"name": "cpu-21", "state": "Hold", "message": null},
 "54": {"name": "cpu-22", "state": "Terminated"},
 "55": {"name": null, "state": "Finishing"}
}
"""

QUEUES: Mapping[str, tuple[str, list[Queued]]] = {
    "slurm": (
        SQUEUE,
        [
            Queued("12", "cpu-1f", PENDING, "Resources"),
            Queued("13", "cpu-20", RUNNING, "", "c1"),
            Queued("14", "a|b", ENDING, "", "c2"),
            Queued("15", "cpu-21", PENDING, "", "c2"),
            Queued("16", "cpu-22", OTHER, "", "c1"),
            Queued("17", "cpu-23", PENDING, "AssocMaxJobsLimit"),
            Queued("19", "cpu-25", OTHER, "JobHeldUser"),
            Queued("20", "cpu-26", OTHER, "launch failed requeued held"),
            Queued("21", "cpu-27", PENDING, "AssocGrpCpuLimit"),
        ],
    ),
    "pbs": (
        QSTAT_F,
        [
            Queued(
                "4821",
                "cpu-1f",
                RUNNING,
                "Job run at Sat Nov 28 at 10:00 on (n017:ncpus=8:mem=4194304kb)+(n018:ncpus=8)",
                "n017",
            ),
            Queued(
                "4822", "cpu-20", PENDING, "Not Running: Insufficient amount of resource: ncpus"
            ),
            Queued("4823", "cpu-21", OTHER),
            Queued("4824", "cpu-22", ENDING, "", "n017"),
        ],
    ),
    "sge": (
        QSTAT_XML,
        [
            Queued("1", "cpu-1f", RUNNING, "", "node7"),
            Queued("2", "cpu-20", ENDING, "", "node8.hpc"),
            Queued("3", "cpu-21", PENDING),
            Queued("4", "cpu-22", OTHER, "state Eqw: qstat -j says why"),
        ],
    ),
    "lsf": (
        BJOBS,
        [
            Queued("301", "cpu-1f", RUNNING, "", "node1"),
            Queued("302", "cpu-20", PENDING),
            Queued("303", "cpu-21", OTHER, "state USUSP: bjobs -l says why", "node3"),
        ],
    ),
    "htcondor": (
        CONDOR_Q,
        [
            Queued("7.0", "cpu-1f", RUNNING, "", "node1.hpc.example.org"),
            Queued("8.0", "cpu-20", PENDING),
            Queued("9.0", "cpu-21", OTHER, "memory usage exceeded request_memory"),
        ],
    ),
    "oar": (
        OARSTAT,
        [
            Queued("51", "cpu-1f", RUNNING, "R=8,W=1:0:0", "n-3.site"),
            Queued("52", "cpu-20", PENDING),
            Queued("53", "cpu-21", OTHER),
            Queued("55", "", ENDING),
        ],
    ),
}

EMPTY: Mapping[str, str] = {
    "slurm": "JOBID|STATE|EXEC_HOST|REASON|NAME\n",
    "pbs": "",
    "sge": "<?xml version='1.0'?>\n<job_info><queue_info/><job_info/></job_info>\n",
    "lsf": "No unfinished job found\n",
    "htcondor": "",
    "oar": "{}\n",
}


HEADERS = {"slurm": SQUEUE.splitlines(True)[0], "lsf": BJOBS.splitlines(True)[0]}


@pytest.mark.parametrize("scheduler", QUEUES)
def test_the_queue_is_read(scheduler: str) -> None:
    text, expected = QUEUES[scheduler]
    assert dialect(scheduler).read_queue(text) == {job.id: job for job in expected}


@pytest.mark.parametrize("scheduler", ["slurm", "lsf", "htcondor", "oar", "sge"])
@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_job_of_a_strange_name_hides_no_other(scheduler: str, sign: str) -> None:
    text, expected = QUEUES[scheduler]
    queue = dialect(scheduler).read_queue(text.replace("cpu-20", f"my{sign}job"))
    assert list(queue) == [job.id for job in expected]
    assert queue[expected[1].id].name in {f"my{sign}job", "myjob"}
    assert [job for job in queue.values() if job.id != expected[1].id] == [
        job for job in expected if job is not expected[1]
    ]


@pytest.mark.parametrize("scheduler", ["slurm", "lsf"])
@pytest.mark.parametrize("rest", ["job", "job|a|b|c|d|e", "3 jobs|a|b|c|d", ""])
def test_a_job_s_name_may_have_lines(scheduler: str, rest: str) -> None:
    text, expected = QUEUES[scheduler]
    queue = dialect(scheduler).read_queue(text.replace("cpu-1f", f"my\n{rest}"))
    assert list(queue) == [job.id for job in expected]
    assert queue[expected[0].id].name == "my"
    assert [queue[job.id] for job in expected[1:]] == expected[1:]


@pytest.mark.parametrize("scheduler", ["slurm", "lsf"])
@pytest.mark.parametrize(
    "rest", ["?\n", "error: lost\nconnection|refused\n", "99|RUN", "301|RUN|-|a|b\n99|RUN"]
)
def test_lines_of_which_none_is_a_job_are_no_queue(scheduler: str, rest: str) -> None:
    with pytest.raises(UnreadableError, match="fields expected"):
        dialect(scheduler).read_queue(HEADERS[scheduler] + rest)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("JobHeldAdmin", OTHER),
        ("launch_failed_requeued_held", OTHER),
        ("PartitionTimeLimit", OTHER),
        ("DependencyNeverSatisfied", OTHER),
        ("BadConstraints", OTHER),
        ("AssocMaxWallDurationPerJobLimit", OTHER),
        ("QOSMaxCpuPerJobLimit", OTHER),
        ("Priority", PENDING),
        ("QOSMaxJobsPerUserLimit", PENDING),
        ("PartitionNodeLimit", PENDING),  # also while nodes are down
        ("ReqNodeNotAvail, UnavailableNodes:c1", PENDING),
    ],
)
def test_slurm_s_jobs_that_never_start_are_told(reason: str, state: QueueState) -> None:
    text = f"JOBID|STATE|EXEC_HOST|REASON|NAME\n12|PENDING|n/a|{reason}|cpu-1f\n"
    assert slurm.read_queue(text) == {"12": Queued("12", "cpu-1f", state, reason)}


def test_slurm_is_asked_for_hidden_partitions_too() -> None:
    asked = slurm.DIALECT.queue("anna", ())
    assert asked == ["squeue", "--all", "--user=anna", "--format=%i|%T|%B|%r|%j"]
    assert slurm.DIALECT.gate is not None
    assert slurm.DIALECT.gate.command == ["sinfo", "--all", "--format=%P|%a|%T"]


@pytest.mark.parametrize("used", ["12.5.", ".", "", "1" * 5000, "s"])
def test_a_strange_account_of_sge_is_no_error(used: str) -> None:
    ending = dialect("sge").accounts[0].read(QACCT.format("0", "3", used))
    assert ending is not None
    assert ending.exit_code == 3
    strange = dialect("sge").accounts[0].read("failed 0\nexit_status ")
    assert strange is not None
    assert strange.exit_code is None


@pytest.mark.parametrize("scheduler", EMPTY)
def test_an_empty_queue_is_read(scheduler: str) -> None:
    assert dialect(scheduler).read_queue(EMPTY[scheduler]) == {}


@pytest.mark.parametrize("scheduler", ["slurm", "sge", "lsf"])
def test_no_text_is_no_empty_queue(scheduler: str) -> None:
    with pytest.raises(UnreadableError):
        dialect(scheduler).read_queue("")


@pytest.mark.parametrize("scheduler", QUEUES)
@pytest.mark.parametrize(
    "text",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
        "error: commlib error: got select error (Connection refused)\n",
        "<html><body>502 Bad Gateway</body></html>",
        "[1, 2]",
        '{"51": 3}',
        "12|PENDING|n/a|Resources|cpu-1f\n",
    ],
)
def test_garbage_is_no_answer(scheduler: str, text: str) -> None:
    with pytest.raises(UnreadableError):
        dialect(scheduler).read_queue(text)


@pytest.mark.parametrize("scheduler", ["slurm", "sge", "lsf", "htcondor", "oar"])
def test_an_answer_that_is_cut_off_is_no_answer_or_whole_lines(scheduler: str) -> None:
    text, expected = QUEUES[scheduler]
    whole = {job.id: job for job in expected}
    for end in range(len(text.rstrip())):
        try:
            found = dialect(scheduler).read_queue(text[:end])
        except UnreadableError:
            continue
        assert set(found) <= set(whole)


@pytest.mark.parametrize("scheduler", QUEUES)
@given(text=st.text(max_size=200))
def test_readers_never_break(scheduler: str, text: str) -> None:
    spoken = dialect(scheduler)
    for read in (spoken.read_queue, *(account.read for account in spoken.accounts)):
        try:
            read(text)
        except UnreadableError:
            continue


SCONTROL = (
    "JobId=4 JobName=cpu-1f UserId=anna(1000) GroupId=anna(1000) MCS_label=N/A Priority=429 Nice=0 "
    "Account=(null) QOS=(null) JobState={} Reason={} Dependency=(null) Requeue=0 Restarts=0 "
    "BatchFlag=1 Reboot=0 ExitCode={} RunTime=00:00:05 TimeLimit=00:05:00 TimeMin=N/A "
    "NodeList=c[1-2] BatchHost=c1 NumNodes=2 WorkDir=/home/anna/my farm StdOut=/home/anna/x.log\n"
)

SACCT = """\
JobIDRaw|State|ExitCode|NodeList
{}
"""

QACCT = """\
==============================================================
qname        all.q
hostname     node7
jobname      cpu-1f
jobnumber    1
granted_pe   smp
failed       {}
exit_status  {}
ru_wallclock {}
maxvmem      1.723MB
arid         undefined
category     -l h_rt=60,hostname=!(n1|n2.x) -pe smp 2
"""

QSTAT_X = """\
Job Id: 4821.pbs01
    Job_Name = cpu-1f
    resources_used.walltime = {}
    job_state = F
    exec_host = n017/0*8
    Resource_List.walltime = 01:00:00
    comment = Job run at Sat Nov 28 and failed
    Exit_status = {}
"""

BHIST = """\

Job <301>, Job Name <cpu-1f>, User <anna>, Project <default>, Command <#!/usr/bin/
                     env bash>
Sat Nov 28 10:00:00: Submitted from host <login1>, to Queue <long>;
Sat Nov 28 10:00:01: Dispatched 8 Task(s) on Host(s) <node1> <node1>, Allocated 8 Slot(s)
                     on Host(s) <8*node1>;
Sat Nov 28 11:00:01: Exited with exit code 140. The CPU time used is 20.0 seconds;
Sat Nov 28 11:00:01: Completed <exit>; TERM_RUNLIMIT: job killed after reaching LSF
                     run time limit;
"""


def lsf(line: str) -> str:
    return f"JOBID|STAT|EXIT_CODE|EXEC_HOST|EXIT_REASON\n{line}\n"


def condor(**facts: object) -> str:
    import json

    usual = {"ClusterId": 7, "ProcId": 0, "LastRemoteHost": "slot1@node1", "JobStatus": 4}
    return json.dumps([usual | facts])


def oar(**facts: object) -> str:
    import json

    return json.dumps({"51": {"assigned_network_address": ["n-3"], **facts}})


ENDINGS: list[tuple[str, int, str, EndingKind, int | None, str]] = [
    ("slurm", 0, SCONTROL.format("COMPLETED", "None", "0:0"), EndingKind.COMPLETED, 0, "c1"),
    ("slurm", 0, SCONTROL.format("FAILED", "NonZeroExitCode", "3:0"), EndingKind.FAILED, 3, "c1"),
    ("slurm", 0, SCONTROL.format("TIMEOUT", "TimeLimit", "0:15"), EndingKind.TIMEOUT, 0, "c1"),
    (
        "slurm",
        0,
        SCONTROL.format("NODE_FAIL", "NodeDown", "0:15"),
        EndingKind.NODE_FAILURE,
        0,
        "c1",
    ),
    ("slurm", 0, SCONTROL.format("PREEMPTED", "None", "0:15"), EndingKind.PREEMPTED, 0, "c1"),
    ("slurm", 1, SACCT.format("9|CANCELLED by 1000|0:0|c2"), EndingKind.CANCELLED, 0, "c2"),
    (
        "slurm",
        1,
        SACCT.format("9|FAILED|0:125|c2\n9.batch|OUT_OF_MEMORY|0:125|c2"),
        EndingKind.OUT_OF_MEMORY,
        0,
        "c2",
    ),
    ("slurm", 1, SACCT.format("9|TIMEOUT|0:0|None assigned"), EndingKind.TIMEOUT, 0, ""),
    ("pbs", 0, QSTAT_X.format("00:10:00", 0), EndingKind.COMPLETED, 0, "n017"),
    ("pbs", 0, QSTAT_X.format("00:10:00", 2), EndingKind.FAILED, 2, "n017"),
    ("pbs", 0, QSTAT_X.format("00:10:00", 271), EndingKind.CANCELLED, 271, "n017"),
    ("pbs", 0, QSTAT_X.format("01:00:07", 271), EndingKind.TIMEOUT, 271, "n017"),
    ("pbs", 0, QSTAT_X.format("00:10:00", 265), EndingKind.FAILED, 265, "n017"),
    ("pbs", 0, QSTAT_X.format("00:10:00", -29), EndingKind.TIMEOUT, -29, "n017"),
    ("pbs", 0, QSTAT_X.format("00:10:00", -27), EndingKind.OUT_OF_MEMORY, -27, "n017"),
    ("pbs", 0, QSTAT_X.format("00:10:00", -3), EndingKind.NODE_FAILURE, -3, "n017"),
    ("sge", 0, QACCT.format("0", "0", "20s"), EndingKind.COMPLETED, 0, "node7"),
    ("sge", 0, QACCT.format("0", "3", "20s"), EndingKind.FAILED, 3, "node7"),
    (
        "sge",
        0,
        QACCT.format("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137  (Killed)", "61s"),
        EndingKind.TIMEOUT,
        137,
        "node7",
    ),
    (
        "sge",
        0,
        QACCT.format("100 : assumedly after job", "137   (Killed)", "20.5"),
        EndingKind.CANCELLED,
        137,
        "node7",
    ),
    (
        "sge",
        0,
        QACCT.format("26  : opening output", "0", "0s"),
        EndingKind.NODE_FAILURE,
        0,
        "node7",
    ),
    ("lsf", 0, lsf("301|DONE|-|4*node1|-"), EndingKind.COMPLETED, 0, "node1"),
    ("lsf", 0, lsf("301|EXIT|3|node1|-"), EndingKind.FAILED, 3, "node1"),
    (
        "lsf",
        0,
        lsf("301|EXIT|140|node1|TERM_RUNLIMIT: job killed after reaching LSF run time limit"),
        EndingKind.TIMEOUT,
        140,
        "node1",
    ),
    (
        "lsf",
        0,
        lsf("301|EXIT|137|node1|TERM_MEMLIMIT: job killed after reaching LSF memory usage limit"),
        EndingKind.OUT_OF_MEMORY,
        137,
        "node1",
    ),
    (
        "lsf",
        0,
        lsf("301|EXIT|130|node1|TERM_OWNER: job killed by owner"),
        EndingKind.CANCELLED,
        130,
        "node1",
    ),
    ("lsf", 1, BHIST, EndingKind.TIMEOUT, 140, "node1"),
    (
        "lsf",
        1,
        BHIST.split("Sat Nov 28 11", maxsplit=1)[0] + "Sat Nov 28 11:00:01: Done successfully.\n",
        EndingKind.COMPLETED,
        0,
        "node1",
    ),
    ("htcondor", 0, condor(ExitCode=0), EndingKind.COMPLETED, 0, "node1"),
    ("htcondor", 0, condor(ExitBySignal=True, ExitSignal=9), EndingKind.FAILED, None, "node1"),
    (
        "htcondor",
        0,
        condor(JobStatus=3, RemoveReason="via condor_rm (by user anna)"),
        EndingKind.CANCELLED,
        None,
        "node1",
    ),
    (
        "htcondor",
        0,
        condor(
            JobStatus=3,
            RemoveReason="The job attribute PeriodicRemove expression evaluated to TRUE",
            RemoteWallClockTime=3605.0,
            QfarmWalltime=3600,
        ),
        EndingKind.TIMEOUT,
        None,
        "node1",
    ),
    (
        "htcondor",
        0,
        condor(
            JobStatus=3,
            RemoveReason="The job attribute PeriodicRemove expression evaluated to TRUE",
            RemoteWallClockTime=60.0,
            QfarmWalltime=3600,
        ),
        EndingKind.PREEMPTED,
        None,
        "node1",
    ),
    ("oar", 0, oar(state="Terminated", exit_code="0 (0,0,0)"), EndingKind.COMPLETED, 0, "n-3"),
    ("oar", 0, oar(state="Terminated", exit_code=768), EndingKind.FAILED, 3, "n-3"),
    (
        "oar",
        0,
        oar(state="Error", events=[{"type": "WALLTIME", "description": "[bipbip] walltime"}]),
        EndingKind.TIMEOUT,
        None,
        "n-3",
    ),
    (
        "oar",
        0,
        oar(state="Error", events=[{"type": "FRAG_JOB_REQUEST"}]),
        EndingKind.CANCELLED,
        None,
        "n-3",
    ),
    (
        "oar",
        0,
        oar(state="Error", events=[{"type": "BESTEFFORT_KILL"}]),
        EndingKind.PREEMPTED,
        None,
        "n-3",
    ),
]


@pytest.mark.parametrize(("scheduler", "way", "text", "kind", "code", "host"), ENDINGS)
def test_endings_are_read(
    scheduler: str, way: int, text: str, kind: EndingKind, code: int | None, host: str
) -> None:
    ending = dialect(scheduler).accounts[way].read(text)
    assert isinstance(ending, Ending)
    assert (ending.kind, ending.exit_code, ending.host) == (kind, code, host)
    assert ending.text


@pytest.mark.parametrize(
    ("scheduler", "way", "text"),
    [
        ("slurm", 0, SCONTROL.format("RUNNING", "None", "0:0")),
        ("slurm", 0, SCONTROL.format("COMPLETING", "None", "0:0")),
        ("slurm", 1, "JobIDRaw|State|ExitCode|NodeList\n"),
        ("slurm", 1, SACCT.format("9|RUNNING|0:0|c2")),
        ("pbs", 0, QSTAT_F),
        ("pbs", 0, "<Data><Job><Job_Id>4821</Job_Id></Job></Data>"),
        ("sge", 0, "error: job id 5 not found\n"),
        ("lsf", 0, lsf("301|RUN|-|node1|-")),
        ("lsf", 0, "Job <301> is not found\n"),
        ("lsf", 1, BHIST.split("Sat Nov 28 11", maxsplit=1)[0]),
        ("htcondor", 0, ""),
        ("oar", 0, oar(state="Running")),
    ],
)
def test_jobs_that_have_not_ended_have_no_ending(scheduler: str, way: int, text: str) -> None:
    assert dialect(scheduler).accounts[way].read(text) is None


@pytest.mark.parametrize(
    ("rows", "queue", "why"),
    [
        (["cpu*|up|idle", "gpu|up|idle"], "gpu", ""),
        (["cpu*|up|idle", "gpu|down|idle"], "gpu", "Slurm's partition gpu is down"),
        (["cpu*|down|idle", "gpu|up|idle"], "cpu,gpu", ""),
        (["cpu*|drain|idle"], None, "Slurm's default partition is drain"),
        (
            ["gpu|up|drained*", "gpu|up|down"],
            "gpu",
            "all nodes of Slurm's partition gpu are down or drained",
        ),
        (["gpu|up|drained", "gpu|up|allocated"], "gpu", ""),
        (["cpu*|up|idle~"], "gpu", "Slurm has no partition gpu; it has: cpu"),
    ],
)
def test_sinfo_says_whether_a_partition_takes_jobs(
    rows: list[str], queue: str | None, why: str
) -> None:
    text = "\n".join(["PARTITION|AVAIL|STATE", *rows])
    assert slurm.read_sinfo(text, Partition(scheduler="slurm", queue=queue)) == why


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission "
            "failed: Job violates accounting/QOS policy (job submit limit, user's size and/or "
            "time limits)",
            Limit.JOBS,
        ),
        ("sbatch: error: AssocMaxSubmitJobLimit", Limit.JOBS),
        ("qsub: would exceed queue generic's per-user limit", Limit.JOBS),
        ("job rejected: Only 5 jobs are allowed per user (current job count: 5)", Limit.JOBS),
        ("Requested time limit is invalid (missing or exceeds some limit)", Limit.WALLTIME),
        ("qsub: Job violates queue and/or server resource limits: walltime", Limit.WALLTIME),
        ("RUNLIMIT: Cannot exceed queue's hard limit(s). Job not submitted.", Limit.WALLTIME),
        ("Invalid account or account/partition combination specified", Limit.ACCOUNT),
        ("User cannot use the queue. Job not submitted.", Limit.ACCOUNT),
        ("invalid partition specified: nowhere", Limit.QUEUE),
        ("qsub: Unknown queue", Limit.QUEUE),
        ("nonsense: No such queue. Job not submitted.", Limit.QUEUE),
        ("Requested node configuration is not available", Limit.RESOURCES),
        ("Invalid generic resource (gres) specification", Limit.RESOURCES),
        ('Unable to run job: unknown resource "gpu".', Limit.RESOURCES),
        ("the moon is in the wrong phase", Limit.UNKNOWN),
    ],
)
def test_refusals_are_about_something(said: str, expected: Limit) -> None:
    assert limit(said) is expected
    assert not away(said)


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller",
        "squeue: error: slurm_load_jobs error: Socket timed out on send/recv operation",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        "Connection refused\nqstat: cannot connect to server pbs01 (errno=111)",
        "error: unable to send message to qmaster using port 6444 on host",
        "error: commlib error: got select error (Connection refused)",
        "LIM is down; try later",
        "ERROR: Can't find address of local schedd\nFailed to connect to local queue manager",
    ],
)
def test_a_scheduler_that_is_away_is_known_by_its_words(said: str) -> None:
    assert away(said)


@pytest.mark.parametrize(
    "said",
    [
        "slurm_load_jobs error: Invalid job id specified",
        "scancel: error: Kill job error on job id 3: Invalid job id specified",
        "Slurm accounting storage is disabled",
        "qdel: Unknown Job Id 4821.pbs01",
        "qdel: Job has finished",
        "error: job id 5 not found",
        'denied: job "77" does not exist',
        "Job <301>: Job has already finished",
        "Job <301>: No matching job found",
        "Couldn't find/remove all jobs matching constraint",
    ],
)
def test_jobs_that_are_gone_are_known_by_their_words(said: str) -> None:
    assert gone(said)
    assert not gone(f"{said}\nPermission denied")


def test_unknown_schedulers_are_named_with_the_known() -> None:
    with pytest.raises(NotFoundError, match="htcondor, local, lsf, oar, pbs, sge, slurm"):
        dialect("cron")


@pytest.mark.parametrize("scheduler", TABLE)
def test_every_scheduler_says_where_a_job_finds_its_id(scheduler: str) -> None:
    spoken = dialect(scheduler)
    assert spoken.name == scheduler
    assert spoken.job_variable.isupper()
