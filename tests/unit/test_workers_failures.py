"""Failures that the worker finds: each says what was, with figures, and what to do."""

import errno
import os
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.engines import inprocess
from qfarm.engines.base import Command, PythonCall
from qfarm_schemas.attempt import Failure
from qfarm_schemas.check import Check
from qfarm_schemas.failure import Budget, FailureKind
from qfarm_workers import failures, supervisor
from qfarm_workers.process import Ended, Limits, Stopped

LIMITS = Limits(seconds=90, memory_mb=2000)
CALL = PythonCall("m")


def of_process(ended: Ended, program: PythonCall | Command = CALL, **files: str) -> Failure | None:
    named = {name.replace("_", "."): text for name, text in files.items()}
    return failures.of_process(ended, LIMITS, program, named)


@pytest.mark.parametrize(
    ("ended", "kind", "figure"),
    [
        (Ended(-9, 91.5, 90.0, stopped=Stopped.TIME), FailureKind.TIME_LIMIT, 91.5),
        (Ended(-9, 5, 4, 2345.6, stopped=Stopped.MEMORY), FailureKind.OUT_OF_MEMORY, 2346),
        (Ended(None, missing="Traceback\nImportError: no pyscf"), FailureKind.ENGINE_MISSING, None),
        (Ended(None), FailureKind.CRASHED, None),
        (Ended(supervisor.MISSING), FailureKind.ENGINE_MISSING, None),
        (Ended(supervisor.NO_MEMORY), FailureKind.OUT_OF_MEMORY, supervisor.NO_MEMORY),
        (Ended(supervisor.DISK_FULL), FailureKind.SCRATCH_FULL, supervisor.DISK_FULL),
    ],
)
def test_kinds(ended: Ended, kind: FailureKind, figure: float | None) -> None:
    failure = of_process(ended, stderr_txt="the last line\n")
    assert failure is not None
    assert failure.kind is kind
    assert failure.cause
    assert failure.remedy
    if figure is not None:
        assert figure in failure.evidence.values()


def test_a_limit_counts_although_the_exit_code_says_something_else() -> None:
    failure = of_process(Ended(supervisor.MISSING, stopped=Stopped.TIME))
    assert failure is not None
    assert failure.kind is FailureKind.TIME_LIMIT


@pytest.mark.parametrize("code", [supervisor.MISSING, supervisor.NO_MEMORY, supervisor.DISK_FULL])
def test_exit_codes_of_executables_mean_what_the_engine_says(code: int) -> None:
    assert of_process(Ended(code), Command(("aims.x",))) is None


@given(st.integers(-64, 255).filter(lambda code: code not in (69, 71, 74)))
def test_other_ends_are_left_to_the_engine(code: int) -> None:
    assert of_process(Ended(code)) is None


def test_the_missing_library_is_named_in_the_cause() -> None:
    failure = of_process(Ended(None, missing="Traceback\n  x\nImportError: libfoo.so.1\n"))
    assert failure is not None
    assert "libfoo.so.1" in failure.cause


def crash(kind: FailureKind = FailureKind.CRASHED) -> Failure:
    return Failure(kind=kind, cause="it crashed", evidence={"exit code": 1}, remedy="look")


def test_a_signal_is_named_and_sigkill_explained() -> None:
    refined = failures.refined(crash(), Ended(-signal.SIGKILL, peak_memory_mb=1234.4), {})
    assert refined.evidence == {"exit code": 1, "signal": "SIGKILL", "peak memory, MB": 1234}
    assert "out-of-memory killer" in refined.remedy
    segfault = failures.refined(crash(), Ended(-signal.SIGSEGV), {})
    assert segfault.evidence["signal"] == "SIGSEGV"
    assert segfault.remedy == "look"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_behind_a_crash(number: int) -> None:
    text = f"OSError: [Errno {number}] {os.strerror(number)}: 'x'"
    refined = failures.refined(crash(), Ended(1), {"stderr.txt": text})
    assert refined.kind is FailureKind.SCRATCH_FULL
    assert refined.evidence["stderr.txt"] == text


