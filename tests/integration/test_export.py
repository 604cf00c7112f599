"""`qfarm export` from a real MongoDB: which records, what is missing, what is refused."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from qfarm.cli import app, wanted
from qfarm.cli.wanted import Wanted
from qfarm.ladder import LARGE, Decision, Done, GiveUp
from qfarm.plan import Plan, workflow_key
from qfarm.store import open_store
from qfarm.store.protocol import Claim, Store
from qfarm_schemas.attempt import Attempt, Rung
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Record
from support.build import NOW, PBE0, WORKER, failure, stage
from support.records import GFN2, record, result

PREOPT = stage(TaskKind.OPTIMISATION, name="preopt", level=GFN2)
SINGLE_POINT = stage(name="single_point", level=PBE0)
DONE = Done()
FAILED = GiveUp("the SCF did not converge", "check the multiplicity")


@pytest.fixture
def store(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """An empty store that the command line finds, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QFARM_MONGO__URI", mongo_uri)
    monkeypatch.setenv("QFARM_MONGO__DATABASE", database)
    with open_store(mongo_uri, database) as opened:
        yield opened


def qfarm(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def fragment(number: int, fragment_class: str = "dimer", *tags: str) -> Fragment:
    return Fragment(
        numbers=[8, 1, 1],
        positions=[[0.0, 0.0, 0.1], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48 - number / 100]],
        fragment_class=fragment_class,
        tags=tags,
        source=f"water.extxyz#{number}",
    )


def add(store: Store, *fragments: Fragment, stages: tuple[Stage, ...] = (SINGLE_POINT,)) -> None:
    store.add([Plan(workflow_key(one, stages), one, stages) for one in fragments])


def record_of(
    claim: Claim,
    number: int,
    level: LevelOfTheory | None = None,
    departs: tuple[str, ...] = (),
) -> Record:
    submitted = claim.submitted
    numbers = result(
        number, submitted.n_atoms, numbers=submitted.numbers, positions=submitted.positions
    )
    return record(
        number,
        key=claim.key,
        fragment_id=submitted.id,
        fragment_class=submitted.fragment_class,
        tags=submitted.tags,
        source=submitted.source,
        stage=claim.stage.name,
        level=level or claim.stage.level,
        charge=submitted.charge,
        result=numbers,
        deviations=departs,
    )


def work(
    store: Store,
    *decisions: Decision,
    level: LevelOfTheory | None = None,
    departs: tuple[str, ...] = (),
) -> list[Record]:
    """Claim one stage after the other, end each as told, and return the records."""
    made = []
    for number, decision in enumerate(decisions):
        claim = store.claim(WORKER, lease_seconds=60)
        assert isinstance(claim, Claim)
        one = record_of(claim, number, level, departs) if decision == DONE else None
        store.commit(claim, attempt_of(claim, decision), decision, one)
        made += [one] if one else []
    return made


def attempt_of(claim: Claim, decision: Decision) -> Attempt:
    failed = failure(FailureKind.SCF_NOT_CONVERGED, "the SCF did not converge")
    values = {
        "key": claim.key,
        "number": claim.number,
        "fragment_id": claim.submitted.id,
        "stage": claim.stage.name,
        "level_id": claim.stage.level.id,
        "rung": Rung(scf="diis"),
        "worker": WORKER,
        "started": NOW,
        "finished": datetime.now(UTC),
        "outcome": {"status": "success"} if decision == DONE else failed,
    }
    return Attempt.model_validate(values)


def missing(path: str = "out.h5") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(f"{path}.manifest.json").read_text())["missing"]
    return found


def exported(path: str = "out.h5") -> dict[str, float]:
    with h5py.File(path) as file:
        return {
            name: float(group["energy"][0])
            for members in file["records"].values()
            for name, group in members.items()
        }


