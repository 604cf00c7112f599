"""Readers of the DFTB+ engine, each on its own: units of what they hold, and what they refuse."""

import numpy as np
import pytest

from qfarm.engines.base import Exit
from qfarm.engines.dftbplus import ENGINE, checks, detailed, gen, messages, stdout, tags
from qfarm.engines.dftbplus.parameters import ELEMENTS, orbitals, valence
from qfarm.engines.dftbplus.stdout import Iteration, energy_change
from qfarm_schemas.attempt import Failure
from qfarm_schemas.elements import NUMBERS
from qfarm_schemas.failure import FailureKind as Kind
from qfarm_schemas.result import Result
from support.dftbplus_fixtures import chosen

ROWS = (
    Iteration(-8.2683912, 0.0, 0.6),
    Iteration(-8.2689078, -8.2683912, 0.03),
    Iteration(-8.2689077, -0.5166e-3, 0.007),
)


@pytest.mark.parametrize(
    ("iterations", "change"),
    [
        ((), None),
        ((Iteration(-3.9, 0.0, 2e-9),), None),
        ((Iteration(-3.9, 0.0, 0.0),), 0.0),
        (ROWS[:2], 5.166e-4 + 1e-7),
        (ROWS, 0.5166e-3),
    ],
    ids=["none", "one", "one, charges unchanged", "two", "three"],
)
def test_energy_change_is_never_that_against_no_energy(
    iterations: tuple[Iteration, ...], change: float | None
) -> None:
    assert energy_change(iterations) == (change if change is None else pytest.approx(change))


def test_printed_change_is_one_iteration_late() -> None:
    """Why two iterations do not do: the program prints E(n-1) - E(n-2) beside iteration n."""
    rows = stdout.read(chosen("water2_sp").files["stdout.txt"]).steps[0].iterations
    energies = np.array([row.energy for row in rows])
    printed = np.array([row.change for row in rows])
    np.testing.assert_allclose(printed[2:], np.diff(energies)[:-1], atol=2e-7)
    assert printed[1] == rows[0].energy


def test_rounding_grows_with_the_size_of_the_energy() -> None:
    large = (Iteration(-198.05008, 0.0, 1e-6), Iteration(-198.05008, -3e-5, 1e-9))
    assert energy_change(large) == pytest.approx(1e-5)


def test_stdout_of_an_optimisation() -> None:
    said = stdout.read(chosen("water2_opt_lbfgs_new").files["stdout.txt"])
    assert (said.release, said.parser, said.error, said.ignored) == ("25.1", "14", "", "")
    assert said.ended
    assert said.geometry_converged
    assert [len(step.iterations) for step in said.steps[:4]] == [10, 7, 8, 6]
    assert said.steps[1].gradient == 6.1886071e-3
    assert said.steps[1].norm == 1.4609283e-2
    assert said.steps[-1].energy == -8.1514398956


def test_message_is_read_whole() -> None:
    said = stdout.read(chosen("missing_skf").files["stdout.txt"])
    assert said.error.startswith("SK file with generated name '/opt/slako/3ob_noP/P-P.skf' not")
    assert "Line: 32-36" in said.error


@pytest.mark.parametrize(
    ("message", "steps", "kind"),
    [
        ("CDM Hamiltonian has 3 negative eigenvalues", 0, Kind.METHOD_FAILED),
        ("CDM Hamiltonian has 3 negative eigenvalues", 4, Kind.GEOMETRY_NOT_CONVERGED),
        ("Screening leads to negative polarizability", 0, Kind.METHOD_FAILED),
        ("SCC is NOT converged, maximal SCC iterations exceeded", 4, Kind.SCF_NOT_CONVERGED),
        ("SK file with generated name\n 'slako/P-P.skf' not found.", 0, Kind.ENGINE_MISSING),
        ("Missing child: KGrid\nPath: dftbplusinput/Hamiltonian", 0, Kind.BAD_OUTPUT),
        ("Invalid parser version (14)\nPath: dftbplusinput/Parser", 0, Kind.ENGINE_MISSING),
        (
            "Program must be compiled with the mbd library for MBD-dispersion\n"
            "Path: dftbplusinput/Hamiltonian/DFTB/Dispersion",
            0,
            Kind.ENGINE_MISSING,
        ),
        ("Atoms 1 and 2 are too close together", 0, Kind.BAD_GEOMETRY),
        ("Something never seen", 0, Kind.CRASHED),
    ],
)
def test_meaning_of_messages(message: str, steps: int, kind: Kind) -> None:
    meaning = messages.meaning(message, steps)
    assert meaning.kind is kind
    assert meaning.remedy


