"""The HDF5 export, read with plain h5py as a user would."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from qfarm.errors import UserError
from qfarm.export import writer
from qfarm.export.dataset import ExportError, Options, Written
from qfarm.export.hdf5 import BATCH, write
from qfarm.export.manifest import Expected
from qfarm_schemas.layout import values
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Record
from support.build import PBE0
from support.matrices import with_matrices
from support.records import GFN2, identity, record, result

TESTS = Path(__file__).resolve().parents[1]


def expected(number: int, state: str = "failed", **fields: object) -> Expected:
    good: dict[str, Any] = {
        "key": f"{identity('w', number)}.single_point",
        "fragment_id": identity("f", number),
        "fragment_class": "dimer",
        "formula": "H4O2",
        "n_atoms": 6,
        "tags": ("s22",),
        "source": f"dimers.extxyz#{number}",
        "stage": "preopt",
        "state": state,
        "attempts": 3,
        "reason": "the SCF \N{LATIN SMALL LETTER E WITH ACUTE}chou\u00e9\nin two lines",
        "remedy": "check the charge",
    }
    return Expected(**(good | fields))


def export(target: Path, *records: Record, missing: int = 0, **options: bool) -> Written:
    wanted = [expected(number) for number in range(len(records) + missing)]
    return write(target, iter(records), iter(wanted), Options(**options))


def parts_of(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_user_reads_the_numbers_bit_for_bit(tmp_path: Path) -> None:
    records = [record(number, n_atoms=3 + number) for number in range(4)]
    export(tmp_path / "out.h5", *records)
    with h5py.File(tmp_path / "out.h5") as file:
        for one in records:
            group = file["records/dimer"][one.fragment_id]
            assert group["positions"][()].tobytes() == one.result.positions.tobytes()
            assert group["forces"][()].tobytes() == one.result.forces.tobytes()
            assert group["energy"][0] == one.result.energy
            assert group["energy"].dtype == np.float64
            assert group["charge"][0] == -1
            assert group["scf_density_change"][0] == 1e-6
            assert group.attrs["class"] == "dimer"
            assert list(group.attrs["tags"]) == ["s22", "water_dimer"]
            assert group.attrs["deviations"].shape == (0,)
            for value in values(one):
                assert np.array_equal(group[value.name][()], value.array)
                assert group[value.name].dtype == value.array.dtype


def test_a_user_finds_the_hamiltonian(tmp_path: Path) -> None:
    one = with_matrices(record(multiplicity=1), 20)
    export(tmp_path / "out.h5", one)
    found = one.result.matrices
    assert found is not None
    with h5py.File(tmp_path / "out.h5") as file:
        group = file["records/dimer"][one.fragment_id]
        assert group["fock_matrix"][()].tobytes() == found.given()["fock"].tobytes()
        assert group["fock_matrix"].attrs["units"] == "eV"
        assert group["basis_functions"][()].tolist() == found.functions.tolist()
        rows = {row["name"]: row for row in json.loads(file["layout"][()])}
        assert rows["fock_matrix"]["shape"] == ["spins", "basis", "basis"]
        assert "PySCF" in rows["basis_functions"]["description"]


def test_every_number_has_its_unit(tmp_path: Path) -> None:
    export(tmp_path / "out.h5", record(), missing=1)
    units: dict[str, str] = {}

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf":
            units[name.rpartition("/")[2]] = item.attrs["units"]

    with h5py.File(tmp_path / "out.h5") as file:
        file.visititems(look)
        for name in ("energy", "forces", "positions", "dipole"):
            units[name] = file[f"records/dimer/{identity('f', 0)}/{name}"].attrs["units"]
    assert len(units) >= 22
    found = {name: units[name] for name in ("energy", "forces", "positions", "dipole")}
    assert found == {"energy": "eV", "forces": "eV/A", "positions": "A", "dipole": "e*A"}


def test_a_loader_of_qm7x_reads_the_records(tmp_path: Path) -> None:
    records = [record(0), record(1, fragment_class="lipid")]
    export(tmp_path / "out.h5", *records)
    energies = {}
    with h5py.File(tmp_path / "out.h5") as file:
        molecules = file["records"]
        for idmol in molecules:
            for idconf in molecules[idmol]:
                conformer = molecules[idmol][idconf]
                assert np.array(conformer["atXYZ"]).shape == (len(conformer["atNUM"]), 3)
                assert np.array(conformer["totFOR"]).shape == (6, 3)
                assert float(conformer["ePBE0"][0]) + float(conformer["eMBD"][0]) == pytest.approx(
                    float(conformer["ePBE0+MBD"][0])
                )
                energies[idconf] = float(conformer["ePBE0+MBD"][0])
    assert energies == {one.fragment_id: one.result.energy for one in records}


def test_another_method_never_answers_to_pbe0(tmp_path: Path) -> None:
    export(tmp_path / "out.h5", record(level=GFN2))
    with h5py.File(tmp_path / "out.h5") as file:
        group = file[f"records/dimer/{identity('f', 0)}"]
        assert "ePBE0+MBD" not in group
        assert "energy" in group


def test_the_file_describes_itself(tmp_path: Path) -> None:
    export(tmp_path / "out.h5", record(0), record(1), missing=1)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["format"] == "qfarm-hdf5"
        assert (file.attrs["n_records"], file.attrs["n_missing"]) == (2, 1)
        assert file.attrs["created"].endswith("+00:00")
        assert file["records/dimer"].attrs["n_records"] == 2
        level = LevelOfTheory.model_validate_json(file[f"levels/{PBE0.id}"].attrs["json"])
        table = {row["name"]: row for row in json.loads(file["layout"].asstr()[()])}
    assert level == PBE0
    assert table["forces"]["units"] == "eV/A"
    assert table["forces"]["shape"] == ["atoms", 3]


def test_mixed_levels_are_refused_and_named(tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    with pytest.raises(ExportError) as caught:
        export(target, record(0), record(1, level=GFN2))
    assert "PBE0+MBD/def2-TZVP, pyscf" in caught.value.what
    assert "GFN2-xTB, tblite" in caught.value.what
    assert "--allow-mixed-levels" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_mixed_levels_on_request(tmp_path: Path) -> None:
    written = export(tmp_path / "out.h5", record(0), record(1, level=GFN2), mixed_levels=True)
    assert written.levels == {PBE0.id: 1, GFN2.id: 1}
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file["levels"]) == {PBE0.id, GFN2.id}


def test_a_bad_record_stops_the_export_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    export(target, record())
    before = target.read_bytes()
    bad = record(5, result=result(energy=float("nan")))
    with pytest.raises(ExportError, match="energy must be finite") as caught:
        export(target, record(0), bad, overwrite=True)
    assert bad.key in caught.value.what
    assert "qfarm show" in caught.value.remedy
    assert target.read_bytes() == before
    assert parts_of(tmp_path) == []


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    export(target, record(0))
    before = target.read_bytes()
    with pytest.raises(ExportError, match="exists"):
        export(target, record(1))
    assert target.read_bytes() == before
    export(target, record(1), overwrite=True)
    with h5py.File(target) as file:
        assert list(file["records/dimer"]) == [identity("f", 1)]


@pytest.mark.parametrize(("name", "said"), [("no/out.h5", "no folder"), ("", "is a folder")])
def test_a_target_that_cannot_be(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        export(tmp_path / name, record())


def test_no_records_no_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no record matches"):
        export(tmp_path / "out.h5", missing=2)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ending_is_refused() -> None:
    with pytest.raises(UserError, match=r"\.pdf"):
        writer(Path("out.pdf"))
    assert writer(Path("OUT.H5")) is write


def test_two_records_of_one_fragment_are_both_there(tmp_path: Path) -> None:
    first = record(0)
    second = record(1, fragment_id=first.fragment_id)
    wanted = [expected(0), expected(1, fragment_id=first.fragment_id)]
    written = write(tmp_path / "out.h5", [first, second], wanted, Options())
    assert not written.missing
    with h5py.File(tmp_path / "out.h5") as file:
        found = file["records/dimer"]
        assert {group.attrs["key"] for group in found.values()} == {first.key, second.key}
        assert first.fragment_id in found


def test_a_missing_workflow_of_a_fragment_that_has_another_record(tmp_path: Path) -> None:
    wanted = [expected(0), expected(1, fragment_id=identity("f", 0))]
    written = write(tmp_path / "out.h5", [record(0)], wanted, Options())
    assert written.missing.total() == 1


@pytest.mark.parametrize("name", ["a/b", ".", "..", "kohlenhydrat\u00e9"])
def test_any_class_makes_one_group(tmp_path: Path, name: str) -> None:
    wanted = [expected(0, fragment_class=name)]
    written = write(tmp_path / "out.h5", [record(fragment_class=name)], wanted, Options())
    assert not written.missing
    with h5py.File(tmp_path / "out.h5") as file:
        (group,) = file["records"].values()
        assert group[identity("f", 0)].attrs["class"] == name


def test_manifest_names_all_that_is_missing(tmp_path: Path) -> None:
    written = export(tmp_path / "out.h5", record(0), missing=2 * BATCH + 3)
    manifest = json.loads((tmp_path / "out.h5.manifest.json").read_text())
    assert manifest["counts"] == {"records": 1, "missing": 2 * BATCH + 3}
    assert manifest["missing_by_state"] == {"failed": 2 * BATCH + 3}
    assert [row["fragment_id"] for row in manifest["missing"]] == [
        identity("f", number) for number in range(1, 2 * BATCH + 4)
    ]
    first = manifest["missing"][0]
    assert first["reason"] == expected(1).reason
    assert (first["source"], first["stage"]) == ("dimers.extxyz#1", "preopt")
    assert first["remedy"] == "check the charge"
    with h5py.File(written.target) as file:
        assert [json.loads(row) for row in file["missing"].asstr()] == manifest["missing"]


def test_a_complete_data_set_has_an_empty_list(tmp_path: Path) -> None:
    export(tmp_path / "out.h5", record(0))
    assert json.loads((tmp_path / "out.h5.manifest.json").read_text())["missing"] == []


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        stored = str(item[()]) if isinstance(item, h5py.Dataset) else None
        found[name] = (stored, {key: str(value) for key, value in item.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(keep)
        found["/"] = {key: str(file.attrs[key]) for key in file.attrs if key != "created"}
    return found


def test_equal_databases_give_equal_files(tmp_path: Path) -> None:
    records = [record(number) for number in range(3)]
    for name in ("a", "b"):
        export(tmp_path / f"{name}.h5", *records, missing=2)
    assert content(tmp_path / "a.h5") == content(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").stat().st_size == (tmp_path / "b.h5").stat().st_size


KILLED = """
import sys
from pathlib import Path
from qfarm.export.dataset import Options
from qfarm.export.hdf5 import write
from support.records import record

