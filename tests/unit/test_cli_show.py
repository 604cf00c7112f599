"""Everything about a fragment, as `qfarm show` prints it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qfarm.cli.draw import ASCII
from qfarm.cli.report import Page, pages, rmsd, scf_trace
from qfarm.cli.show import print_json, show
from qfarm_schemas.attempt import Environment
from qfarm_schemas.failure import FailureKind
from support.build import WATER, attempt, failure
from support.screen import printed
from support.view import CAUSE, SINGLE_POINT, failed, view_of_done, view_of_failed


def words(line: str) -> str:
    return " ".join(line.split())


def lines(text: str) -> list[str]:
    return [words(line) for line in text.splitlines()]


def test_a_failed_fragment_says_why_and_what_to_do() -> None:
    shown = lines(printed(lambda console: show(view_of_failed(), console)))
    assert f"Why it failed: {CAUSE}" in shown
    assert "What to do: Check the spin." in shown
    assert "Stage preopt: done" in shown
    assert "Stage single_point: failed" in shown
    assert "SCF density change <= 1e-05 e 1e-04 e NO" in shown
    assert "last energy: -2067.2" in shown
    row = (
        "2 newton node1 1 min 15 s 1 min 10 s 512 MB scf-not-converged "
        "no convergence after 60 iterations"
    )
    assert row in shown
    level = "single-point with PBE0+MBD, beta 0.85, basis tight (def2-TZVP); engine pyscf"
    assert level in shown


def test_traces_are_drawn_for_failures_too() -> None:
    shown = printed(lambda console: show(view_of_failed(), console)).splitlines()
    at = shown.index("SCF energy change, eV")
    assert shown[at + 1 : at + 9] == [
        "  1e+00 ┤●",
        "  1e-01 ┤",
        "  1e-02 ┤ ●",
        "  1e-03 ┤",
        "  1e-04 ┤  ●",
        "  1e-05 ┤┄┄┄ limit",
        "        └───",
        "         1 3",
    ]
    assert "SCF density change" in shown
    steps = "Largest force, eV/A: 3 geometry steps, energy lower by 2.000000 eV"
    assert shown[shown.index(steps) + 3] == "  1e-02 ┤┄┄┄ limit"


def test_both_geometries_and_their_rmsd() -> None:
    shown = lines(printed(lambda console: show(view_of_failed(), console)))
    assert "2 H 0.000000 0.763000 -0.477000" in shown
    assert "2 H 0.000000 1.063000 4.523000" in shown
    found = next(line for line in shown if line.startswith("RMSD"))
    assert 0.1 < float(found.split()[-2]) < 0.2


def test_results_of_a_finished_stage() -> None:
    shown = lines(printed(lambda console: show(view_of_done(), console)))
    for expected in (
        "energy -2077.500000 eV",
        "PBE0 -2077.400000 eV",
        "MBD -0.100000 eV",
        "dipole 0.3900 e*A",
        "gap 10.5000 eV",
        "Hirshfeld ratios 0.560 to 0.930",
        "note: a note",
        "H2O (3 atoms), charge +0, multiplicity 1, class dimer",
        "from water.xyz#1",
    ):
        assert expected in shown
    assert not any(line.startswith("Why it failed") for line in shown)


def test_large_fragments_are_cut_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qfarm.cli.report.ATOMS_SHOWN", 2)
    short = printed(lambda console: show(view_of_done(), console))
    assert "first 2; --atoms lists 1 more" in short
    whole = printed(lambda console: show(view_of_done(), console, all_atoms=True))
    assert "-0.763000" in whole
    assert "-0.763000" not in short


def test_plain_ink_draws_in_ascii() -> None:
    parts = [part for part in pages(view_of_failed(), Page(80, ASCII)) if isinstance(part, str)]
    assert any("|..." in part for part in parts)
    assert all(part.isascii() for part in parts)


def test_json_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(view_of_failed())
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][1]["reason"] == CAUSE
    assert found["attempts"]["w1.single_point"][1]["rung"]["scf"] == "newton"
    assert found["records"]["w1.preopt"]["result"]["energy"] == -2077.5
    assert found["fragment"]["positions"] == WATER.positions.tolist()


def test_trace_from_evidence_or_nothing() -> None:
    assert len(scf_trace(failed(1, "diis"))) == 3
    broken = failure(FailureKind.CRASHED).model_copy(update={"evidence": {"scf_trace": "lost"}})
    assert scf_trace(attempt(broken)) == ()
    assert scf_trace(attempt(failure(FailureKind.CRASHED))) == ()
    assert scf_trace(attempt()) == ()


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_rmsd_ignores_rotation_and_translation(seed: int, n_atoms: int) -> None:
    random = np.random.default_rng(seed)
    first = random.normal(size=(n_atoms, 3))
    moved = Rotation.random(rng=random).apply(first) + random.normal(size=3)
    assert rmsd(first, moved) == pytest.approx(0.0, abs=1e-6)


def test_rmsd_is_that_of_an_independent_fit_and_never_mirrors() -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(size=(2, 6, 3))
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    _, summed = Rotation.align_vectors(a, b)
    assert rmsd(first, second) == pytest.approx(summed / np.sqrt(6))
    assert rmsd(first, first * [1, 1, -1]) > 0.3


def test_attempts_say_where_and_with_what_they_ran() -> None:
    node = Environment(
        cpu="AMD EPYC 7763",
        gpu="2 x NVIDIA H100",
        modules=("gcc/12", "openmpi/4.1"),
        qfarm="0.1.0 (4d72a3d)",
        scheduler_job="4711",
        node_list="n[1-2]",
    )
    made = [attempt(number=1, environment=node), attempt(number=2, environment=node)]
    made += [attempt(number=3, environment=Environment(cpu="POWER9")), attempt(number=4)]
    view = replace(view_of_done(), attempts={SINGLE_POINT: tuple(made)})
    shown = printed(lambda console: show(view, console)).splitlines()
    at = next(number for number, line in enumerate(shown) if line.startswith("Attempts 1 to 2"))
    assert shown[at : at + 2] == [
        "Attempts 1 to 2: batch job 4711, nodes n[1-2], AMD EPYC 7763, 2 x NVIDIA H100, "
        "modules gcc/12 openmpi/4.1, qfarm 0.1.0 (4d72a3d)",
        "Attempt 3: POWER9",
    ]
    assert not any(line.startswith("Attempt 4:") for line in shown)
