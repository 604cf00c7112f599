"""The input that qfarm writes for DFTB+: what was recorded to work, from the level alone."""

from typing import Any

import hsd
import numpy as np
import pytest

from qfarm.engines.base import Command, Job, Site
from qfarm.engines.dftbplus import ENGINE, gen, hsd_input
from qfarm.engines.dftbplus.parameters import ELEMENTS
from qfarm.engines.dftbplus.settings import GeometrySettings, SccSettings
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.elements import NUMBERS
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE
from support.dftbplus_fixtures import CHOSEN, chosen, level

CHANGED = {"SlaterKosterFiles", "MaxSCCIterations"}
"""What is written otherwise than recorded: the prefix is a link, and there is more patience."""


def read(job: Job) -> dict[str, Any]:
    tree: dict[str, Any] = hsd.load_string(ENGINE.write(job)["dftb_in.hsd"])
    return tree


@pytest.mark.parametrize(
    "name", ["water2_sp", "water2_opt_lbfgs_new", "na_water4_sp", "water2_sp_nombd"]
)
def test_writes_what_was_recorded_to_work(name: str) -> None:
    text = (CHOSEN / name / "dftb_in.hsd").read_text()
    recorded = hsd.load_string(text.replace('<<< "geometry.gen"', ""))
    written = read(chosen(name).job)
    for key, value in recorded["Hamiltonian"]["DFTB"].items():
        if key not in CHANGED:
            assert written["Hamiltonian"]["DFTB"][key] == value
    assert written["ParserOptions"] == recorded["ParserOptions"] == {"ParserVersion": 14}
    assert written["Analysis"] == recorded["Analysis"]
    driver = dict(recorded["Driver"].get("GeometryOptimization", {}))
    limit = driver.pop("Convergence", {}).get("GradElem")
    own = dict(written["Driver"].get("GeometryOptimization", {}))
    assert own.pop("Convergence", {}).get("GradElem") == pytest.approx(limit)
    assert own == driver


def test_geometry_is_exact_and_labels_are_bare_symbols() -> None:
    """A label ``H1`` gives another dispersion energy without a word."""
    fragment = Fragment(
        numbers=[8, 1, 1], positions=[[0.1, 1 / 3, -2e-7], [12.5, 1.0, 0.0], [0.0, -1.0, 1e-12]]
    )
    job = chosen("water2_sp").job.model_copy(update={"fragment": fragment})
    lines = ENGINE.write(job)["dftb_in.hsd"].splitlines()
    geometry = gen.read("\n".join(lines[1 : lines.index("}")]))
    assert lines[:3] == ["Geometry = GenFormat {", "  3 C", "  H O"]
    assert geometry is not None
    assert np.array_equal(geometry.numbers, fragment.numbers)
    assert np.array_equal(geometry.positions, fragment.positions)


def test_is_deterministic_and_names_no_place() -> None:
    job = chosen("water2_sp").job
    text = ENGINE.write(job)["dftb_in.hsd"]
    assert text == ENGINE.write(job)["dftb_in.hsd"]
    assert 'Prefix = "slako/"' in text
    assert "Ignore" not in text
    assert "ConvergentSCCOnly = Yes" in text


def test_gradient_limit_bounds_the_norm_of_each_force() -> None:
    """Three components at the limit make a force of just max_force."""
    limit = hsd_input.gradient_limit(0.01)
    norm = np.linalg.norm([limit] * 3) * DFTBPLUS_HARTREE / DFTBPLUS_BOHR
    assert norm == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("density", "tolerance"), [("none", 1e-8), (1e-5, 1e-8), (1e-8, 1e-8), (1e-10, 1e-10)]
)
def test_charges_are_converged_to_1e_8_or_better(density: str | float, tolerance: float) -> None:
    of_level = level(thresholds={"eigenvalues": "none", "forces": "none", "density": density})
    assert hsd_input.scc_tolerance(of_level) == tolerance


def test_every_rung_writes_its_settings() -> None:
    job = chosen("water2_opt_lbfgs_new").job
    for aid in ENGINE.ladder.scf:
        settings = SccSettings.model_validate(dict(aid.settings))
        written = read(job.model_copy(update={"scf": dict(aid.settings)}))["Hamiltonian"]["DFTB"]
        assert written["MaxSCCIterations"] == settings.max_iterations
        assert written["Mixer"] == {settings.mixer: {"MixingParameter": settings.mixing}}
        assert written["SCCTolerance"] == 1e-8
        assert written["Filling"] == {"Fermi": {"Temperature": 0.0}}
    for aid in ENGINE.ladder.geometry:
        settings = GeometrySettings.model_validate(dict(aid.settings))
        driver = read(job.model_copy(update={"geometry": dict(aid.settings)}))["Driver"]
        assert driver["GeometryOptimization"]["Optimizer"] == {settings.optimiser: {}}


def restarted(text: str, name: str = "water2_opt_lbfgs_new", **fields: Any) -> np.ndarray:
    job = chosen(name).job.model_copy(update={"restart": {"geo_end.gen": text}, **fields})
    return hsd_input.start_geometry(job).positions