def records():
    for number in range(50):
        yield record(number)
    print("half", flush=True)
    sys.stdin.read()

write(Path(sys.argv[1]), records(), [], Options(overwrite=True))
"""


def test_kill_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    export(target, record(0))
    before = target.read_bytes()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(target)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        assert len(parts_of(tmp_path)) >= 1
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert target.read_bytes() == before
    export(target, record(1), overwrite=True)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from qfarm.export.dataset import ExportError, Options
from qfarm.export.hdf5 import write
from support.records import record

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write(Path(sys.argv[1]), map(record, range(100)), [], Options())
except ExportError as error:
    print(error)
"""


@pytest.mark.parametrize("share", [0.00001, 0.1, 0.99999])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, share: float) -> None:
    whole = write(tmp_path / "out.h5", map(record, range(100)), [], Options()).size
    for path in tmp_path.iterdir():
        path.unlink()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "out.h5"), str(int(share * whole))],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "could not be written: File too large" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import sys
from pathlib import Path
from qfarm.export.dataset import Options
from qfarm.export.hdf5 import write
from support.records import record

def resident():
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6

seen = {}

def records():
    for number in range(700):
        if number in (200, 699):
            seen[number] = resident()
        yield record(number, n_atoms=300)

written = write(Path(sys.argv[1]), records(), [], Options())
print(seen[699] - seen[200], written.size * 0.7 / 1e6)
"""


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "out.h5")],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    grown, written = map(float, done.stdout.split())
    assert written > 15
    assert grown < 6


def test_records_are_read_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    def records() -> Iterator[Record]:
        for number in range(3):
            order.append(f"read {number}")
            yield record(number)

    def wanted() -> Iterator[Expected]:
        order.append("expected")
        yield from (expected(number) for number in range(3))

    written = write(tmp_path / "out.h5", records(), wanted(), Options())
    assert order == ["read 0", "read 1", "read 2", "expected"]
    assert not written.missing
