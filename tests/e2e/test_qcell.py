"""The protocol `qcell` on doubles of DFTB+ and FHI-aims: a mixed batch with every way to fail.

Engine, process, parser, verdict, ladder and commit are the real ones; so are MongoDB and the
command line. What goes wrong with which fragment stands in `support.batch.BATCH`.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from ase import Atoms
from pymongo import MongoClient

from doubles import aims_run
from qfarm_schemas.units import AIMS_HARTREE, DFTBPLUS_HARTREE
from support import doubles
from support.batch import BATCH, Case, Ran, batch_frames, batch_rules, how
from support.needs import shared_fixture

ACCEPTED = [case for case in BATCH if case.accepted]
COMPUTED = [case for case in BATCH if case.single_point]

names = {"ids": lambda case: case.name}


@dataclass(frozen=True)
class Line:
    """A database of its own, and the way from a farm to what it holds after a run."""

    uri: str
    database: str

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if "QFARM_" not in key}
        ours = {"QFARM_MONGO__URI": self.uri, "QFARM_MONGO__DATABASE": self.database}
        return kept | ours | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}

    def run(self, farm: doubles.DoubleFarm, protocol: str, *frames: Atoms, code: int = 0) -> Ran:
        """Submit fragments and run; `protocol` is a name or the text of one."""
        if "\n" in protocol:
            (farm.folder / "own.toml").write_text(protocol)
        named = "own.toml" if "\n" in protocol else protocol
        doubles.batch_file(farm.folder / "batch.extxyz", frames)
        ran = Ran(farm, self.environment)
        ran.types("submit", "batch.extxyz", "--protocol", named)
        ran.types("run", "--plain", code=code)
        ran.look(self.uri, self.database)
        return ran


@contextmanager
def line(uri: str) -> Iterator[Line]:
    name = f"test_{uuid4().hex[:12]}"
    yield Line(uri, name)
    with MongoClient(uri) as client:
        client.drop_database(name)


@pytest.fixture
def empty(mongo_uri: str) -> Iterator[Line]:
    with line(mongo_uri) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def batch(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """The batch after its run; some of it fails for good, so the exit code is 3."""
    folder = tmp_path_factory.mktemp("qcell")
    farm = doubles.double_farm(folder, batch_rules(), ranks=2)
    with line(mongo_uri) as fresh:
        yield fresh.run(farm, "qcell", *batch_frames(), code=3)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("case", BATCH, **names)
def test_how_every_attempt_ended(batch: Ran, case: Case) -> None:
    assert tuple(map(how, batch.attempts(case, "preopt"))) == case.preopt
    assert tuple(map(how, batch.attempts(case, "single_point"))) == case.single_point


@pytest.mark.parametrize("case", COMPUTED, **names)
def test_tier_and_dispersion_of_every_input(batch: Ran, case: Case) -> None:
    """QCell's choice by class and size; a start-up has no dispersion and is never accepted."""
    fragment = batch.views[case.name].fragment
    tier = "tight" if fragment.n_atoms <= 350 else "intermediate"
    carbon = fragment.fragment_class in {"carbohydrate", "lipid"}
    dispersion = "many_body_dispersion" if carbon else "many_body_dispersion_nl"
    texts = batch.kept(case, "single_point", "control.in")
    assert len(texts) == len(case.single_point)
    for text, ended in zip(texts, case.single_point, strict=True):
        found = re.findall(r"^many_body_dispersion\w*", text, re.MULTILINE)
        assert found == ([] if ended.startswith("start-up") else [dispersion])
        assert set(re.findall(r'Suggested "(\w+)" defaults', text)) == {tier}
        if case in ACCEPTED:
            assert batch.record(case).level.basis.value == tier


@pytest.mark.parametrize("case", ACCEPTED, **names)
def test_the_record_holds_what_was_printed(batch: Ran, case: Case) -> None:
    record, printed = batch.record(case), batch.kept(case, "single_point", "stdout.txt")[-1]
    energy = float(re.search(r"Total energy uncorrected +: +(\S+) eV", printed)[1])
    dispersion = float(re.search(r"Libmbd: Evaluated energy: (\S+)", printed)[1])
    block = printed.split("Total atomic forces")[1].splitlines()[1 : len(record.result.forces) + 1]
    forces = np.array([line.split()[2:] for line in block], dtype=float)
    parts = record.result.energy_parts
    assert record.result.energy == pytest.approx(energy, abs=1e-9)
    assert parts["MBD"] == pytest.approx(dispersion * AIMS_HARTREE, abs=1e-12)
    assert np.array_equal(record.result.forces, forces)
    assert "double" in record.result.engine_version
    assert record.provenance.attempt == len(case.single_point)