def test_records_of_the_last_stage_and_why_the_others_are_missing(store: Store) -> None:
    fragments = [fragment(number) for number in range(4)]
    add(store, *fragments, stages=(PREOPT, SINGLE_POINT))
    made = work(store, FAILED, DONE, DONE, DONE, FAILED)
    run = qfarm("export", "out.h5")
    assert run.exit_code == 0, run.output
    (last,) = [one for one in made if one.stage == "single_point"]
    assert exported() == {last.fragment_id: last.result.energy}
    rows = missing()
    assert {row["fragment_id"] for row in rows} == {one.id for one in fragments} - set(exported())
    assert {(row["stage"], row["state"], row["attempts"]) for row in rows} == {
        ("preopt", "failed", 1),
        ("single_point", "failed", 1),
        ("preopt", "ready", 0),
    }
    failed = next(row for row in rows if row["state"] == "failed")
    assert failed["reason"] == "the SCF did not converge"
    assert failed["remedy"] == "check the multiplicity"
    assert failed["source"].startswith("water.extxyz#")
    assert "2 failed, 1 ready" in run.stdout


def test_equal_numbers_come_out_of_the_database(store: Store) -> None:
    add(store, fragment(0, "dimer", "s22"))
    (one,) = work(store, DONE)
    assert qfarm("export", "out.h5").exit_code == 0
    with h5py.File("out.h5") as file:
        group = file[f"records/dimer/{one.fragment_id}"]
        assert group["forces"][()].tobytes() == one.result.forces.tobytes()
        assert group["positions"][()].tobytes() == one.result.positions.tobytes()
        assert group["hRAT"][()].tobytes() == np.asarray(one.result.hirshfeld_ratios).tobytes()
        assert list(group.attrs["tags"]) == ["s22"]
    assert missing() == []


def test_an_inner_stage_on_request(store: Store) -> None:
    add(store, fragment(0), stages=(PREOPT, SINGLE_POINT))
    (preopt,) = work(store, DONE)
    assert qfarm("export", "out.h5").exit_code == 1
    assert qfarm("export", "out.h5", "--stage", "preopt").exit_code == 0
    assert exported() == {preopt.fragment_id: preopt.result.energy}


def test_class_and_tag_select(store: Store) -> None:
    add(store, fragment(0, "dimer", "a"), fragment(1, "lipid", "a"), fragment(2, "lipid", "b"))
    made = {one.fragment_id: one for one in work(store, DONE, DONE, DONE)}
    qfarm("export", "lipid.h5", "--class", "lipid")
    qfarm("export", "a.h5", "--tag", "a")
    assert set(exported("lipid.h5")) == {i for i, r in made.items() if r.fragment_class == "lipid"}
    assert set(exported("a.h5")) == {i for i, r in made.items() if "a" in r.tags}
    assert missing("a.h5") == []


def test_mixed_levels_are_named_before_anything_is_written(store: Store) -> None:
    loose = PBE0.model_copy(update={"basis": "intermediate"})
    add(store, fragment(0), fragment(1))
    add(store, fragment(2), stages=(stage(level=LevelOfTheory.model_validate(loose)),))
    work(store, DONE, DONE, DONE)
    refused = qfarm("export", "out.h5")
    assert refused.exit_code == 1
    said = " ".join(refused.stderr.split())
    assert "2 of PBE0+MBD/def2-TZVP, pyscf" in said
    assert "1 of PBE0+MBD/def2-SVP, pyscf" in said
    assert not Path("out.h5").exists()
    assert qfarm("export", "tight.h5", "--level", PBE0.id[:9]).exit_code == 0
    assert len(exported("tight.h5")) == 2
    assert qfarm("export", "all.h5", "--allow-mixed-levels").exit_code == 0
    assert len(exported("all.h5")) == 3


def test_a_level_is_chosen_by_its_id(store: Store) -> None:
    add(store, fragment(1))
    said = qfarm("export", "out.h5", "--level", "PBE0+MBD")
    assert said.exit_code == 1
    assert "no beginning of the id of a level" in said.stderr


@pytest.mark.usefixtures("store")
def test_a_class_given_twice_is_refused() -> None:
    said = qfarm("export", "out.h5", "--class", "lipid", "--class", "dimer")
    assert said.exit_code == 2
    assert "--class" in said.stderr
    assert "once only" in said.stderr


def large(number: int) -> Fragment:
    """A fragment of more atoms than a basis fallback needs."""
    row = np.arange(LARGE + 1)
    positions = np.stack([2.0 * row, row * 0.0, row * 0.0 + number / 100], axis=1)
    return Fragment(numbers=[2] * len(row), positions=positions, fragment_class="dimer")


