"""The tblite engine's pure side: what it refuses, its ladder, its trace reader, its failures."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qfarm.engines import engine
from qfarm.engines.base import Job
from qfarm.engines.tblite import METHODS, failures, trace
from qfarm.engines.tblite.settings import LADDER, GeometrySettings, SccSettings, temperature
from qfarm_schemas.config import TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.result import OptimisationStep, ScfIteration
from qfarm_schemas.units import HARTREE
from support import build

TBLITE = engine("tblite")
GFN2: dict[str, object] = {"engine": "tblite", "method": "GFN2-xTB", "dispersion": "intrinsic"}

LOG = """\
------------------------------------------------------------
  cycle        total energy    energy error   density error
------------------------------------------------------------
      1     -5.033909576115  -5.0654957E+00   2.4599843E-01
      2     -5.063097211358  -2.9187635E-02   1.1130581E-01
    113     -5.070010180472  -6.9129691E-03   3.0504438E-02
------------------------------------------------------------

 total:                                   0.001 sec
""".splitlines()


def level(**fields: object) -> LevelOfTheory:
    return LevelOfTheory.model_validate(GFN2 | fields)


def atom(number: int, **fields: object) -> Fragment:
    return Fragment.model_validate({"numbers": [number], "positions": [[0, 0, 0]], **fields})


def refusal(fragment: Fragment = build.WATER, /, **fields: Any) -> str | None:
    return TBLITE.refuse(fragment, level(**fields), TaskKind.SINGLE_POINT)


# refusals


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", list(TaskKind))
def test_water_is_taken(method: str, task: TaskKind) -> None:
    assert TBLITE.refuse(build.WATER, level(method=method), task) is None


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"method": "IPEA1-xTB"}, "GFN1-xTB"),
        ({"dispersion": "none"}, "intrinsic"),
        ({"dispersion": "mbd", "mbd_beta": 0.85}, "intrinsic"),
        ({"basis": "tight"}, "basis = 'none'"),
        ({"options": {"accuracy": 1.0}}, "electronic_temperature"),
    ],
)
def test_other_levels_are_refused_with_the_remedy(fields: dict[str, Any], word: str) -> None:
    assert word in (refusal(**fields) or "")


@pytest.mark.parametrize("kelvin", [0, -300.0, True, "300", float("inf"), float("nan")])
def test_impossible_temperatures_are_refused(kelvin: object) -> None:
    assert "kelvin" in (refusal(options={"electronic_temperature": kelvin}) or "")


@pytest.mark.parametrize("kelvin", [300, 1500.0])
def test_the_level_sets_the_temperature(kelvin: float) -> None:
    chosen = level(options={"electronic_temperature": kelvin})
    assert refusal(options=chosen.options) is None
    assert temperature(chosen) == kelvin


def test_the_default_temperature_keeps_its_value() -> None:
    """The id of a level hashes the option, not its default: old ids would name other numbers."""
    assert temperature(level()) == 300.0


def test_elements_end_at_radon() -> None:
    assert refusal(atom(86)) is None
    assert "87" in (refusal(atom(87, charge=1)) or "")


@given(number=st.integers(1, 86), charge=st.integers(-5, 90), multiplicity=st.integers(1, 90))
def test_only_possible_electron_counts_are_taken(
    number: int, charge: int, multiplicity: int
) -> None:
    electrons, unpaired = number - charge, multiplicity - 1
    possible = electrons > 0 and unpaired <= electrons and (electrons - unpaired) % 2 == 0
    reason = refusal(atom(number, charge=charge, multiplicity=multiplicity))
    assert (reason is None) == possible


@pytest.mark.parametrize(("charge", "word"), [(1, "even"), (10, "no electron")])
def test_a_refused_electron_count_says_what_is_wrong(charge: int, word: str) -> None:
    assert word in (refusal(build.WATER.model_copy(update={"charge": charge})) or "")


# the ladder


def test_every_rung_is_understood() -> None:
    scf = [SccSettings.model_validate(aid.settings) for aid in LADDER.scf]
    geometry = [GeometrySettings.model_validate(aid.settings) for aid in LADDER.geometry]
    assert scf[0] == SccSettings()
    assert geometry[0] == GeometrySettings()
    assert len({repr(one) for one in scf}) == len(scf)
    assert len({repr(one) for one in geometry}) == len(geometry)


def test_no_rung_is_less_accurate_than_the_first() -> None:
    assert {SccSettings.model_validate(aid.settings).accuracy for aid in LADDER.scf} == {0.001}


def test_a_typing_error_in_a_rung_is_refused() -> None:
    with pytest.raises(ValidationError):
        SccSettings.model_validate({"dampign": 0.1})


def test_the_job_is_the_only_input() -> None:
    job = Job(fragment=build.WATER, stage=build.stage(level=level()), scf={"damping": 0.1})
    assert [Job.model_validate_json(text) for text in TBLITE.write(job).values()] == [job]


# the trace


def test_the_trace_holds_energies_in_ev_and_their_changes() -> None:
    first, second, third = trace.read(LOG)
    assert first.energy == -5.033909576115 * HARTREE
    assert first.energy_change is None
    assert second.energy_change == second.energy - first.energy
    assert third.energy == -5.070010180472 * HARTREE
    assert third.density_change == 3.0504438e-2


def test_a_second_run_is_compared_with_the_first() -> None:
    steps = trace.read(LOG + LOG)
    assert len(steps) == 6
    assert steps[3].energy_change == steps[3].energy - steps[2].energy


@given(st.lists(st.text(max_size=70)))
def test_other_lines_are_passed_over(lines: list[str]) -> None:
    assert trace.read([line for line in lines if "." not in line]) == ()
    trace.read(lines)


# failures

STEPS = (
    OptimisationStep(energy=-10.0, max_force=2.0),
    OptimisationStep(energy=-10.5, max_force=0.1234567),
)
ITERATIONS = tuple(ScfIteration(energy=-1.0 - n) for n in range(400))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("SCF not converged in 250 cycles", FailureKind.SCF_NOT_CONVERGED),
        ("Too close interatomic distances found", FailureKind.BAD_GEOMETRY),
        ("(hsygvd) failed to solve eigenvalue problem", FailureKind.METHOD_FAILED),
    ],
)
def test_messages_of_tblite_are_told_apart(message: str, kind: FailureKind) -> None:
    failure = failures.of_tblite(message, ITERATIONS, 300.0)
    assert failure.kind is kind
    assert failure.evidence["message"] == message
    assert failure.remedy


def test_an_scc_failure_keeps_the_last_iterations() -> None:
    evidence = failures.not_converged("so it said", ITERATIONS, 300.0).evidence
    assert evidence["iterations"] == 400
    kept = evidence["scf_trace"]
    assert isinstance(kept, list)
    assert [ScfIteration.model_validate(one) for one in kept] == list(ITERATIONS[-failures.KEPT :])


def test_a_geometry_failure_keeps_every_step() -> None:
    failure = failures.not_relaxed(STEPS, 0.01, "bfgs")
    assert failure.kind is FailureKind.GEOMETRY_NOT_CONVERGED
    assert "1 steps of bfgs" in failure.cause
    assert failure.evidence["optimisation_trace"] == [
        {"energy": -10.0, "max_force": 2.0},
        {"energy": -10.5, "max_force": 0.123457},
    ]


def test_a_failure_on_the_way_climbs_the_ladder_it_belongs_to() -> None:
    scc = failures.not_converged("so it said", ITERATIONS, 300.0)
    close = failures.of_tblite("Too close interatomic distances found", (), 300.0)
    assert failures.during_optimisation(close, ()) == close
    assert failures.during_optimisation(scc, STEPS).kind is FailureKind.SCF_NOT_CONVERGED
    moved = failures.during_optimisation(close, STEPS)
    assert moved.kind is FailureKind.GEOMETRY_NOT_CONVERGED
    assert "after geometry step 1" in moved.cause
    assert moved.evidence["message"] == "Too close interatomic distances found"
    assert moved.evidence["steps"] == 1