def test_what_the_engine_diagnosed_stays() -> None:
    diagnosed = crash(FailureKind.SCF_NOT_CONVERGED)
    files = {"stderr.txt": os.strerror(errno.ENOSPC)}
    assert failures.refined(diagnosed, Ended(-9), files) is diagnosed


DAY = Limits(seconds=3600.0, memory_mb=2000, walltime=True)


def test_what_a_whole_life_is_too_short_for_ends_the_stage() -> None:
    """Ten more lives of a day each would come no further."""
    final = Limits(seconds=3600.0, memory_mb=2000, walltime=True, final=True)
    killed = failures.of_process(Ended(-9, 3601.0, stopped=Stopped.TIME), final, None, {})
    assert killed is not None
    assert killed.kind is FailureKind.TIME_LIMIT
    assert "walltime" in killed.cause
    assert "Raise walltime of the partition" in killed.remedy


def test_the_end_of_the_walltime_is_not_the_stages_own_limit() -> None:
    killed = failures.of_process(Ended(-9, stopped=Stopped.TIME), DAY, CALL, {})
    assert killed is not None
    assert killed.kind is FailureKind.WALLTIME
    assert killed.kind.budget is Budget.INFRASTRUCTURE
    assert killed.evidence["walltime left, s"] == 3600
    assert "was killed" in killed.cause
    assert "3600 s" in killed.cause


@pytest.mark.parametrize(
    ("limits", "kind"), [(DAY, FailureKind.WALLTIME), (LIMITS, FailureKind.TIME_LIMIT)]
)
def test_what_was_left_undone_on_request_is_no_failure_of_the_chemistry(
    limits: Limits, kind: FailureKind
) -> None:
    check = Check(name="SCF", required="converged", found="not", passed=False)
    said = crash(FailureKind.SCF_NOT_CONVERGED).model_copy(update={"checks": (check,)})
    failure = failures.asked_to_stop(said, Ended(0, asked=True), limits)
    assert failure.kind is kind
    assert "asked to stop" in failure.cause
    assert failure.evidence["the engine said"] == "scf-not-converged: it crashed"
    assert failure.evidence["exit code"] == 1
    assert failure.checks == (check,)
    assert failures.asked_to_stop(said, Ended(0), limits) is said


@pytest.mark.parametrize(
    "kind", [FailureKind.START_UP, FailureKind.SCRATCH_FULL, FailureKind.OUT_OF_MEMORY]
)
def test_what_stopping_cannot_cause_stays(kind: FailureKind) -> None:
    said = crash(kind)
    assert failures.asked_to_stop(said, Ended(0, asked=True), DAY) is said


def test_a_lack_of_memory_says_how_many_ranks_shared_it() -> None:
    assert failures.with_ranks(crash(FailureKind.OUT_OF_MEMORY), 8).evidence["ranks"] == 8
    assert "ranks" not in failures.with_ranks(crash(), 8).evidence


def test_a_bug_of_ours_shows_its_traceback() -> None:
    try:
        raise KeyError("energy")
    except KeyError as error:
        failure = failures.of_our_code(error, "reading the output")
    assert failure.kind is FailureKind.CRASHED
    assert "KeyError" in failure.cause
    assert "test_workers_failures" in str(failure.evidence["traceback"])


def test_no_space_for_us_is_no_bug_of_ours() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert failures.of_our_code(error, "writing").kind is FailureKind.SCRATCH_FULL


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (failures.lost_worker, FailureKind.LOST_WORKER),
        (failures.interrupted, FailureKind.INTERRUPTED),
    ],
)
def test_lost_and_interrupted_cost_no_chemistry(make: Any, kind: FailureKind) -> None:
    failure = make("node7", 4711)
    assert failure.kind is kind
    assert failure.kind.budget is Budget.INFRASTRUCTURE
    assert failure.evidence == {"host": "node7", "pid": 4711}


def test_tails_are_short_and_not_empty() -> None:
    files = {"stdout.txt": "\n".join(map(str, range(100))), "stderr.txt": " \n", "other": "x"}
    tails = inprocess.tails(files)
    assert list(tails) == ["stdout.txt"]
    assert tails["stdout.txt"] == "\n".join(map(str, range(80, 100)))
