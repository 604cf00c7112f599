"""The export table: what a file holds of a record, one row a field. Pure.

Every export format is driven by `FIELDS` (numbers with units) and `LABELS` (text). Names are
qfarm's words; `QM7X` gives the names under which loaders of QM7-X (J. Hoja et al., Sci. Data 8,
43 (2021)) look for the same numbers in the same units.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from qfarm_schemas.attempt import Rung
from qfarm_schemas.base import canonical_json, digest
from qfarm_schemas.level import Dispersion, LevelOfTheory
from qfarm_schemas.record import Record

VERSION: Final = 1
"""Raised when a reader of older files would misread a newer one."""

Shape = tuple[int | Literal["atoms", "basis", "spins"], ...]


class LayoutError(ValueError):
    """A record does not fit the table: the message names the field, what it asks and what it got.

    No file takes such a record, and none is left out silently.
    """


@dataclass(frozen=True)
class Field:
    """One number or array of a record.

    Attributes
    ----------
    name : str
        Name in the file. ``{key}`` in it stands for each key of the mapping that `get` returns.
    dtype : str
        Type in the file, little-endian.
    shape : tuple
        ``"atoms"`` is the number of atoms, ``"basis"`` that of basis functions; ``"spins"``, which
        comes first, is 2 for an open shell and not there for a closed one. A scalar has shape
        (1,), as in QM7-X.
    unit : str
        Unit; ``1`` where there is none.
    description : str
        One line for the reader of the file.
    get : callable
        The value of a record; None where it has none.
    required : bool
        Whether every record has it.
    """

    name: str
    dtype: str
    shape: Shape
    unit: str
    description: str
    get: Callable[[Record], Any]
    required: bool = True


@dataclass(frozen=True)
class Label:
    """One text, or list of texts, of a record."""

    name: str
    description: str
    get: Callable[[Record], str | tuple[str, ...]]


@dataclass(frozen=True)
class Value:
    """One field of one record, checked and ready to be written."""

    name: str
    unit: str
    array: NDArray[Any]


def values(record: Record) -> Iterator[Value]:
    """All fields that a record has, in the order of the table.

    Raises
    ------
    LayoutError
        A required field is absent, or a value has another shape or type, or is not finite.
    """
    for field in FIELDS:
        for name, raw in _named(field, record):
            yield Value(name, field.unit, _checked(name, raw, field, _sizes(record)))


def labels(record: Record) -> dict[str, str | tuple[str, ...]]:
    """All texts of a record."""
    return {label.name: label.get(record) for label in LABELS}


def qm7x_names(level: LevelOfTheory) -> Mapping[str, str]:
    """Second names of fields: those of QM7-X for PBE0+MBD, none for another level.

    ``ePBE0+MBD`` must never hold the energy of another method.
    """
    same = level.method == "PBE0" and level.dispersion is Dispersion.MBD
    return QM7X if same else MappingProxyType({})


def rows() -> list[dict[str, Any]]:
    """Return the table as plain JSON data, for the file itself and for documentation."""
    fields = [
        {
            "name": field.name,
            "kind": "dataset",
            "dtype": field.dtype,
            "shape": list(field.shape),
            "units": field.unit,
            "required": field.required,
            "description": field.description,
        }
        for field in FIELDS
    ]
    texts = [
        {"name": label.name, "kind": "attribute", "description": label.description}
        for label in LABELS
    ]
    return fields + texts


@cache
def layout_id() -> str:
    """``t`` and the SHA-256 of the table: equal ids promise equal names, shapes and units."""
    return digest("t", canonical_json([VERSION, rows(), dict(QM7X)]))


def _named(field: Field, record: Record) -> Iterator[tuple[str, Any]]:
    raw = field.get(record)
    if raw is None and field.required:
        raise LayoutError(f"{field.name} is required, but the record has none")
    if "{key}" in field.name:
        yield from ((field.name.format(key=_word(key)), part) for key, part in (raw or {}).items())
    elif raw is not None:
        yield field.name, raw


def _word(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", key.lower())


def _sizes(record: Record) -> Mapping[str, int]:
    matrices, closed = record.result.matrices, record.multiplicity == 1
    return {
        "atoms": len(record.result.numbers),
        "basis": 0 if matrices is None else len(matrices.functions),
        "spins": 1 if closed else 2,
    }


def _shape(field: Field, sizes: Mapping[str, int]) -> tuple[int, ...]:
    shape = field.shape[1:] if field.shape[0] == "spins" and sizes["spins"] == 1 else field.shape
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)


def _checked(name: str, raw: Any, field: Field, sizes: Mapping[str, int]) -> NDArray[Any]:
    array = np.asarray(raw)
    if array.ndim == 0:
        array = array.reshape(1)
    shape = _shape(field, sizes)
    if array.shape != shape:
        raise LayoutError(f"{name} must have shape {shape}, found {array.shape}")
    if not np.can_cast(array.dtype, field.dtype, casting="same_kind"):
        raise LayoutError(f"{name} must be of type {field.dtype}, found {array.dtype}")
    if not np.isfinite(array).all():
        raise LayoutError(f"{name} must be finite, found {_first_bad(array)}")
    return _same_values(name, array, array.astype(field.dtype))


def _same_values(name: str, array: NDArray[Any], stored: NDArray[Any]) -> NDArray[Any]:
    if not np.array_equal(array, stored):
        raise LayoutError(f"{name} does not fit into type {stored.dtype}")
    return stored


def _first_bad(array: NDArray[Any]) -> str:
    where = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
    return f"{array[where]} at {list(where)}"


def _gap(record: Record) -> float | None:
    homo, lumo = record.result.homo, record.result.lumo
    return None if homo is None or lumo is None else lumo - homo


def _rung(rung: Rung) -> str:
    basis = "" if rung.basis is None else rung.basis.value
    named = {"scf": rung.scf, "geometry": rung.geometry, "basis": basis}
    return " ".join(f"{name}={value}" for name, value in named.items() if value)


def _matrix(name: str, shape: Shape, unit: str, description: str) -> Field:
    def get(record: Record) -> Any:
        matrices = record.result.matrices
        return None if matrices is None else getattr(matrices, name)

    title = {"functions": "basis_functions", "core": "core_hamiltonian"}.get(name, f"{name}_matrix")
    dtype = "<i4" if name == "functions" else "<f8"
    return Field(title, dtype, shape, unit, description, get, required=False)


_ATOMS: Final[Shape] = ("atoms",)
_VECTORS: Final[Shape] = ("atoms", 3)
_ONE: Final[Shape] = (1,)
_PAIRS: Final[Shape] = ("basis", "basis")
_SPIN_PAIRS: Final[Shape] = ("spins", "basis", "basis")

FIELDS: Final[tuple[Field, ...]] = (
    Field("atomic_numbers", "<i4", _ATOMS, "1", "atomic numbers", lambda r: r.result.numbers),
    Field("positions", "<f8", _VECTORS, "A", "Cartesian positions", lambda r: r.result.positions),
    Field("charge", "<i4", _ONE, "e", "total charge", lambda r: r.charge),
    Field("multiplicity", "<i4", _ONE, "1", "spin multiplicity 2S+1", lambda r: r.multiplicity),
    Field("energy", "<f8", _ONE, "eV", "total energy with dispersion", lambda r: r.result.energy),
    Field(
        "energy_{key}",
        "<f8",
        _ONE,
        "eV",
        "part of the total energy: pbe0 the functional, mbd the dispersion",
        lambda r: r.result.energy_parts,
        required=False,
    ),
    Field(
        "forces",
        "<f8",
        _VECTORS,
        "eV/A",
        "forces with dispersion, not cleaned of net force",
        lambda r: r.result.forces,
    ),
    Field(
        "dipole",
        "<f8",
        (3,),
        "e*A",
        "dipole moment about the centre of nuclear charge",
        lambda r: r.result.dipole,
    ),
    Field(
        "hirshfeld_ratios",
        "<f8",
        _ATOMS,
        "1",
        "Hirshfeld volume over free-atom volume",
        lambda r: r.result.hirshfeld_ratios,
        required=False,
    ),
    Field(
        "{key}_charges",
        "<f8",
        _ATOMS,
        "e",
        "atomic charges by scheme: hirshfeld, mulliken",
        lambda r: r.result.charges,
        required=False,
    ),
    Field(
        "homo", "<f8", _ONE, "eV", "highest occupied level", lambda r: r.result.homo, required=False
    ),
    Field("lumo", "<f8", _ONE, "eV", "lowest empty level", lambda r: r.result.lumo, required=False),
    Field("gap", "<f8", _ONE, "eV", "lumo minus homo", _gap, required=False),
    Field(
        "spin_squared",
        "<f8",
        _ONE,
        "1",
        "<S^2> of an open shell",
        lambda r: r.result.spin_squared,
        required=False,
    ),
    _matrix(
        "functions",
        ("basis", 4),
        "1",
        "basis functions in order: atom from 0, n, l, m (PySCF's order and signs; p: x, y, z)",
    ),
    _matrix("fock", _SPIN_PAIRS, "eV", "Fock (Kohn-Sham) matrix; of two spins for an open shell"),
    _matrix("overlap", _PAIRS, "1", "overlap of the basis functions"),
    _matrix("density", _SPIN_PAIRS, "e", "density matrix; of two spins for an open shell"),
    _matrix("core", _PAIRS, "eV", "kinetic energy and nuclear attraction"),
    Field(
        "scf_energy_change",
        "<f8",
        _ONE,
        "eV",
        "change of the total energy over the last SCF iteration",
        lambda r: r.result.convergence.energy,
    ),
    Field(
        "scf_eigenvalue_change",
        "<f8",
        _ONE,
        "eV",
        "change of the eigenvalue sum over the last SCF iteration",
        lambda r: r.result.convergence.eigenvalues,
    ),
    Field(
        "scf_density_change",
        "<f8",
        _ONE,
        "e",
        "change of the density over the last SCF iteration",
        lambda r: r.result.convergence.density,
    ),
    Field(
        "scf_forces_change",
        "<f8",
        _ONE,
        "eV/A",
        "change of the forces over the last SCF iteration",
        lambda r: r.result.convergence.forces,
    ),
    Field(
        "attempt",
        "<i4",
        _ONE,
        "1",
        "number of the attempt that was accepted",
        lambda r: r.provenance.attempt,
    ),
    Field(
        "wall_time",
        "<f8",
        _ONE,
        "s",
        "wall time of the accepted attempt",
        lambda r: r.provenance.cost.wall_seconds,
    ),
    Field(
        "cpu_time",
        "<f8",
        _ONE,
        "s",
        "CPU time of the accepted attempt",
        lambda r: r.provenance.cost.cpu_seconds,
    ),
)
"""Numbers: one data set each, with its unit as attribute ``units``."""

LABELS: Final[tuple[Label, ...]] = (
    Label("fragment_id", "the submitted fragment", lambda r: r.fragment_id),
    Label("key", "workflow and stage in the farm's database", lambda r: r.key),
    Label("class", "class of the fragment", lambda r: r.fragment_class),
    Label("tags", "free labels", lambda r: r.tags),
    Label("source", "file and frame it was submitted from", lambda r: r.source),
    Label("stage", "stage that computed it", lambda r: r.stage),
    Label("level", "level of theory, see /levels", lambda r: r.level.id),
    Label("rung", "convergence aids that were needed", lambda r: _rung(r.provenance.rung)),
    Label("deviations", "departures from the protocol", lambda r: r.deviations),
    Label("notes", "known limits of the methods that touch it", lambda r: r.result.notes),
    Label("engine_version", "programs that computed it", lambda r: r.result.engine_version),
    Label("qfarm_version", "qfarm that computed it", lambda r: r.provenance.qfarm_version),
    Label("finished", "end of the attempt, UTC", lambda r: r.provenance.finished.isoformat()),
)
"""Texts: one attribute each."""

QM7X: Final[Mapping[str, str]] = MappingProxyType(
    {
        "atomic_numbers": "atNUM",
        "positions": "atXYZ",
        "energy": "ePBE0+MBD",
        "energy_pbe0": "ePBE0",
        "energy_mbd": "eMBD",
        "forces": "totFOR",
        "dipole": "vDIP",
        "hirshfeld_ratios": "hRAT",
        "hirshfeld_charges": "hCHG",
        "homo": "eH",
        "lumo": "eL",
        "gap": "HLgap",
    }
)
"""Name in the file -> name in QM7-X. QM7-X cleans ``totFOR`` of the net force, qfarm does not."""
