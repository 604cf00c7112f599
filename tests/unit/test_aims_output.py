"""Output of FHI-aims: every number that other code read from the recorded outputs, and formats."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.engines.aims.output import Output, echo, properties, read, run, scf
from qfarm.engines.aims.output.page import number
from support import aims_fixtures
from support.aims_fixtures import H4, WATERS

NAMES = tuple(aims_fixtures.EXPECTED_KIND)


def _volumes(output: Output) -> dict[str, list[float]] | None:
    atoms = output.hirshfeld
    columns = {"charge": "charge", "free": "free", "vol": "volume"}
    return (
        {k: [getattr(a, field) for a in atoms] for k, field in columns.items()} if atoms else None
    )


READERS: dict[str, Callable[[Output], Any]] = {
    "n_runs": lambda output: output.starts,
    "version": lambda output: output.version or None,
    "n_atoms": lambda output: output.geometry and len(output.geometry.numbers),
    "E_uncorr": lambda output: output.energy,
    "E_free": lambda output: properties.free_energy(output.page),
    "nice_day": lambda output: run.ended_well(output.page),
    "n_conv": lambda output: output.page.count(scf.CONVERGED),
    "not_conv": lambda output: run.warned(output.text),
    "scf_abort": lambda output: output.abort is not None,
    "forces": lambda output: [list(row) for row in output.forces] or None,
    "dipole": lambda output: output.dipole and list(output.dipole),
    "libmbd_Ha": lambda output: output.mbd_energy,
    "vdw_Ha": lambda output: properties.vdw_correction(output.page),
    "homo": lambda output: output.frontier[0],
    "lumo": lambda output: output.frontier[1],
    "n_scf_total": lambda output: run.cycles(output.page),
    "wall_s": lambda output: run.wall_seconds(output.page),
    "hirsh": _volumes,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_that_other_code_read(name: str) -> None:
    output, values = read(aims_fixtures.text(name)), aims_fixtures.expected()[name]
    found = {key: reader(output) for key, reader in READERS.items()}
    assert found == {key: values.get(key) for key in READERS}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"killed_slurm_cancel_ABECAL"}))
def test_functional_as_repeated(name: str) -> None:
    expected = aims_fixtures.expected()[name]["xc"]
    control = read(aims_fixtures.text(name)).control
    found = [" ".join(words) for words in echo.settings(control or (), "xc")]
    assert found == ([expected] if expected else [])


def test_all_expectations_are_tested() -> None:
    known = set(READERS) | {"xc", "E_final", "leaving", "mbd_old_Ha"}
    assert set(NAMES) == set(aims_fixtures.expected())
    assert {key for values in aims_fixtures.expected().values() for key in values} <= known


def test_last_iteration_and_forces_computed_for_the_first_time() -> None:
    reached = scf.convergence(read(aims_fixtures.text(WATERS)).trace)
    assert reached.density == 0.1073e-05
    assert reached.eigenvalues == 0.3561e-03
    assert reached.energy == 0.8769e-05
    assert reached.forces == 6.669  # their own size: not converged


def test_forces_that_were_not_checked_have_no_change() -> None:
    assert scf.convergence(read(aims_fixtures.text(H4)).trace).forces is None


def test_trace_has_energies_and_changes_of_every_iteration() -> None:
    trace = scf.record(read(aims_fixtures.text(H4)).trace)
    assert len(trace) == 15
    assert trace[-1].energy == -63.47505445  # without dispersion, as the SCF prints it
    assert trace[-1].energy_change == -0.1391e-08
    changes = [b.energy - a.energy for a, b in pairwise(trace)]
    assert changes[2:] == pytest.approx([s.energy_change for s in trace[3:]], rel=1e-3, abs=2e-8)


def test_open_shell_density_change_is_the_larger_one() -> None:
    block = (
        "  Self-consistency convergence accuracy:\n"
        "  | Change of charge/spin density :  0.1078E-06  0.7778E-05\n"
        "  | Change of unmixed KS density  :  0.9\n"
        "  | Change of sum of eigenvalues  : -0.3624E-05 eV\n"
    )
    reached = scf.convergence(read(block).trace)
    assert (reached.density, reached.eigenvalues) == (0.7778e-05, 0.3624e-05)
    assert (reached.energy, reached.forces) == (None, None)


LIGHT = """\
Convergence:    q app. |  density,  spin     | eigen (eV) | Etot (eV) | forces (eV/A) | CPU | Clock
  SCF    1 :  0.28E-02 |  0.27E+00  0.31E+00 |   0.14E+01 |  0.25E+00 |             . |  1.0 s | 1 s
  SCF    2 :  0.42E-02 |  0.27E-05  0.12E-05 |  -0.54E-03 | -0.20E-01 |      0.12E-02 |  1.0 s | 1 s
  SCF    3 :  0.27E-02
  Analytical stress tensor components [eV]         xx                  yy

 |  0.12E-06  0.15E-06 |   0.32E-04 | -0.12E-05 |      0.12E-04 |       14.861 s |       14.863 s

  Total energy components:
  | Total energy                  :        -275.24014324 Ha       -7489.66536745 eV
  Self-consistency cycle converged.
