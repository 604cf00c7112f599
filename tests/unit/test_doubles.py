"""The doubles of FHI-aims and DFTB+: consistent numbers, the programs' formats, the plan's acts."""

import ast
import json
import os
import subprocess
import time
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from doubles import aims_run, dftbplus_run, misbehaviour, physics, player
from doubles.answer import fortran
from doubles.physics import Molecule
from qfarm import verdict
from qfarm.engines.aims import ENGINE as AIMS
from qfarm.engines.base import Engine, Exit, Job, Site
from qfarm.engines.dftbplus import ENGINE as DFTBPLUS
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import Dispersion, LevelOfTheory
from qfarm_schemas.result import Result
from support import doubles
from support.species import species_texts

ROOT = Path(__file__).parents[2]

WATER = Fragment(
    numbers=[8, 1, 1], positions=[[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]]
)
OXYGEN = Fragment(numbers=[8, 8], positions=[[0, 0, 0], [0, 0, 1.2]], multiplicity=3)

PBE0 = LevelOfTheory(engine="aims", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="tight")
DFTB3 = LevelOfTheory(
    engine="dftbplus",
    method="DFTB3",
    dispersion="mbd",
    mbd_beta=0.83,
    thresholds={"eigenvalues": "none", "forces": "none"},
)


def aims_job(fragment: Fragment = WATER, level: LevelOfTheory = PBE0, **fields: object) -> Job:
    stage = Stage(name="single_point", task=TaskKind.SINGLE_POINT, level=level)
    texts = species_texts(("H", "O"), level.basis.value)
    return Job(fragment=fragment, stage=stage, site=Site(texts=texts), **fields)


def dftbplus_job(task: TaskKind = TaskKind.OPTIMISATION) -> Job:
    return Job(fragment=WATER, stage=Stage(name="preopt", task=task, level=DFTB3))


def prepared(engine: Engine, job: Job, folder: Path) -> Path:
    """`folder` with the engine's own input."""
    folder.mkdir(exist_ok=True)
    for name, text in (*engine.write(job).items(), *job.restart.items()):
        (folder / name).write_text(text)
    if engine is DFTBPLUS:
        doubles.slater_koster(folder / "slako", ("H", "O"))
    return folder


def planned(folder: Path, *acts: str) -> str:
    """A plan of acts; its path."""
    plan = folder.with_suffix(".json")
    plan.write_text(json.dumps([{"do": act} for act in acts]))
    return str(plan)


def start(engine: Engine, job: Job, folder: Path, act: str) -> subprocess.Popen[bytes]:
    """Start the engine's double as a process."""
    prepared(engine, job, folder)
    with (folder / "stdout.txt").open("wb") as out, (folder / "stderr.txt").open("wb") as err:
        return subprocess.Popen(
            doubles.command(engine.name).split(),
            cwd=folder,
            stdout=out,
            stderr=err,
            env=os.environ | {"DOUBLE_PLAN": planned(folder, act), "OMP_NUM_THREADS": "1"},
        )


def parsed(engine: Engine, job: Job, folder: Path, code: int) -> Result | Failure:
    texts = {p.name: p.read_text(errors="replace") for p in folder.iterdir() if p.is_file()}
    return engine.parse(job, texts, Exit(code))


def ran(engine: Engine, job: Job, folder: Path, *acts: str) -> Result | Failure:
    """Run the double within this process, which is faster."""
    prepared(engine, job, folder)
    read = aims_run.read if engine is AIMS else dftbplus_run.read
    with (
        (folder / "stdout.txt").open("w") as out,
        (folder / "stderr.txt").open("w") as err,
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(misbehaviour.VARIABLE, planned(folder, *acts))
        code = player.perform(engine.name, read(folder), folder)
    return parsed(engine, job, folder, code)


def judged(job: Job, result: Result | Failure) -> Success | Failure:
    if isinstance(result, Failure):
        return result
    return verdict.outcome(verdict.judge(verdict.Subject(result, job.stage, job.fragment)))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (-63.4840264391664, 15, "-0.634840264391664E+02"),
        (0.8769e-5, 4, "0.8769E-05"),
        (0.99999, 4, "0.1000E+01"),
        (float("nan"), 4, "NaN"),
        (0.0, 3, "0.000E+00"),
    ],
)
def test_fortran(value: float, digits: int, text: str) -> None:
    assert fortran(value, digits) == text


def test_forces_are_the_gradient() -> None:
    frame = doubles.example("dimethyl_phosphate")[0]
    random = np.random.default_rng(1)
    positions = frame.positions + random.normal(0, 0.05, frame.positions.shape)
    molecule = Molecule(frame.numbers, positions, charge=-1)
    _, forces = physics.energy_and_forces(molecule)
    for atom, axis in ((0, 0), (4, 1), (12, 2)):
        energies = []
        for shift in (1e-5, -1e-5):
            moved = positions.copy()
            moved[atom, axis] += shift
            energies.append(physics.energy_and_forces(replace(molecule, positions=moved))[0])
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / 2e-5, abs=1e-6)
    assert np.abs(forces.sum(axis=0)).max() < 1e-12


