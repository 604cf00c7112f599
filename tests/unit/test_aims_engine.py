"""The FHI-aims engine object: what it refuses, needs and runs."""

import pytest

from qfarm.engines.aims import ENGINE
from qfarm.engines.base import Command, Engine, Exit, Job, Parameters, Site
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from support import build
from support.species import species_texts

SINGLE_POINT = TaskKind.SINGLE_POINT
AIMS: Engine = ENGINE


def level(**fields: object) -> LevelOfTheory:
    return LevelOfTheory(**(build.PBE0.model_dump() | {"engine": "aims"} | fields))


def atoms(*numbers: int, **fields: object) -> Fragment:
    positions = [[0.0, 0.0, 2.0 * row] for row in range(len(numbers))]
    return Fragment(numbers=list(numbers), positions=positions, **fields)


def job(**fields: object) -> Job:
    site = Site(texts=species_texts(["H", "O"]))
    base = {"fragment": build.WATER, "stage": build.stage(level=level()), "site": site}
    return Job(**(base | fields))


@pytest.mark.parametrize(
    "good",
    [
        level(),
        level(basis="intermediate"),
        level(basis="light"),
        level(dispersion="mbd-nl", mbd_beta=0.83),
        level(dispersion="none", mbd_beta=None),
    ],
)
def test_accepts(good: LevelOfTheory) -> None:
    assert AIMS.refuse(build.WATER, good, SINGLE_POINT) is None


@pytest.mark.parametrize(
    ("fragment", "bad", "task", "words"),
    [
        (build.WATER, level(), TaskKind.OPTIMISATION, "optimise in a stage of the dftbplus"),
        (build.WATER, level(method="B3LYP"), SINGLE_POINT, "set method = 'PBE0'"),
        (build.WATER, level(dispersion="intrinsic", mbd_beta=None), SINGLE_POINT, "'mbd-nl'"),
        (build.WATER, level(basis="none"), SINGLE_POINT, "light, intermediate, tight"),
        (build.WATER, level(options={"grid_level": 4}), SINGLE_POINT, "unknown option grid_level"),
        (atoms(103, multiplicity=2), level(), SINGLE_POINT, "Z = 103"),
        (atoms(87, multiplicity=2), level(), SINGLE_POINT, "dispersion = 'none'"),
        (atoms(8, multiplicity=2), level(), SINGLE_POINT, "multiplicity 2"),
        (atoms(1, charge=1), level(), SINGLE_POINT, "no electron is left"),
    ],
)
def test_refuses_and_says_what_to_do(
    fragment: Fragment, bad: LevelOfTheory, task: TaskKind, words: str
) -> None:
    assert words in str(AIMS.refuse(fragment, bad, task))


def test_elements_end_where_species_and_mbd_end() -> None:
    bare = level(dispersion="none", mbd_beta=None)
    assert AIMS.refuse(atoms(86), level(), SINGLE_POINT) is None
    assert AIMS.refuse(atoms(102), bare, SINGLE_POINT) is None
    assert AIMS.refuse(atoms(88), level(dispersion="mbd-nl", mbd_beta=0.83), SINGLE_POINT)


def test_needs_the_species_of_the_tier() -> None:
    asked = AIMS.parameters(build.WATER, level(basis="intermediate"))
    names = ("intermediate/01_H_default", "intermediate/08_O_default")
    assert asked == Parameters(names=names, linked="")


def test_is_what_the_worker_expects() -> None:
    assert (AIMS.name, AIMS.command, AIMS.soft_stop) == ("aims", ("aims.x",), "abort_scf")
    assert AIMS.restart.files == ("D_*.csc",)
    assert AIMS.restart.texts == ()
    assert AIMS.basis_set(level()) is None


def test_writes_two_files_the_same_each_time() -> None:
    files = AIMS.write(job())
    assert sorted(files) == ["control.in", "geometry.in"]
    assert files == AIMS.write(Job.model_validate_json(job().model_dump_json()))


def test_runs_the_launch_line_of_the_site() -> None:
    assert AIMS.run(job()) == Command(("aims.x",), {})
    site = Site(command=("mpirun", "-n", "{ranks}", "aims"), ranks=16)
    halved = AIMS.run(job(site=site, memory={"ranks_divisor": 2}))
    assert halved == Command(("mpirun", "-n", "8", "aims"), {})


def test_a_wrong_species_file_is_found_before_the_run() -> None:
    assert AIMS.wrong_parameters(build.WATER, level(), species_texts(["H", "O"])) is None
    reason = AIMS.wrong_parameters(build.WATER, level(), {})
    assert "tight/01_H_default" in str(reason)


def test_no_output_is_a_failure() -> None:
    assert isinstance(AIMS.parse(job(), {}, Exit(1)), Failure)
