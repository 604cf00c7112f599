"""Who is to blame: every row of docs/adr/0015-blame.md, with texts of real programs."""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from qfarm.engines import engine
from qfarm.engines.base import Command, Exit, PythonCall
from qfarm.engines.endings import ending
from qfarm.ladder import RESUMABLE, GiveUp, Retry
from qfarm.store.protocol import Claim, Store
from qfarm.store.protocol import Ended as Committed
from qfarm_launchers.attribution import failure_of
from qfarm_launchers.reaper import Reaper
from qfarm_launchers.schedulers.base import Ending, EndingKind
from qfarm_schemas.attempt import Attempt, Failure, Worker
from qfarm_schemas.failure import Budget, FailureKind
from qfarm_workers import failures, supervisor
from qfarm_workers.identity import this_process
from qfarm_workers.process import Ended as ProcessEnded
from qfarm_workers.process import Limits, Stopped
from qfarm_workers.water import LEVELS
from support import build
from support.claims import claim
from support.engines import look_up

TABLE = Path(__file__).parents[2] / "docs" / "adr" / "0015-blame.md"

LIMITS = Limits(seconds=90.0, memory_mb=2000)
LIFE = Limits(seconds=90.0, memory_mb=2000, walltime=True)
CALL = PythonCall("m")
AIMS = LEVELS["aims"][0]


class Row(NamedTuple):
    number: int
    kinds: frozenset[str]
    budget: str


def rows() -> list[Row]:
    cells = (line.strip("| \n").split(" | ") for line in TABLE.read_text().splitlines())
    found = [cell for cell in cells if cell[0].isdecimal()]
    return [Row(int(cell[0]), frozenset(cell[2].split(", ")), cell[3]) for cell in found]


def of_program(code: int, *texts: str) -> list[Failure]:
    """What is made of a program that left a text, and of a library that left the same."""
    made = []
    for text in texts:
        files = {"stdout.txt": "it began\n", "stderr.txt": f"before\n{text}\nafter\n"}
        program = ending(files, Exit(code))
        library = failures.refined(crash(), ProcessEnded(code), files)
        assert program is not None, text
        assert program.kind is library.kind, text
        made += [program, library]
    return made


def of_code(*codes: int) -> list[Failure]:
    """What is made of a program that left no word."""
    made = [ending({"stdout.txt": "it began\n"}, Exit(code)) for code in codes]
    assert None not in made
    return [failure for failure in made if failure]


def of_worker(ended: ProcessEnded, limits: Limits = LIMITS) -> Failure:
    failure = failures.of_process(ended, limits, CALL, {"stderr.txt": "the last line"})
    assert failure is not None
    return failure


def crash(kind: FailureKind = FailureKind.CRASHED) -> Failure:
    return Failure(kind=kind, cause="it crashed", evidence={"exit code": 1}, remedy="look")


def lost(kind: str, state: str, slots: int = 1, **more: Any) -> Failure:
    return failure_of(build.WORKER, Ending(state, EndingKind(kind), **more), slots)


def told(left: float | None) -> Failure:
    return failures.job_ended("n1", 4711, left)


def with_job(left: float) -> list[Failure]:
    """An engine killed by the signal to the whole job; a supervisor; an engine that obeyed."""
    by_signal = failures.refined(crash(), ProcessEnded(-15), {})
    watcher = of_worker(ProcessEnded(None))
    obeyed = crash(FailureKind.SCF_NOT_CONVERGED)
    return [
        failures.ended_with_job(by_signal, ProcessEnded(-15), told(left)),
        failures.ended_with_job(watcher, ProcessEnded(None), told(left)),
        failures.ended_with_job(obeyed, ProcessEnded(0, asked=True), told(left)),
    ]


