"""One engine computes another's levels: who, by which settings, and what is refused."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from qfarm import config, sites
from qfarm.cli.doctor import _stand_ins, setup, trial
from qfarm.cli.doctor.engines import _absent, _subjects
from qfarm.cli.doctor.finding import Verdict
from qfarm.cli.submit import _places, _used
from qfarm.config import Farm
from qfarm.engines import engine, standins
from qfarm.errors import ConfigError
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import EngineConfig, FarmConfig, Partition
from qfarm_schemas.failure import FailureKind
from qfarm_workers import attempt
from qfarm_workers.bench import Bench, engines_of, places_of
from qfarm_workers.prepare import Prepared
from qfarm_workers.process import EngineProcess
from qfarm_workers.scratch import Scratch
from support import build
from support.claims import claim
from support.needs import has_gpu

BY = EngineConfig(by="gpu4pyscf", environment={"A": "b"})
GPU = Partition(name="gpu", scheduler="slurm", gpus=1, engines={"pyscf": BY}, spill_to=("cpu",))
CPU = Partition(name="cpu", takes_engines=("pyscf",))
FARM = Farm(Path("/nowhere"), FarmConfig(partitions=(GPU, CPU)))


def test_the_stand_in_is_the_partitions() -> None:
    assert standins.stand_in(FARM.config, GPU, "pyscf") == "gpu4pyscf"
    assert standins.stand_in(FARM.config, CPU, "pyscf") == "pyscf"
    assert standins.stand_in(FARM.config, GPU, "tblite") == "tblite"
    assert standins.stand_in(FARM.config, None, "pyscf") == "pyscf"
    everywhere = FarmConfig(engines={"pyscf": BY})
    assert standins.stand_in(everywhere, CPU, "pyscf") == "gpu4pyscf"
    back = Partition(engines={"pyscf": EngineConfig()})
    assert standins.stand_in(everywhere, back, "pyscf") == "pyscf"


def bench(partition: Partition) -> Bench:
    nowhere = Path("/nowhere")
    process = EngineProcess(nowhere, threads=1)  # never started
    engines = engines_of(FARM, partition, engine)
    return Bench(process, Scratch(nowhere), partition, engines, places_of(FARM, partition))


def test_the_level_and_the_ladder_stay_those_of_the_level() -> None:
    history = build.history(FailureKind.SCF_NOT_CONVERGED)
    claimed = claim(stage=build.stage(), history=history)
    here, there = (attempt.prepare(claimed, bench(one)) for one in (GPU, CPU))
    assert isinstance(here, Prepared)
    assert isinstance(there, Prepared)
    assert here.engine.name == "gpu4pyscf"
    assert there.engine.name == "pyscf"
    assert here.rung == there.rung
    assert here.rung.scf == "damped"
    assert here.job.level == there.job.level == claimed.stage.level
    assert here.job.level.engine == "pyscf"
    assert here.job.scf == there.job.scf


def test_settings_come_from_the_table_of_the_stand_in_or_of_the_level() -> None:
    stand_in = engine("gpu4pyscf")

    def environment(partition: Partition, **engines: EngineConfig) -> dict[str, str]:
        farm = Farm(Path("/nowhere"), FarmConfig(engines=engines))
        found = sites.site(farm, stand_in, build.WATER, build.PBE0, partition)
        assert not isinstance(found, sites.Missing)
        return found.environment

    own = EngineConfig(environment={"C": "d"})
    assert environment(GPU) == {"A": "b"}
    assert environment(GPU, gpu4pyscf=own) == {"C": "d"}
    assert environment(CPU, pyscf=BY) == {"A": "b"}
    assert environment(CPU) == {}


def test_the_site_says_whether_gpus_are_used() -> None:
    gpu = Partition(engines={"pyscf": EngineConfig(gpu=True)})
    for partition, expected in ((gpu, True), (CPU, False)):
        found = sites.site(FARM, engine("pyscf"), build.WATER, build.PBE0, partition)
        assert not isinstance(found, sites.Missing)
        assert found.gpu is expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[engines.pyscf]\nby = "gpu5"', "engines.pyscf.by: no engine 'gpu5' (engines: aims, "),
        ('[engines.pyscf]\nby = "pyscf"', "engines.pyscf.by: pyscf cannot stand in for itself"),
        (
            '[engines.pyscf]\nby = "tblite"',
            "engines.pyscf.by: tblite cannot stand in for pyscf: its ladder has other rungs, and "
            "its numbers are others; leave it out, or name an engine that computes the same",
        ),
        (
            '[[partitions]]\n[partitions.engines.pyscf]\nby = "aims"',
            "partitions[0].engines.pyscf.by: aims cannot stand in for pyscf",
        ),
        (
            '[[partitions]]\ntakes_engines = ["tblite", "psi"]',
            "partitions[0].takes_engines[1]: no engine 'psi' (engines: aims, ",
        ),
        (
            '[[partitions]]\ntakes_engines = ["gpu4pyscf"]\n'
            '[partitions.engines.pyscf]\nby = "gpu4pyscf"',
            "partitions[0].takes_engines[0]: gpu4pyscf stands in for pyscf and has no levels; name "
            "'pyscf'",
        ),
    ],
)
def test_wrong_stand_ins_are_named_with_file_and_field(
    tmp_path: Path, text: str, fault: str
) -> None:
    (tmp_path / "qfarm.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert str(tmp_path / "qfarm.toml") in caught.value.what
    assert fault in caught.value.what
    assert caught.value.remedy


def test_a_right_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "qfarm.toml").write_text(
        '[[partitions]]\nname = "gpu"\ngpus = 1\ntakes_engines = ["pyscf"]\n'
        '[partitions.engines.pyscf]\nby = "gpu4pyscf"'
    )
    partition = config.load(tmp_path).config.partitions[0]
    assert partition.engines["pyscf"].by == "gpu4pyscf"


def test_submission_asks_who_computes_where_the_stage_may_run() -> None:
    stage = build.stage().model_copy(update={"partition": "gpu"})
    assert [place.name for place in _places(FARM, stage)] == ["gpu", "cpu"]
    assert [_used(FARM, stage, place).name for place in (GPU, CPU)] == ["gpu4pyscf", "pyscf"]
    free = build.stage()
    assert [place.name for place in _places(FARM, free)] == ["gpu", "cpu"]
    preopt = free.model_copy(update={"level": build.PBE0.model_copy(update={"engine": "tblite"})})
    assert [place.name for place in _places(FARM, preopt)] == ["gpu"]


def subjects(*partitions: Partition) -> list[Any]:
    alone = [one.model_copy(update={"spill_to": ()}) for one in partitions]
    farm = Farm(Path("/nowhere"), FarmConfig(partitions=tuple(alone)))
    return list(_subjects(farm, engine("pyscf"), partitions, ()))


def test_the_doctor_tries_the_stand_in() -> None:
    found = subjects(GPU, CPU)
    assert [subject.label for subject in found] == ["pyscf by gpu4pyscf (gpu)", "pyscf (cpu)"]
    assert [subject.engine.name for subject in found] == ["gpu4pyscf", "pyscf"]
    assert [subject.wanted for subject in found] == [True, False]
    assert [subject.label for subject in subjects(GPU)] == ["pyscf by gpu4pyscf"]
    assert trial.levels(engine("gpu4pyscf"), (), lambda *_: None)[0].engine == "pyscf"
    assert _stand_ins(FARM, GPU) == {"gpu4pyscf"}
    assert _stand_ins(FARM, CPU) == set()


def test_a_login_node_without_a_gpu_is_no_fault() -> None:
    (remote,) = subjects(GPU)
    (local,) = subjects(GPU.model_copy(update={"scheduler": "local"}))
    assert _absent(remote, "not found", "what", "cure").verdict is Verdict.WARNING
    assert _absent(local, "not found", "what", "cure").verdict is Verdict.FAULT
    cure = setup.cure_of(remote.engine, GPU, None, there=False)
    assert "pip install 'gpu4pyscf-cuda12x>=1.9'" in cure
    assert "gpu4pyscf-cuda13x" in cure


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_the_attempt_fails_by_the_node_and_says_so(tmp_path: Path) -> None:
    """Never a silent run on the CPU."""
    farm = Farm(tmp_path, FarmConfig(partitions=(GPU, CPU)))
    with EngineProcess(tmp_path, 1) as process:
        made = Bench(
            process, Scratch(tmp_path), GPU, engines_of(farm, GPU, engine), places_of(farm, GPU)
        )
        prepared = attempt.prepare(claim(stage=build.stage()), made)
        assert isinstance(prepared, Prepared)
        finished = attempt.run(prepared, made, Event())
    assert finished is not None
    outcome = finished.attempt.outcome
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.ENGINE_MISSING
    assert "pip install 'qfarm[gpu]'" in outcome.remedy