@pytest.mark.parametrize("case", ACCEPTED, **names)
def test_the_numbers_belong_to_the_geometry_that_was_optimised(batch: Ran, case: Case) -> None:
    """Computed once more from the kept input, without a plan."""
    preopt, record = batch.record(case, "preopt"), batch.record(case)
    assert np.array_equal(preopt.result.positions, record.result.positions)
    folder = sorted(batch.farm.scratch.glob(f"{record.fragment_id[:12]}.single_point.*"))[-1]
    task = aims_run.read(folder)
    answer = task.answer(task.molecule)
    assert np.allclose(task.molecule.positions, record.result.positions, atol=1e-10, rtol=0)
    total = answer.energy + answer.dispersion * AIMS_HARTREE
    assert record.result.energy == pytest.approx(total, abs=1e-9)
    assert np.allclose(record.result.forces, answer.forces, atol=1e-12, rtol=0)
    assert np.allclose(record.result.hirshfeld_ratios, answer.ratios, atol=1e-8)


def test_nothing_else_was_accepted(batch: Ran) -> None:
    wanted = {(case.name, "preopt") for case in BATCH if case.preopt[-1].startswith("success")}
    wanted |= {(case.name, "single_point") for case in ACCEPTED}
    assert sorted((record.tags[0], record.stage) for record in batch.records) == sorted(wanted)


def test_only_the_overlap_aid_is_a_deviation(batch: Ran) -> None:
    departed = {record.tags[0] for record in batch.records if record.deviations}
    assert departed == {"benzene_dimer"}
    (deviation,) = batch.record(next(c for c in BATCH if c.name == "benzene_dimer")).deviations
    assert "basis_threshold" in deviation


def test_a_recording_of_the_real_program_passes_the_line(empty: Line, tmp_path: Path) -> None:
    """DFTB+ 25.1 itself, recorded: the water dimer's optimisation is accepted as it was."""
    recorded = shared_fixture("dftbplus") / "water2_opt_lbfgs_new"
    replay = {"dftbplus": doubles.command("replay", recorded)}
    farm = doubles.double_farm(tmp_path, commands=replay)
    ran = empty.run(farm, PREOPT, doubles.recorded_frame(recorded / "geometry.gen"))
    (record,) = ran.records
    assert record.result.energy == pytest.approx(-8.15143989564425 * DFTBPLUS_HARTREE, abs=1e-8)
    assert record.result.engine_version.startswith("DFTB+ 25.1")


def test_a_calculation_longer_than_the_walltime_goes_on(empty: Line, tmp_path: Path) -> None:
    """Asked to stop, FHI-aims leaves its density; the next worker's attempt starts from it."""
    farm = doubles.double_farm(tmp_path, [{"do": "slow 0.8"}], slots=1, walltime=10.0)
    (frame,) = doubles.example("glycolaldehyde")
    ran = empty.run(farm, POINT, frame)
    case = Case("glycolaldehyde")
    kinds = [how(attempt) for attempt in ran.attempts(case, "single_point")]
    assert kinds[0] == "walltime@plain"
    assert kinds[-1] == "success@plain"
    texts = ran.kept(case, "single_point", "control.in")
    restarts = [re.search(r"^elsi_restart +(\w+)", text, re.MULTILINE)[1] for text in texts]
    assert (restarts[0], restarts[-1]) == ("write", "read_and_write")
    assert len(ran.record(case).result.scf_trace) < 10


PREOPT = """
name = "preopt-only"
[[stages]]
name = "preopt"
task = "optimisation"
max_force = 0.01
[[stages.levels]]
[stages.levels.level]
engine = "dftbplus"
method = "DFTB3"
dispersion = "mbd"
mbd_beta = 0.83
basis = "none"
thresholds = { eigenvalues = "none", forces = "none" }
"""

POINT = """
name = "point-only"
[[stages]]
name = "single_point"
task = "single-point"
[[stages.levels]]
[stages.levels.level]
engine = "aims"
method = "PBE0"
dispersion = "mbd"
mbd_beta = 0.85
basis = "tight"
"""
