"""The export table: every number of a record, bit for bit, or a clear refusal."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qfarm_schemas import layout
from qfarm_schemas.layout import FIELDS, LABELS, QM7X, LayoutError, labels, qm7x_names, values
from qfarm_schemas.level import BasisTier, Dispersion
from qfarm_schemas.record import Record
from qfarm_schemas.result import Convergence, Result
from support.build import PBE0
from support.matrices import matrices, symmetric, with_matrices
from support.records import GFN2, record, result

FINITE = st.floats(allow_nan=False, allow_infinity=False)
KEPT_OUT = {"scf_trace", "optimisation_trace", "geometry_converged", "stable", "checks"}
"""Evidence for the verdict: it stays in the database."""


def as_dict(one: Record) -> dict[str, Any]:
    return {value.name: value.array for value in values(one)}


def changed(fields: dict[str, object]) -> Result:
    return Result.model_validate({**dict(result()), **fields})


def test_a_full_record_gives_these_fields_in_this_order() -> None:
    names = [value.name for value in values(record())]
    assert names == [
        "atomic_numbers",
        "positions",
        "charge",
        "multiplicity",
        "energy",
        "energy_pbe0",
        "energy_mbd",
        "forces",
        "dipole",
        "hirshfeld_ratios",
        "hirshfeld_charges",
        "mulliken_charges",
        "homo",
        "lumo",
        "gap",
        "scf_energy_change",
        "scf_eigenvalue_change",
        "scf_density_change",
        "scf_forces_change",
        "attempt",
        "wall_time",
        "cpu_time",
    ]


@given(energy=FINITE, forces=arrays(np.float64, (6, 3), elements=FINITE))
def test_numbers_pass_bit_for_bit(energy: float, forces: np.ndarray[Any, Any]) -> None:
    got = as_dict(record(result=result(energy=energy, forces=forces)))
    assert got["energy"].tobytes() == np.float64(energy).tobytes()
    assert got["forces"].tobytes() == forces.tobytes()
    assert got["energy"].dtype == got["forces"].dtype == np.float64


def test_shapes_follow_the_number_of_atoms() -> None:
    got = as_dict(record(n_atoms=4))
    assert got["positions"].shape == got["forces"].shape == (4, 3)
    assert got["atomic_numbers"].shape == got["hirshfeld_ratios"].shape == (4,)
    assert got["energy"].shape == got["charge"].shape == (1,)
    assert got["dipole"].shape == (3,)


def test_matrices_have_the_size_of_the_basis_and_their_spins() -> None:
    closed = as_dict(with_matrices(record(multiplicity=1), 5, density=symmetric(5)))
    assert closed["fock_matrix"].shape == closed["density_matrix"].shape == (5, 5)
    assert closed["basis_functions"].shape == (5, 4)
    assert "core_hamiltonian" not in closed
    both = symmetric(5, 0, 2)
    one = as_dict(with_matrices(record(multiplicity=2), 5, fock=both, core=symmetric(5)))
    assert one["fock_matrix"].tobytes() == both.tobytes()
    assert one["core_hamiltonian"].shape == one["overlap_matrix"].shape == (5, 5)
    with pytest.raises(
        LayoutError, match=r"fock_matrix must have shape \(2, 5, 5\), found \(5, 5\)"
    ):
        list(values(with_matrices(record(multiplicity=2), 5)))


def test_gap_and_parts() -> None:
    got = as_dict(record(result=result(homo=-9.0, lumo=1.5)))
    assert got["gap"][0] == 10.5
    assert got["energy_pbe0"][0] + got["energy_mbd"][0] == got["energy"][0]


CHANGED: dict[str, object] = {
    "numbers": np.full(6, 3),
    "positions": np.ones((6, 3)),
    "energy": -1.25,
    "energy_parts": {"PBE0": -1.0, "D4": -0.25},
    "forces": np.ones((6, 3)),
    "dipole": [1.0, 2.0, 3.0],
    "charges": {"mulliken": np.ones(6)},
    "hirshfeld_ratios": np.ones(6),
    "homo": -5.0,
    "lumo": 5.0,
    "spin_squared": 0.75,
    "convergence": Convergence(energy=1e-7, eigenvalues=1e-5, density=1e-7, forces=1e-6),
    "matrices": matrices(4),
    "notes": ("another",),
    "engine_version": "pyscf 3",
}


@pytest.mark.parametrize("name", sorted(set(Result.model_fields) - KEPT_OUT))
def test_no_field_of_a_result_is_forgotten(name: str) -> None:
    before, after = record(), record(result=changed({name: CHANGED[name]}))
    texts = labels(before) != labels(after)
    numbers = str(as_dict(before)) != str(as_dict(after))
    assert texts or numbers


def test_optional_fields_may_be_absent() -> None:
    bare = result(
        energy_parts={}, charges={}, hirshfeld_ratios=None, homo=None, lumo=None, spin_squared=None
    )
    required = {field.name for field in FIELDS if field.required}
    assert set(as_dict(record(result=bare))) == required


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"energy": math.nan}, "energy must be finite, found nan"),
        ({"forces": np.array([[0, 0, 0]] * 5 + [[0, math.inf, 0]])}, r"inf at \[5, 1\]"),
        ({"forces": np.zeros((5, 3))}, r"forces must have shape \(6, 3\), found \(5, 3\)"),
        ({"positions": np.zeros((7, 3))}, r"positions must have shape \(6, 3\)"),
        ({"hirshfeld_ratios": np.ones(5)}, r"hirshfeld_ratios must have shape \(6,\)"),
        ({"charges": {"mulliken": np.ones(7)}}, r"mulliken_charges must have shape"),
        ({"energy_parts": {"MBD": math.nan}}, "energy_mbd must be finite"),
        ({"convergence": Convergence(energy=1e-6)}, "scf_eigenvalue_change is required"),
    ],
)
def test_a_bad_record_is_refused_with_the_field(fields: dict[str, object], said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        list(values(record(result=changed(fields))))


def test_a_number_that_does_not_fit_its_type_is_refused() -> None:
    with pytest.raises(LayoutError, match="charge does not fit into type int32"):
        list(values(record(charge=2**40)))


def test_the_table_itself() -> None:
    names = [*(field.name for field in FIELDS), *(label.name for label in LABELS)]
    assert len(names) == len(set(names))
    assert all(row["description"] for row in layout.rows())
    assert {field.unit for field in FIELDS} <= {"1", "A", "e", "eV", "eV/A", "e*A", "s"}
    energies = [field for field in FIELDS if field.unit == "eV"]
    assert all(field.dtype == "<f8" for field in energies)
    assert not set(QM7X.values()) & set(names)
    assert set(QM7X) <= set(as_dict(record()))


def test_texts() -> None:
    got = labels(record(deviations=("basis fell back",)))
    assert got["class"] == "dimer"
    assert got["tags"] == ("s22", "water_dimer")
    assert got["level"] == PBE0.id
    assert got["rung"] == "scf=damped"
    assert got["deviations"] == ("basis fell back",)
    assert got["finished"] == "2026-01-01T00:00:00+00:00"


def test_names_of_qm7x_only_for_its_level() -> None:
    assert qm7x_names(PBE0)["energy"] == "ePBE0+MBD"
    assert not qm7x_names(GFN2)
    assert not qm7x_names(PBE0.model_copy(update={"dispersion": "mbd-nl"}))
    bare = PBE0.model_copy(update={"dispersion": Dispersion.NONE, "mbd_beta": None})
    assert not qm7x_names(bare)
    assert qm7x_names(PBE0.model_copy(update={"basis": BasisTier.LIGHT}))


def test_layout_id_follows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout.layout_id()
    layout.layout_id.cache_clear()
    monkeypatch.setattr(layout, "FIELDS", FIELDS[:-1])
    try:
        assert layout.layout_id() != before
    finally:
        layout.layout_id.cache_clear()
    monkeypatch.undo()
    assert layout.layout_id() == before