CASES: dict[int, Callable[[], Iterable[Failure]]] = {
    1: lambda: (build.failure(kind) for kind in FailureKind if kind.budget is Budget.CHEMISTRY),
    2: lambda: [
        *of_code(126, 127),
        *of_program(
            1,
            "bash: line 1: aims.x: command not found",
            "aims.x: error while loading shared libraries: libmkl_intel_lp64.so.2: cannot open "
            "shared object file: No such file or directory",
            "slurmstepd: error: execve(): aims.x: No such file or directory",
            "bash: /apps/aims.x: cannot execute binary file: Exec format error",
            "Lmod has detected the following error:  The following module(s) are unknown: aims",
        ),
        of_worker(ProcessEnded(supervisor.MISSING)),
        of_worker(ProcessEnded(None, missing="ImportError: libxc.so.9: no such file")),
    ],
    3: lambda: [
        *of_code(-4, 132),
        *of_program(
            1,
            "mpiexec noticed that process rank 0 with PID 0 on node n1 exited on signal 4 "
            "(Illegal instruction).",
            "srun: error: n1: task 0: Illegal instruction (core dumped)",
            "forrtl: severe (168): Program Exception - illegal instruction",
            "Please verify that both the operating system and the processor support Intel(R) "
            "AVX512F, AVX512DQ, AVX512CD, AVX512BW and AVX512VL instructions.",
            "Fatal Error: This program was not built to run on the processor in your system.",
        ),
        failures.refined(crash(), ProcessEnded(-4), {}),
    ],
    4: lambda: of_program(
        1,
        "cupy_backends.cuda.api.runtime.CUDARuntimeError: cudaErrorNoDevice: no CUDA-capable "
        "device is detected",
        "CUDA Error CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected while calling init",
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
        "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
        "cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable",
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.",
    ),
    5: lambda: of_program(
        1,
        "ifort: error #10052: could not checkout FLEXlm license",
        "License checkout failed.",
        "FlexNet Licensing error:-15,10032",
        "A connection to the license server could not be made.  You should",
    ),
    6: lambda: of_program(
        1,
        "srun: error: Unable to create step for job 42: Requested node configuration is not "
        "available",
        "srun: error: Task launch for StepId=34.0 failed on node n4: Socket timed out on send/recv "
        "operation",
        "srun: error: Application launch failed: Unable to layout tasks on given cpus",
        "srun: error: task 1 launch failed: Slurmd could not execve job",
        "ORTE was unable to reliably start one or more daemons.",
        "An PRTE daemon has unexpectedly failed after launch and before",
        "PMI2_Init failed to intialize.  Return code: 1",
        "but OMPI was not built with SLURM's PMI support and therefore cannot",
        "It looks like MPI runtime init failed for some reason; your parallel process is",
        "MPI_Init_thread(argc=(nil), argv=(nil), required=3, provided=0x7fff3aff24d4) failed",
        "Abort(204069007): Fatal error in internal_Init_thread: Other MPI error, error stack:",
        "Fatal error in PMPI_Init_thread: Other MPI error, error stack:",
    ),
    7: lambda: of_program(
        1,
        "jcuda.CudaException: CUDA_ERROR_OUT_OF_MEMORY",
        "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 8,589,934,592 bytes",
        "RuntimeError: CUDA error: out of memory",
        "cudaErrorMemoryAllocation: out of memory",
    ),
    8: lambda: [
        *of_program(
            -9,
            "slurmstepd: error: Detected 1 oom_kill event in StepId=12.batch. Some of the step "
            "tasks have been OOM Killed.",
            "slurmstepd: error: Detected 1 oom-kill event(s) in step 5.0 cgroup. Some of your "
            "processes may have been killed by the cgroup out-of-memory handler.",
            "Memory cgroup out of memory: Killed process 4711 (aims.x)",
            "terminate called after throwing an instance of 'std::bad_alloc'",
            "OSError: [Errno 12] Cannot allocate memory",
            "=>> PBS: job killed: mem 34567890kb exceeded limit 33554432kb",
            "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.",
        ),
        of_worker(ProcessEnded(supervisor.NO_MEMORY)),
    ],
    9: lambda: [of_worker(ProcessEnded(-9, 5, 4, 2345.6, stopped=Stopped.MEMORY))],
    10: lambda: [*of_code(-9, 137), failures.refined(crash(), ProcessEnded(-9), {})],
    11: lambda: [
        failures.refined(crash(), ProcessEnded(-11), {}),
        failures.refined(crash(), ProcessEnded(1), {"stderr.txt": "it is not well"}),
    ],
    12: lambda: [*of_code(-7, 135), failures.refined(crash(), ProcessEnded(-7), {})],
    13: lambda: [
        failures.of_our_code(OSError(errno.ESTALE, os.strerror(errno.ESTALE)), "writing the input"),
        *of_program(
            1,
            "OSError: [Errno 116] Stale file handle",
            "cannot open output file: Stale NFS file handle",
            "OSError: [Errno 5] Input/output error: '/scratch/job.json'",
            "OSError: [Errno 30] Read-only file system: '/scratch/f1'",
            "forrtl: Transport endpoint is not connected",
        ),
    ],
    14: lambda: [
        *of_code(-25, 153),
        *of_program(
            1, "Fortran runtime error: No space left on device", "write: Disk quota exceeded"
        ),
        of_worker(ProcessEnded(supervisor.DISK_FULL)),
    ],
    15: lambda: [of_worker(ProcessEnded(None))],
    16: lambda: [failures.refined(crash(FailureKind.BAD_OUTPUT), ProcessEnded(0), {})],
    17: lambda: [of_worker(ProcessEnded(-9, 91.0, stopped=Stopped.TIME))],
    18: lambda: [of_worker(ProcessEnded(-9, 91.0, stopped=Stopped.TIME), LIFE)],
    19: lambda: [
        *of_code(-15, 143, -24, 152),
        *of_program(
            -9,
            "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT",
            "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION",
            "srun: error: Node failure on n1",
            "srun: error: Unable to create step for job 42: Job/step already completing or "
            "completed",
            "=>> PBS: job killed: walltime 3641 exceeded limit 3600",
            "TERM_RUNLIMIT: job killed after reaching LSF run time limit.",
        ),
        failures.refined(crash(), ProcessEnded(-15), {}),
    ],
    20: lambda: [told(None), told(0.0), told(failures.NEAR_SECONDS)],
    21: lambda: [told(failures.NEAR_SECONDS + 1)],
    22: lambda: [*with_job(10.0), *with_job(10_000.0)],
    23: lambda: [lost("timeout", "TIMEOUT")],
    24: lambda: [lost("out-of-memory", "OUT_OF_MEMORY")],
    25: lambda: [lost("out-of-memory", "OUT_OF_MEMORY", slots=2)],
    26: lambda: [lost("node-failure", "NODE_FAIL")],
    27: lambda: [lost("cancelled", "CANCELLED by 1000"), lost("preempted", "PREEMPTED")],
    28: lambda: [
        lost("failed", "FAILED", exit_code=1),
        lost("completed", "COMPLETED"),
        lost("unknown", ""),
        failures.lost_worker("n1", 4711),
    ],
    29: lambda: [failures.interrupted("n1", 4711)],
    30: lambda: of_program(
        1,
        "srun: error: slurm_receive_msgs: [[n4]:6818] failed: Socket timed out on send/recv "
        "operation",
        "srun: error: task 1 launch failed: Communication connection failure",
        "ORTE has lost communication with a remote daemon.",
        "PRTE has lost communication with a remote daemon.",
    ),
}


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row.number))
def test_every_row_of_the_table(row: Row) -> None:
    made = list(CASES[row.number]())
    assert {failure.kind.value for failure in made} == row.kinds
    assert {failure.kind.budget.value for failure in made} == {row.budget}
    assert all(failure.cause and failure.remedy for failure in made)


