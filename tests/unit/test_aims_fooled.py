"""FHI-aims: outputs whose numbers contradict each other or are an earlier state's are refused."""

import re
from dataclasses import replace

import pytest

from qfarm.engines.aims.output import properties
from qfarm.engines.aims.parse import parse
from qfarm.verdict import Subject, judge, outcome
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import Thresholds
from qfarm_schemas.result import Convergence
from support import aims_fixtures
from support.aims_fixtures import stage
from support.recorded import Recorded

LIMITS = Thresholds(energy=1e-5, eigenvalues=1e-3, density=1e-5, forces=None)


def waters(limits: Thresholds = LIMITS) -> Recorded:
    record = aims_fixtures.completed()[0]
    level = record.job.level.model_copy(update={"thresholds": limits})
    return replace(record, job=record.job.model_copy(update={"stage": stage(level)}))


def h4() -> Recorded:
    return aims_fixtures.completed()[1]


def printing(record: Recorded, text: str) -> Recorded:
    assert text != record.files["stdout.txt"]
    return replace(record, files={"stdout.txt": text})


def verdict(record: Recorded) -> Success | Failure:
    found = parse(record.job, record.files, record.ended)
    if isinstance(found, Failure):
        return found
    return outcome(judge(Subject(found, record.job.stage, record.job.fragment)))


def missed(record: Recorded) -> str:
    """Name of the first check missed."""
    checks = parse(record.job, record.files, record.ended).checks
    return next(check.name for check in checks if not check.passed)


def convergence(record: Recorded) -> Convergence:
    assert isinstance(verdict(record), Success), verdict(record)
    found = parse(record.job, record.files, record.ended)
    assert not isinstance(found, Failure)
    return found.convergence


@pytest.mark.parametrize("twice", [False, True])
def test_a_damaged_force_or_a_second_table_is_refused(twice: bool) -> None:
    head, table, tail = waters().files["stdout.txt"].partition(properties.FORCES)
    damaged = f"\n{table}{tail}" if twice else re.sub(r"E-0\d", "E+00", tail, count=1)
    assert missed(printing(waters(), head + table + damaged)) == "net force"


def test_a_total_without_the_dispersion_is_refused() -> None:
    without = f"{-63.48402643916640 + 0.00897199:.12f}"
    text = h4().files["stdout.txt"].replace("-0.634840264391664E+02", without)
    assert missed(printing(h4(), text)) == "total energy in the last table"


def test_changes_of_an_earlier_iteration_do_not_stand_for_the_last() -> None:
    assert isinstance(verdict(waters()), Success)
    head, _, tail = waters().files["stdout.txt"].rpartition("Self-consistency convergence acc")
    found = verdict(printing(waters(), f"{head}Self-{tail}"))
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.THRESHOLD_MISSED


def test_a_compact_table_does_not_replace_the_iterations() -> None:
    table = "  Convergence:  q app. |\n  SCF  1 : 0.1 | 1E-9 | 1E-9 | 1E-9 | . | 10.0 s\n"
    begin = "          Begin self"
    text = waters().files["stdout.txt"].replace(begin, table + begin, 1)
    assert convergence(printing(waters(), text)) == convergence(waters())


@pytest.mark.parametrize("said", ["Application 42 resources: utime ~4s", "-----\n\n \n"])
def test_what_a_launcher_adds_is_no_fault(said: str) -> None:
    text = waters().files["stdout.txt"] + said
    assert isinstance(verdict(printing(waters(), text)), Success)


def test_a_run_that_goes_on_after_its_farewell_is_no_end() -> None:
    for said in ("  | Total energy : 1 Ha", "MPI_ABORT was invoked", "words\n" * 21):
        text = waters().files["stdout.txt"] + said
        assert missed(printing(waters(), text)) == "end of the output"


@pytest.mark.parametrize("field", ["energy", "eigenvalues", "density"])
@pytest.mark.parametrize(("share", "good"), [(1.0, True), (0.999, False)])
def test_a_change_of_exactly_the_threshold_is_within_it(
    field: str, share: float, good: bool
) -> None:
    reached = getattr(convergence(waters()), field)
    limits = LIMITS.model_copy(update={field: share * reached})
    assert isinstance(verdict(waters(limits)), Success) is good