@pytest.mark.parametrize("after", [None, *FailureKind])
def test_goes_on_from_the_geometry_left(after: FailureKind | None) -> None:
    left = chosen("opt_maxsteps_new").files["geo_end.gen"]
    read_back = gen.read(left)
    assert read_back is not None
    assert np.array_equal(restarted(left, after=after), read_back.positions)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("O H", "H O"),
        lambda text: text.replace("O H", "O1 H"),
        lambda text: text.replace("6  C", "6  S"),
        lambda text: text.replace(text.split()[7], "NaN"),
        lambda text: (
            "\n".join([*text.splitlines()[:3], "2 2 -1.571 -0.083 0.0"])
            + "\n"
            + "\n".join(text.splitlines()[4:])
        ),
    ],
)
def test_starts_anew_when_what_is_left_is_no_use(damage: Any) -> None:
    text = damage(chosen("opt_maxsteps_new").files["geo_end.gen"])
    own = chosen("water2_opt_lbfgs_new").job.fragment.positions
    assert np.array_equal(restarted(text), own)


def test_single_point_never_moves() -> None:
    left = chosen("opt_maxsteps_new").files["geo_end.gen"]
    own = chosen("water2_sp").job.fragment.positions
    assert np.array_equal(restarted(left, "water2_sp"), own)


def test_names_the_slater_koster_files_and_the_link() -> None:
    parameters = ENGINE.parameters(chosen("water2_sp").job.fragment, level())
    assert parameters.names == ("H-H.skf", "H-O.skf", "O-H.skf", "O-O.skf")
    assert f"{parameters.linked}/" == "slako/"


def test_runs_the_launch_line_of_the_site() -> None:
    job = chosen("water2_sp").job
    assert ENGINE.run(job) == Command(("dftb+",))
    site = Site(command=("srun", "-c", "{threads}", "dftb+"), environment={"A": "b"})
    command = ENGINE.run(job.model_copy(update={"site": site, "threads": 4}))
    assert command == Command(("srun", "-c", "4", "dftb+"), {"A": "b"})


REFUSED = {
    "method": {"method": "GFN2-xTB"},
    "'mbd'": {"dispersion": "mbd-nl"},
    "basis": {"basis": "tight"},
    "eigenvalues and forces": {"thresholds": {}},
    "thresholds.forces = 'none'": {"thresholds": {"eigenvalues": "none"}},
    "unknown option": {"options": {"scc_tolerance": 1e-5}},
    "reference_set = 'ts'": {"options": {"reference_set": "tssurf"}},
    "parameters = '3ob-3-1'": {"options": {"parameters": "mio-1-1"}},
    "kgrid = '1 1 1'": {"options": {"kgrid": "2 2 2"}},
}


@pytest.mark.parametrize("words", REFUSED)
def test_refuses_a_level_and_names_the_remedy(words: str) -> None:
    reason = ENGINE.refuse(
        chosen("water2_sp").job.fragment, level(**REFUSED[words]), TaskKind.SINGLE_POINT
    )
    assert reason is not None
    assert words in reason


def test_takes_every_option_at_its_only_value() -> None:
    options = {"parameters": "3ob-3-1", "reference_set": "ts", "kgrid": "1 1 1"}
    fragment = chosen("water2_sp").job.fragment
    assert ENGINE.refuse(fragment, level(options=options), TaskKind.OPTIMISATION) is None
    assert ENGINE.refuse(fragment, level(None), TaskKind.SINGLE_POINT) is None


@pytest.mark.parametrize(
    ("numbers", "charge", "multiplicity", "words"),
    [
        ([14], 0, 1, "Si"),
        ([8, 1], 0, 2, "closed-shell"),
        ([8, 1], 0, 1, "electrons"),
        ([8], 0, 3, "closed-shell"),
        ([11], 1, 1, "valence electron"),
    ],
)
def test_refuses_a_fragment(numbers: list[int], charge: int, multiplicity: int, words: str) -> None:
    fragment = Fragment(
        numbers=numbers,
        positions=np.eye(3)[: len(numbers)],
        charge=charge,
        multiplicity=multiplicity,
    )
    reason = ENGINE.refuse(fragment, level(), TaskKind.SINGLE_POINT)
    assert reason is not None
    assert words in reason


def test_every_element_of_the_set_can_be_written() -> None:
    numbers = [NUMBERS[symbol] for symbol in ELEMENTS]
    positions = np.arange(len(numbers) * 3.0).reshape(-1, 3)
    stage = Stage(name="all", task=TaskKind.SINGLE_POINT, level=level())
    job = Job(fragment=Fragment(numbers=numbers, positions=positions), stage=stage)
    written = read(job)["Hamiltonian"]["DFTB"]
    assert set(written["HubbardDerivs"]) == set(written["MaxAngularMomentum"]) == set(ELEMENTS)
    assert all(-0.19 < value < 0 for value in written["HubbardDerivs"].values())