def test_the_table_and_its_cases_are_complete() -> None:
    assert [row.number for row in rows()] == sorted(CASES)
    assert frozenset().union(*(row.kinds for row in rows())) == {kind.value for kind in FailureKind}


@pytest.mark.parametrize("number", [18, 20, 21, 22])
def test_what_the_end_of_a_job_cut_off_goes_on_from_restart_files(number: int) -> None:
    assert all(failure.kind in RESUMABLE for failure in CASES[number]())


def test_who_finished_in_order_may_have_warned_of_anything() -> None:
    files = {"stderr.txt": "slow disk: Input/output error, tried again"}
    failure = crash(FailureKind.BAD_OUTPUT)
    assert failures.refined(failure, ProcessEnded(0), files) is failure


def test_a_real_failure_in_the_moment_of_the_signal_stays() -> None:
    """An SCF that failed by itself failed, whatever became of the job."""
    for kind in (FailureKind.SCF_NOT_CONVERGED, FailureKind.OUT_OF_MEMORY):
        failure = crash(kind)
        assert failures.ended_with_job(failure, ProcessEnded(1), told(None)) is failure
    assert failures.ended_with_job(crash(), ProcessEnded(1), None) == crash()


def test_what_the_engine_said_is_kept() -> None:
    made = failures.ended_with_job(crash(), ProcessEnded(-15), told(12.0))
    assert made.evidence["the engine said"] == "crashed: it crashed"
    assert made.evidence["exit code"] == 1
    assert made.evidence["walltime left, s"] == 12.0
    late = failures.asked_to_stop(made, ProcessEnded(0, asked=True), LIMITS)
    assert late is made  # and no time limit of the stage


