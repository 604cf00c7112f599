"""Every recorded run of DFTB+ must be accepted or refused for the right reason."""

import numpy as np
import pytest

from qfarm.engines.dftbplus import ENGINE
from qfarm.verdict import Subject, judge, outcome
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.result import Result
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE
from support.dftbplus_fixtures import CHOSEN, EXPECTED, chosen, recording
from support.needs import shared_fixture
from support.recorded import Recorded

ACCEPTED = [name for name, (kind, _) in EXPECTED.items() if kind is None]
HERE = sorted(folder.name for folder in CHOSEN.iterdir() if folder.is_dir())


def verdict(case: Recorded) -> Success | Failure:
    found = ENGINE.parse(case.job, case.files, case.ended)
    if isinstance(found, Failure):
        return found
    return outcome(judge(Subject(found, case.job.stage, case.job.fragment)))


def accepted(case: Recorded) -> Result:
    assert verdict(case) == Success(), case.why
    found = ENGINE.parse(case.job, case.files, case.ended)
    assert isinstance(found, Result)
    return found


def assert_verdict(case: Recorded) -> None:
    found = verdict(case)
    kind = found.kind if isinstance(found, Failure) else None
    assert kind == case.kind, f"{case.why}; found {found}"
    if isinstance(found, Failure):
        assert found.remedy
        assert found.cause


@pytest.mark.parametrize("name", HERE)
def test_verdict_on_a_recording_of_the_repository(name: str) -> None:
    assert_verdict(chosen(name))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_verdict_on_every_recording(name: str) -> None:
    assert_verdict(recording(shared_fixture("dftbplus") / name))


@pytest.mark.parametrize("name", ACCEPTED)
def test_numbers_are_the_recorded_ones(name: str) -> None:
    case = recording(shared_fixture("dftbplus") / name)
    result = accepted(case)
    assert result.energy == pytest.approx(case.energy, abs=1e-9)
    np.testing.assert_allclose(result.forces, case.forces, rtol=0, atol=1e-12)
    assert sum(result.energy_parts.values()) == pytest.approx(case.energy, abs=1e-9)
    assert result.charges["mulliken"].sum() == pytest.approx(case.job.fragment.charge, abs=1e-8)
    assert np.array_equal(result.numbers, case.job.fragment.numbers)
    assert result.geometry_converged is (True if "_opt" in name else None)


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "nombd" not in name])
def test_dispersion_is_what_qfarm_computes_from_the_populations(name: str) -> None:
    result = accepted(recording(shared_fixture("dftbplus") / name))
    check = next(check for check in result.checks if check.name == "MBD self-check")
    assert float(check.found.split()[0]) < 2e-10


def test_water_dimer_in_numbers() -> None:
    """All printed by the program, read here from detailed.out by eye."""
    result = accepted(chosen("water2_sp"))
    assert result.energy == pytest.approx(-8.15015379104731 * DFTBPLUS_HARTREE, abs=1e-12)
    assert result.energy_parts["MBD"] == pytest.approx(-0.0009789523 * DFTBPLUS_HARTREE, abs=1e-12)
    unit = DFTBPLUS_HARTREE / DFTBPLUS_BOHR
    second = [-0.006313340425, -0.001029995916, 0.0]
    np.testing.assert_allclose(result.forces[1], np.array(second) * unit, atol=1e-10)
    charges = [-0.75070204, 0.35721109, 0.37693007, -0.71497681, 0.36576884, 0.36576884]
    np.testing.assert_allclose(result.charges["mulliken"], charges, atol=1e-8)
    assert result.homo == pytest.approx(-0.274097777502517 * DFTBPLUS_HARTREE, abs=1e-12)
    assert result.lumo == pytest.approx(0.370547852818539 * DFTBPLUS_HARTREE, abs=1e-12)
    dipole = np.array([0.96560836, 0.03890403, 0.0]) * DFTBPLUS_BOHR
    np.testing.assert_allclose(result.dipole, dipole, atol=1e-8)  # neutral: any origin
    assert result.hirshfeld_ratios is None
    assert result.engine_version == "DFTB+ 25.1 (3ob-3-1 0123456789ab)"
    assert len(result.scf_trace) == 10
    assert result.scf_trace[-1].energy == pytest.approx(result.energy, abs=1e-5)
    steps = np.diff([row.energy for row in result.scf_trace])
    changes = [row.energy_change for row in result.scf_trace]
    assert (changes[0], changes[-1]) == (None, None)
    np.testing.assert_allclose(changes[1:-1], steps[:-1], atol=5e-6)  # printed to 1e-7 Ha
    assert result.convergence.energy == pytest.approx(0.53290705e-14 * DFTBPLUS_HARTREE)
    assert result.convergence.density == pytest.approx(0.48884452e-10)
    assert result.convergence.eigenvalues is None
    assert result.convergence.forces is None


def test_dipole_of_an_ion_is_about_its_centre_of_nuclear_charge() -> None:
    result = accepted(chosen("na_water4_sp"))
    weights = result.numbers / result.numbers.sum()
    shifted = result.positions - weights @ result.positions
    own = result.charges["mulliken"] @ shifted
    np.testing.assert_allclose(result.dipole, own, atol=1e-12)
    assert result.charges["mulliken"].sum() == pytest.approx(1.0)
    assert any("Na+" in note for note in result.notes)


def test_optimisation_gives_the_last_geometry_and_every_step() -> None:
    case = chosen("water2_opt_lbfgs_new")
    result = accepted(case)
    assert result.positions[0] == pytest.approx([-1.571524242, -0.08272851745, 0.0], abs=1e-9)
    assert len(result.optimisation_trace) == 33
    assert result.optimisation_trace[-1].energy == pytest.approx(result.energy, abs=1e-8)
    largest = np.linalg.norm(result.forces, axis=1).max()
    assert result.optimisation_trace[-1].max_force == pytest.approx(largest)


def test_force_of_a_step_is_bounded_from_above() -> None:
    """Step 0 of the optimisation is the single point, whose forces are known."""
    step = accepted(chosen("water2_opt_lbfgs_new")).optimisation_trace[0]
    point = accepted(chosen("water2_sp"))
    largest = float(np.linalg.norm(point.forces, axis=1).max())
    assert step.energy == pytest.approx(point.energy, abs=1e-8)
    assert largest <= step.max_force <= np.sqrt(3) * largest


def test_failure_shows_the_traces() -> None:
    failure = verdict(chosen("scc_fail_strict"))
    assert isinstance(failure, Failure)
    trace = failure.evidence["scf_trace"]
    assert isinstance(trace, list)
    assert len(trace) == 2
    assert failure.evidence["exit code"] == 1
    assert "maximal SCC iterations exceeded" in failure.cause


def test_older_results_are_never_read() -> None:
    """Even when the message of the run is lost: exit code and stale files are enough."""
    case = chosen("missing_skf_stale")
    whole = chosen("water2_sp").files
    files = {**case.files, "stdout.txt": whole["stdout.txt"]}
    found = ENGINE.parse(case.job, files, case.ended)
    assert isinstance(found, Failure)
    assert [check.name for check in found.checks if not check.passed] == [
        "exit code",
        "fresh folder",
    ]