"""


def test_compact_table() -> None:
    trace = read(LIGHT).trace
    assert scf.convergence(trace).model_dump() == {
        "energy": 0.12e-05,
        "eigenvalues": 0.32e-04,
        "density": 0.15e-06,
        "forces": 0.12e-04,
    }
    energies = [step.energy for step in scf.record(trace)]
    assert energies == pytest.approx([-7489.64536625, -7489.66536625, -7489.66536745], abs=1e-8)
    assert scf.converged_last(read(LIGHT).page)


def test_compact_table_cut_in_its_last_row_is_no_convergence() -> None:
    cut = LIGHT[: LIGHT.index("  Analytical")]
    assert set(scf.convergence(read(cut).trace).model_dump().values()) == {None}
    assert not scf.converged_last(read(cut).page)


def test_iterations_after_the_converged_line_unsay_it() -> None:
    text = f"{scf.CONVERGED}\n          {scf.BEGIN} #   16\n"
    assert not scf.converged_last(read(text).page)
    assert scf.converged_last(read(f"{scf.BEGIN} #   16\n {scf.CONVERGED}").page)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" *** scf_solver: SCF cycle not converged.\n \n", "scf_solver: SCF cycle not converged."),
        (" *** read_geo: \n", "read_geo: "),
        (" *** WARNING: If you use this flag, you should know it.\n", None),
        (" *** scf_solver: early\n" + "more\n" * 30, None),
        ("x *** scf_solver: SCF cycle not converged.", None),
    ],
)
def test_abort_is_anchored_at_the_end(text: str, said: str | None) -> None:
    abort = read(text).abort
    assert (None if abort is None else str(abort)) == said


@pytest.mark.parametrize("after", ["", "\n------\n\n", "\n\n"])
def test_farewell_is_the_end(after: str) -> None:
    assert run.ended_well(read(f"x\n          Have a nice day.{after}").page)
    assert not run.ended_well(read(f"          Have a nice day.{after}\n  Date : now").page)


def test_spin_blocks_give_the_frontier_over_both() -> None:
    block = "          Begin self-consistency iteration #    1\n" + "".join(
        f"  Highest occupied state (VBM) at  {vbm:14.8f} eV\n  | Spin channel:  {spin}\n"
        f"  Lowest unoccupied state (CBM) at {cbm:14.8f} eV (relative to internal zero)\n"
        for spin, vbm, cbm in ((1, -9.5, -1.0), (2, -11.0, -2.5))
    )
    early = block.replace("#    1", "#    0").replace("-11.0", "-1.0")
    assert read(early + block).frontier == (-9.5, -2.5)
    assert read(block).gap == pytest.approx(7.0)


def test_dipole_of_an_ion_moves_with_it() -> None:
    numbers, positions = np.array([8, 1, 1, 1]), np.eye(4, 3)
    shift = np.array([1.0, -2.0, 30.0])
    about_origin = np.array([0.3, 0.2, 0.1])
    here = properties.about_nuclei(about_origin, 1, numbers, positions)
    there = properties.about_nuclei(about_origin + shift, 1, numbers, positions + shift)
    assert here == pytest.approx(there)
    assert here == pytest.approx(about_origin - [8 / 11, 1 / 11, 1 / 11])
    neutral = properties.about_nuclei(about_origin, 0, numbers, positions)
    assert neutral == pytest.approx(about_origin)


def test_rows_end_at_the_first_that_is_unreadable() -> None:
    text = aims_fixtures.text(WATERS)
    spoilt = re.sub(r"(\n  \|    9 +)0\.56962957041085\S*", r"\g<1>***************", text)
    assert spoilt != text
    assert len(read(spoilt).forces) == 8
    mixed = text.replace("| Atom    11: H", "| Atom    11| Atom    12: H")
    assert len(read(mixed).hirshfeld) == 10


@pytest.mark.parametrize(
    "word", ["NaN", "****", "inf", "1_0", "0.1D", "", "1e400", "0.123-101", "x"]
)
def test_no_number(word: str) -> None:
    assert number(word) is None


def test_geometry_with_a_missing_atom_is_none() -> None:
    text = aims_fixtures.text(H4)
    assert read(text).geometry is not None
    assert read(text.replace("|    3: Species H", "|    4: Species H")).geometry is None
    assert read(text.replace("|    1: Species H", "|    1: Species Q")).geometry is None


PIECES = st.sampled_from(
    [
        "  | Atomic structure:\n  |  Atom  x\n  |    1: Species H  0.0 0.0 0.0\n",
        "  Convergence:    q app. |\n  SCF    1 :",
        " |  | | | | | \n",
        "  Performing Hirshfeld analysis of fragment charges and moments.\n  | Atom     1: H\n",
        "  Total atomic forces (unitary forces cleaned) [eV/Ang]:\n  |    1   1.0 2.0 3.0\n",
        "  Atomic forces before filtering:",
        "  Libmbd: Evaluated energy:",
        "  Self-consistency convergence accuracy:\n",
        "  The structure contains  4 atoms,  and a total of",
        "  | Total energy                  :  1.0 Ha  NaN eV\n",
        "\n",
        "  Highest occupied state (VBM) at",
        "  |   Maximum:",
        "  *** a: b",
    ]
)


@given(st.lists(PIECES | st.text(max_size=20), max_size=12).map("".join))
def test_any_text_can_be_read(text: str) -> None:
    output = read(text)
    for reader in READERS.values():
        reader(output)
    scf.convergence(output.trace)
    echo.electrons(output.page)
    properties.net_force(output.page)
    run.memory_mb(output.page)