AIMS_JOBS = {
    "mbd": aims_job(),
    "mbd-nl": aims_job(
        level=PBE0.model_copy(update={"dispersion": Dispersion.MBD_NL, "mbd_beta": 0.83})
    ),
    "intermediate": aims_job(level=PBE0.model_copy(update={"basis": "intermediate"})),
    "triplet": aims_job(OXYGEN),
    "cation": aims_job(
        Fragment(numbers=[8, 1, 1, 1], positions=[*WATER.positions, [0, 0, 1.1]], charge=1)
    ),
}


@pytest.mark.parametrize("name", AIMS_JOBS)
def test_aims_is_accepted(name: str, tmp_path: Path) -> None:
    job = AIMS_JOBS[name]
    result = ran(AIMS, job, tmp_path / "run")
    assert judged(job, result) == Success()
    assert "double" in result.engine_version


@pytest.mark.parametrize("aid", AIMS.ladder.scf, ids=lambda aid: aid.name)
def test_aims_understands_every_rung(aid: object, tmp_path: Path) -> None:
    density = {"D_spin_01_kpt_000001.csc": ""} if aid.settings.get("restart") else {}
    job = aims_job(scf=dict(aid.settings), restart=density)
    outcome = judged(job, ran(AIMS, job, tmp_path / "run"))
    expected = "start-up" if aid.settings.get("start_up") else "success"
    assert (outcome.kind.value if isinstance(outcome, Failure) else "success") == expected
    assert (tmp_path / "run" / "D_spin_01_kpt_000001.csc").read_bytes().startswith(b"CSC\0")


def test_a_killed_run_leaves_what_a_restart_needs(tmp_path: Path) -> None:
    ran(AIMS, aims_job(), tmp_path / "aims", "crash-signal 9")
    assert (tmp_path / "aims" / "D_spin_01_kpt_000001.csc").is_file()
    ran(DFTBPLUS, dftbplus_job(), tmp_path / "dftbplus", "crash-signal 9")
    assert (tmp_path / "dftbplus" / "geo_end.gen").is_file()
    assert (tmp_path / "dftbplus" / "results.tag").read_text() == ""


def test_aims_converges_faster_from_a_density(tmp_path: Path) -> None:
    fresh = ran(AIMS, aims_job(), tmp_path / "fresh")
    job = aims_job(scf={"restart": True}, restart={"D_spin_01_kpt_000001.csc": ""})
    again = ran(AIMS, job, tmp_path / "again")
    assert len(again.scf_trace) < len(fresh.scf_trace)
    assert again.energy == fresh.energy


@pytest.mark.parametrize("task", TaskKind)
def test_dftbplus_is_accepted(task: TaskKind, tmp_path: Path) -> None:
    job = dftbplus_job(task)
    result = ran(DFTBPLUS, job, tmp_path / "run")
    assert judged(job, result) == Success()
    assert "double" in result.engine_version
    assert bool(result.optimisation_trace) == (task is TaskKind.OPTIMISATION)


SPOILT_AIMS = {
    "scf-not-converged": "scf-not-converged",
    "small-gap": "no-gap",
    "crash-signal 11": "crashed",
    "exit-code 3": "crashed",
    "truncate 0.7": "crashed",
    "truncate 40": "crashed",
    "out-of-memory": "out-of-memory",
    "ill-conditioned": "ill-conditioned",
    "wrong-xc": "bad-output",
    "missing-force-row": "bad-output",
    "nan": "bad-output",
    "stale-files": "bad-output",
    "wrong-geometry": "bad-output",
    "mbd-off": "bad-output",
}


@pytest.mark.parametrize("act", SPOILT_AIMS)
def test_what_aims_spoils_is_refused(act: str, tmp_path: Path) -> None:
    outcome = judged(aims_job(), ran(AIMS, aims_job(), tmp_path / "run", act))
    assert isinstance(outcome, Failure)
    assert outcome.kind.value == SPOILT_AIMS[act]


SPOILT_DFTBPLUS = {
    "scf-not-converged": "scf-not-converged",
    "crash-signal 11": "crashed",
    "exit-code 3": "crashed",
    "truncate 0.7": "bad-output",
    "out-of-memory": "out-of-memory",
    "missing-force-row": "bad-output",
    "nan": "bad-output",
    "stale-files": "crashed",
    "mbd-off": "bad-output",
}