def fallen_back(store: Store) -> tuple[Record, Record, LevelOfTheory]:
    """Two large fragments planned at one level: a record at it and one at a smaller basis."""
    fallback = LevelOfTheory.model_validate(PBE0.model_dump() | {"basis": "intermediate"})
    add(store, large(0), large(1))
    (planned,) = work(store, DONE)
    (fallen,) = work(store, DONE, level=fallback, departs=("basis intermediate",))
    return planned, fallen, fallback


def test_a_record_at_a_fallback_basis_is_another_level(store: Store) -> None:
    planned, fallen, fallback = fallen_back(store)
    refused = qfarm("export", "out.h5")
    assert refused.exit_code == 1
    said = " ".join(refused.stderr.split())
    assert f"1 of PBE0+MBD/def2-TZVP, pyscf ({PBE0.id[:9]})" in said
    assert f"1 of PBE0+MBD/def2-SVP, pyscf ({fallback.id[:9]})" in said
    assert qfarm("export", "out.h5", "--level", PBE0.id[:9]).exit_code == 0
    assert set(exported()) == {planned.fragment_id}
    (row,) = missing()
    assert (row["fragment_id"], row["state"]) == (fallen.fragment_id, "done")
    assert "another level of theory" in row["reason"]


def test_a_record_at_a_fallback_basis_is_found_by_its_own_level(store: Store) -> None:
    _, fallen, fallback = fallen_back(store)
    add(store, large(2))
    assert qfarm("export", "out.h5", "--level", fallback.id[:9]).exit_code == 0
    assert set(exported()) == {fallen.fragment_id}
    assert missing() == []


@pytest.mark.parametrize(
    ("choice", "taken", "left_out"),
    [("keep", {0, 1}, ""), ("drop", {0}, "departs from"), ("only", {1}, "follows the protocol")],
)
def test_records_that_depart_from_the_protocol(
    store: Store, choice: str, taken: set[int], left_out: str
) -> None:
    add(store, fragment(0), fragment(1))
    (plain,) = work(store, DONE)
    (departing,) = work(store, DONE, departs=("basis_threshold 1e-5",))
    assert qfarm("export", "out.h5", "--deviations", choice).exit_code == 0
    ids = {(plain, departing)[number].fragment_id for number in taken}
    assert set(exported()) == ids
    others = {plain.fragment_id, departing.fragment_id} - ids
    assert {row["fragment_id"] for row in missing()} == others
    assert all(left_out in row["reason"] for row in missing())


def test_a_fallback_that_is_dropped_does_not_count_as_a_second_level(store: Store) -> None:
    planned, fallen, _ = fallen_back(store)
    assert qfarm("export", "out.h5").exit_code == 1
    assert qfarm("export", "out.h5", "--deviations", "drop").exit_code == 0
    assert set(exported()) == {planned.fragment_id}
    assert [row["fragment_id"] for row in missing()] == [fallen.fragment_id]


def test_a_stage_that_is_last_here_and_inner_there_is_refused(store: Store) -> None:
    add(store, fragment(0), stages=(PREOPT,))
    add(store, fragment(1), stages=(PREOPT, SINGLE_POINT))
    work(store, DONE, DONE, DONE)
    refused = qfarm("export", "out.h5")
    assert refused.exit_code == 1
    assert "--stage" in refused.stderr
    assert qfarm("export", "out.h5", "--stage", "single_point").exit_code == 0
    assert len(exported()) == 1


def test_what_finishes_while_the_export_runs_is_not_lost_silently(store: Store) -> None:
    add(store, fragment(0), fragment(1))
    work(store, DONE)
    stages = wanted.survey(store, Wanted()).stages
    taken = list(wanted.records(store, Wanted(), stages))
    work(store, DONE)
    late = [one for one in wanted.expected(store, Wanted()) if one.key != taken[0].key]
    assert [one.state for one in late] == ["done"]
    assert "came while the export ran" in late[0].reason


def test_an_old_file_stays_unless_asked(store: Store) -> None:
    add(store, fragment(0))
    work(store, DONE)
    Path("out.h5").write_text("mine")
    refused = qfarm("export", "out.h5")
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert Path("out.h5").read_text() == "mine"
    assert qfarm("export", "out.h5", "--overwrite").exit_code == 0
    assert len(exported()) == 1


def test_nothing_done_yet(store: Store) -> None:
    add(store, fragment(0))
    refused = qfarm("export", "out.h5")
    assert refused.exit_code == 1
    assert "no record matches" in refused.stderr
    assert list(Path().iterdir()) == []