def test_segmentation_fault_is_retried_and_names_both_reasons() -> None:
    case = chosen("mbd_beta_small")
    failure = ENGINE.parse(case.job, case.files, case.ended)
    assert isinstance(failure, Failure)
    assert failure.kind.budget.value == "node"
    assert "ulimit -s unlimited" in failure.remedy
    assert "mbd_beta" in failure.remedy


def test_killed_from_outside_is_told_from_a_crash() -> None:
    case = chosen("missing_skf")
    failure = ENGINE.parse(case.job, {"stderr.txt": "bash: dftb+: command not found"}, Exit(127))
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.ENGINE_MISSING
    assert failure.checks


def test_tags_are_read_in_the_order_of_the_file() -> None:
    text = (
        "count               :integer:0:\n 3\n"
        "forces              :real:2:3,2\n"
        "  0.100000000000000E+001 -0.200000000000000E+001  0.300000000000000E+001\n"
        "  0.400000000000000E+001  0.500000000000000E+001  0.600000000000000E-001\n"
    )
    forces = tags.vectors(tags.read(text), "forces", 2)
    np.testing.assert_array_equal(forces, [[1.0, -2.0, 3.0], [4.0, 5.0, 0.06]])
    assert tags.vectors(tags.read(text), "forces", 3) is None
    assert tags.read(text[:-3]) == {}
    assert tags.read(text.replace("3,2", "3,3")) == {}


def test_details_of_a_water_dimer() -> None:
    details = detailed.read(chosen("water2_sp").files["detailed.out"])
    assert details.energies[detailed.DISPERSION] == -0.0009789523
    assert details.energies[detailed.TOTAL] == -8.1501537910
    assert details.populations[0] == 6.16344057
    assert details.hybridisation[1] == 0.62629390
    assert details.forces.shape == (6, 3)
    assert details.scc_converged
    assert details.ended


CONDA = "development version (commit: a23bfb2)"
"""What the package of 25.1 on conda-forge calls itself."""


@pytest.mark.parametrize(
    ("old", "new", "accepted"),
    [
        ("DFTB+ release 25.1", f"DFTB+ {CONDA}", True),
        ("Parser version: 14", "Parser version: 15", True),
        ("Parser version: 14", "Parser version: 13", False),
        ("DFTB+ release 25.1", "", False),
    ],
    ids=["checkout", "newer", "older", "nameless"],
)
def test_which_programs_are_believed(old: str, new: str, accepted: bool) -> None:
    """A program prints the newest syntax that it knows, and reads older ones as they were."""
    case = chosen("water2_sp")
    said = case.files["stdout.txt"]
    assert old in said
    found = ENGINE.parse(case.job, {**case.files, "stdout.txt": said.replace(old, new)}, case.ended)
    assert isinstance(found, Result) is accepted
    if accepted and new.endswith(CONDA):
        assert found.engine_version == f"DFTB+ {CONDA} (3ob-3-1 0123456789ab)"


@pytest.mark.parametrize(
    "line",
    [
        "Dipole moment:-1441.12345678-2402.50000000     0.00000000 Debye\n",
        "Dipole moment:**************  -402.50000000    -0.00000000 Debye\n",
    ],
)
def test_dipole_of_an_ion_far_from_the_origin_fills_its_columns(line: str) -> None:
    """It ends the file; its numbers are taken from results.tag."""
    assert detailed.read(line).ended
    assert not detailed.read(line[:-8]).ended


def test_valence_is_that_of_the_program() -> None:
    """The program divides by the valence electrons of its own parameter files."""
    for name in ("water2_sp", "na_water4_sp", "open_shell_wrong_charge"):
        case = chosen(name)
        details = detailed.read(case.files["detailed.out"])
        own = details.populations / (1.0 - details.hybridisation)
        np.testing.assert_allclose(valence(case.job.fragment.numbers), own, atol=1e-6)


def test_polarisability_ratios() -> None:
    """Water's oxygen keeps more than its share of electrons, hydrogen less."""
    ratios = checks.polarisability_ratios(np.array([6.16344057, 0.37370610]), np.array([8, 1]))
    np.testing.assert_allclose(ratios, [1.0204300713, 0.3737061], atol=1e-10)


def test_basis_of_every_element() -> None:
    counts = {symbol: orbitals(np.array([NUMBERS[symbol]])) for symbol in ELEMENTS}
    assert counts["H"] == 1
    assert {s for s, n in counts.items() if n == 9} == {"P", "S", "Cl", "Zn", "Br", "I"}
    assert {n for s, n in counts.items() if s in {"C", "N", "O", "F", "Na", "Mg", "K", "Ca"}} == {4}


@pytest.mark.parametrize(
    "text",
    ["", "1 C\nO\n", "1 C\nO\n1 1 0 0\n", "1 C\nO\n1 2 0 0 0\n", "1 C\nO1\n1 1 0 0 0\n"],
)
def test_gen_refuses(text: str) -> None:
    assert gen.read(text) is None