@pytest.mark.parametrize("act", SPOILT_DFTBPLUS)
def test_what_dftbplus_spoils_is_refused(act: str, tmp_path: Path) -> None:
    job = dftbplus_job()
    outcome = judged(job, ran(DFTBPLUS, job, tmp_path / "run", act))
    assert isinstance(outcome, Failure)
    assert outcome.kind.value == SPOILT_DFTBPLUS[act]


@pytest.mark.parametrize(("act", "code"), [("ok", 0), ("exit-code 3", 3), ("crash-signal 11", -11)])
def test_how_the_process_ends(act: str, code: int, tmp_path: Path) -> None:
    assert start(AIMS, aims_job(), tmp_path / "run", act).wait(60) == code


def test_every_act_is_tested_or_harmless() -> None:
    tested = {act.split()[0] for act in (*SPOILT_AIMS, *SPOILT_DFTBPLUS)}
    assert set(misbehaviour.TABLE) - tested == {"ok", "hang", "slow"}


def test_the_overlap_aid_cures(tmp_path: Path) -> None:
    job = aims_job(overlap=dict(AIMS.ladder.overlap[1].settings))
    assert judged(job, ran(AIMS, job, tmp_path / "run", "ill-conditioned")) == Success()


@pytest.mark.parametrize(
    ("engine", "job"), [(AIMS, aims_job()), (DFTBPLUS, dftbplus_job())], ids=["aims", "dftbplus"]
)
def test_a_slow_run_stops_softly(engine: Engine, job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(engine, job, folder, "slow 0.2")
    (folder / engine.soft_stop).touch()
    outcome = judged(job, parsed(engine, job, folder, process.wait(60)))
    assert isinstance(outcome, Failure)
    assert outcome.kind.value in {"scf-not-converged", "geometry-not-converged"}


def test_a_hanging_run_obeys_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(AIMS, aims_job(), folder, "hang 60")
    deadline = time.monotonic() + 30
    while "iteration #    2" not in (folder / "stdout.txt").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (folder / "abort_scf").touch()
    time.sleep(0.2)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.kill()
    process.wait()


def test_rules_count_per_geometry_and_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tmp_path / "plan.json"
    match = {"n_atoms": [2, 5], "elements": ["O"], "charge": 0, "control": "xc +pbe0"}
    plan.write_text(json.dumps([{"match": match, "first": 2, "do": "slow 7"}]))
    monkeypatch.setenv(misbehaviour.VARIABLE, str(plan))
    water = Molecule(WATER.numbers, np.array(WATER.positions))
    moved = replace(water, positions=water.positions + 1.0)
    pauses = [misbehaviour.choose("aims", "xc  pbe0", m).pause for m in (water,) * 3 + (moved,)]
    assert pauses == [7, 7, 0, 7]
    others = ((replace(moved, charge=1), "xc pbe0"), (moved, "xc pbe"))
    assert [misbehaviour.choose("aims", text, m).pause for m, text in others] == [0, 0]


def test_a_recording_is_replayed(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    contents = {"stdout": "a\nb\n", "results.tag": "x", "dftb_in.hsd": "not the program's"}
    for name, text in (*contents.items(), ("run.json", '{"exit": -11}')):
        (recorded / name).write_text(text)
    folder = tmp_path / "run"
    folder.mkdir()
    words = doubles.command("replay", recorded).split()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-11, "a\nb\n")
    assert {path.name for path in folder.iterdir()} == {"results.tag"}


def test_water_cluster_is_the_same_every_time() -> None:
    first, second = doubles.water_cluster(), doubles.water_cluster()
    assert len(first) == 360
    assert np.array_equal(first.positions, second.positions)
    distances = first.get_all_distances()
    np.fill_diagonal(distances, 9.0)
    assert distances.min() > 0.9


def test_production_does_not_know_the_doubles() -> None:
    """No file that is shipped names them, and the wheel's packages lie outside tests."""
    tops = ("qfarm", "workers", "launchers", "schemas")
    shipped = [path for top in tops for path in (ROOT / top).rglob("*") if path.is_file()]
    for path in shipped:
        if path.suffix in {".py", ".toml", ".json"}:
            text = path.read_text()
            assert "_double" not in text
            assert "DOUBLE_PLAN" not in text
            assert "qfarm-test-double" not in text
    imported = {
        name.split(".")[0] for path in shipped if path.suffix == ".py" for name in _imports(path)
    }
    assert not imported & {"doubles", "support", "tests"}


def test_the_wheel_has_no_tests() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    packages = build["targets"]["wheel"]["packages"]
    included = [*packages, *(path.strip("/") for path in build["targets"]["sdist"]["include"])]
    assert not [
        path for path in included if Path(path).parts[:1] == ("tests",) or path in {"", "."}
    ]
    assert not [path for package in packages for path in (ROOT / package).rglob("*_double*")]


def _imports(path: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
