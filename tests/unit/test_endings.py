"""How programs end for reasons outside chemistry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.engines.base import Exit
from qfarm.engines.endings import ending
from qfarm_schemas.failure import FailureKind as Kind
from support.dftbplus_fixtures import EXPECTED, recording
from support.needs import shared_fixture

SAID = [
    ("slurmstepd: error: Detected 1 oom_kill event in StepId=1.batch.", Kind.OUT_OF_MEMORY),
    ("slurmstepd: error: Detected 1 oom-kill event(s) in step 5.0 cgroup.", Kind.OUT_OF_MEMORY),
    ("srun: error: n1: task 0: Out Of Memory", Kind.OUT_OF_MEMORY),
    ("terminate called after throwing an instance of 'std::bad_alloc'", Kind.OUT_OF_MEMORY),
    ("forrtl: severe (41): insufficient virtual memory", Kind.OUT_OF_MEMORY),
    ("Operating system error: Cannot allocate memory", Kind.OUT_OF_MEMORY),
    ("slurmstepd: error: Exceeded job memory limit", Kind.OUT_OF_MEMORY),
    ("qfarm: line 3: dftb+: command not found", Kind.ENGINE_MISSING),
    ("bash: line 1: exec: /apps/dftb+: No such file or directory", Kind.ENGINE_MISSING),
    ("env: 'dftb+': No such file or directory", Kind.ENGINE_MISSING),
    ("slurmstepd: error: execve(): dftb+: No such file or directory", Kind.ENGINE_MISSING),
    (
        "dftb+: error while loading shared libraries: libopenblas.so.0: cannot open shared object "
        "file: No such file or directory",
        Kind.ENGINE_MISSING,
    ),
    ("ERROR: Unable to locate a modulefile for 'dftbplus'", Kind.ENGINE_MISSING),
    (
        'Lmod has detected the following error:  The following module(s) are unknown: "dftb"',
        Kind.ENGINE_MISSING,
    ),
    ("Fortran runtime error: No space left on device", Kind.SCRATCH_FULL),
    ("write: Disk quota exceeded", Kind.SCRATCH_FULL),
    ("slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT", Kind.WALLTIME),
    ("slurmstepd: error: *** STEP 5.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***", Kind.WALLTIME),
]

CODES = [
    (127, Kind.ENGINE_MISSING),
    (126, Kind.ENGINE_MISSING),
    (-9, Kind.CRASHED),
    (137, Kind.CRASHED),
    (-15, Kind.WALLTIME),
    (143, Kind.WALLTIME),
    (-25, Kind.SCRATCH_FULL),
    (1, None),
    (-11, None),
    (0, None),
]


@pytest.mark.parametrize(("words", "kind"), SAID)
@pytest.mark.parametrize("name", ["stderr.txt", "stdout.txt", "slurm-17.out"])
def test_words_tell(words: str, kind: Kind, name: str) -> None:
    failure = ending({name: f"before\n{words}\nafter\n"}, Exit(1))
    assert failure is not None
    assert failure.kind is kind
    assert failure.evidence["message"] == f"{name}: {words}"
    assert words in failure.cause
    assert failure.remedy


@pytest.mark.parametrize(("code", "kind"), CODES)
def test_codes_tell(code: int, kind: Kind | None) -> None:
    failure = ending({"stdout.txt": "nothing of note"}, Exit(code))
    assert (failure and failure.kind) is kind


def test_words_count_more_than_codes_and_a_lack_of_memory_most() -> None:
    files = {
        "stderr.txt": "slurmstepd: error: *** JOB 5 CANCELLED AT 2026-01-01 ***",
        "slurm-5.out": "slurmstepd: error: Detected 1 oom_kill event in StepId=5.batch.",
    }
    failure = ending(files, Exit(-9))
    assert failure is not None
    assert failure.kind is Kind.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "words",
    [
        "srun: error: spank: x11.so: Plugin file not found",
        "SK file with generated name 'slako/P-P.skf' not found.",
        "STOP: input file: No such file or directory",
        "** Memory used: 5 MB",
    ],
)
def test_other_words_tell_nothing(words: str) -> None:
    assert ending({"stderr.txt": words, "results.tag": "CANCELLED AT"}, Exit(1)) is None


def test_a_program_that_failed_without_a_word_was_not_started() -> None:
    failure = ending({"stdout.txt": "\n", "stderr.txt": "ModuleCmd: no such module"}, Exit(1))
    assert failure is not None
    assert failure.kind is Kind.ENGINE_MISSING
    assert "prologue" in failure.remedy
    assert ending({"stdout.txt": "Invoking", "stderr.txt": ""}, Exit(1)) is None
    assert ending({"stdout.txt": ""}, Exit(0)) is None


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ("", None),
        (" DUE TO TIME LIMIT", Kind.WALLTIME),
        (" ***\n*** JOB 5 ON n1 CANCELLED AT 2026", Kind.WALLTIME),
    ],
)
def test_step_that_srun_cancels_because_a_rank_crashed_is_a_crash(
    end: str, kind: Kind | None
) -> None:
    words = (
        "srun: error: n1: task 3: Segmentation fault (core dumped)\n"
        f"slurmstepd: error: *** STEP 5.0 ON n1 CANCELLED AT 2026-01-01T00:00:00{end}\n"
        "srun: error: n1: tasks 0-2: Terminated\n"
    )
    failure = ending({"stderr.txt": words}, Exit(139))
    assert (failure and failure.kind) is kind


@pytest.mark.parametrize("name", ["killed_slurm_cancel_ABECAL", "killed_slurm_cancel_ANTCEN"])
def test_cancelled_batch_job(name: str) -> None:
    text = (shared_fixture("aims") / name / "slurm.out").read_text()
    failure = ending({"slurm.out": text}, Exit(1))
    assert failure is not None
    assert failure.kind is Kind.WALLTIME


@pytest.mark.parametrize("name", [name for name in EXPECTED if not name.startswith("kill_")])
def test_program_that_ends_by_itself_tells_nothing(name: str) -> None:
    case = recording(shared_fixture("dftbplus") / name)
    assert ending(case.files, case.ended) is None


@given(texts=st.dictionaries(st.text(), st.text()), code=st.integers())
def test_never_raises(texts: dict[str, str], code: int) -> None:
    ending(texts, Exit(code))