def test_the_schedulers_words_stand_in_the_evidence() -> None:
    failure = lost("node-failure", "NODE_FAIL", exit_code=0, text="node n1 not responding")
    assert failure.evidence == {
        "host": "node1",
        "pid": 4711,
        "the scheduler says": "NODE_FAIL",
        "exit code of the job": 0,
        "its words": "node n1 not responding",
    }
    assert "exit code of the job" not in lost("cancelled", "CANCELLED").evidence
    assert "job_memory_mb" in lost("out-of-memory", "OUT_OF_MEMORY").remedy
    assert "calls its batch job FAILED" in lost("failed", "FAILED").cause


def test_every_kind_of_ending_is_known() -> None:
    made = {kind: lost(kind, "STATE").kind for kind in EndingKind}
    assert made[EndingKind.TIMEOUT] is FailureKind.WALLTIME
    assert len(made) == len(EndingKind)


class Graves:
    """One claim to take over; `ended` is what was committed of it."""

    def __init__(self, lost: Claim) -> None:
        self.lost = lost
        self.ended: list[Committed] = []

    def take_over(self, *arguments: Any) -> Sequence[Claim]:
        return [self.lost]

    def commit_many(self, ended: Sequence[Committed]) -> tuple[bool, ...]:
        self.ended += ended
        return (True,) * len(ended)


def reaped(**fields: Any) -> Attempt:
    reaper = Reaper(cast(Store, Graves(claim())), this_process("me"), look_up, 10, **fields)
    (made,) = reaper.reap(lambda _: True)
    return made


def kind_of(made: Attempt) -> FailureKind:
    assert isinstance(made.outcome, Failure)
    return made.outcome.kind


def test_the_reaper_asks_how_the_job_ended() -> None:
    asked: list[Worker] = []

    def ending_of(worker: Worker) -> Ending:
        asked.append(worker)
        return Ending("OUT_OF_MEMORY", EndingKind.OUT_OF_MEMORY)

    assert kind_of(reaped(ending_of=ending_of)) is FailureKind.OUT_OF_MEMORY
    assert asked == [build.WORKER]
    shared = reaped(ending_of=ending_of, slots_of=lambda _: 4)
    assert kind_of(shared) is FailureKind.LOST_WORKER


def out_of_memory(history: tuple[Attempt, ...] = (), **fields: Any) -> Committed:
    """What is committed of an attempt of FHI-aims when the scheduler says so of its job."""
    number = len(history) + 1
    graves = Graves(claim(stage=build.stage(level=AIMS), history=history, number=number))
    told = Ending("OUT_OF_MEMORY", EndingKind.OUT_OF_MEMORY)
    fields["ending_of"] = lambda _: told
    Reaper(cast(Store, graves), this_process("me"), engine, 10, **fields).reap(lambda _: True)
    (made,) = graves.ended
    return made


def test_fewer_ranks_are_tried_whoever_tells_of_the_memory() -> None:
    """The scheduler, as the worker of the attempt does; with nothing to spare it is the end."""
    asked: list[tuple[Worker, str]] = []

    def ranks_of(worker: Worker, name: str) -> int:
        asked.append((worker, name))
        return 4

    history: tuple[Attempt, ...] = ()
    rungs, ranks = [], []
    for _ in range(3):
        ended = out_of_memory(history, ranks_of=ranks_of)
        assert isinstance(ended.attempt.outcome, Failure)
        ranks.append(ended.attempt.outcome.evidence["ranks"])
        rungs.append(ended.decision.rung.memory if isinstance(ended.decision, Retry) else "")
        history += (ended.attempt,)
    assert (rungs, ranks) == (["half-ranks", "quarter-ranks", ""], [4, 2, 1])
    assert asked == [(build.WORKER, "aims")] * 3
    assert isinstance(out_of_memory().decision, GiveUp)


def test_without_an_account_the_worker_is_lost() -> None:
    assert kind_of(reaped()) is FailureKind.LOST_WORKER
    assert kind_of(reaped(ending_of=lambda _: None)) is FailureKind.LOST_WORKER


def test_a_sick_file_system_is_no_error_of_qfarm() -> None:
    failure = failures.of_our_code(OSError(errno.EIO, "Input/output error"), "writing")
    assert "file system of the node" in failure.cause
    assert "report" not in failure.remedy


def test_programs_and_libraries_are_judged_alike() -> None:
    """What a library's child leaves as its exit code means nothing for a program."""
    command = Command(("aims.x",))
    assert failures.of_process(ProcessEnded(supervisor.MISSING), LIMITS, command, {}) is None
