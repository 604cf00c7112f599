"""The example farm with GPUs: large single points go there, and to the CPU while it is closed."""

from pathlib import Path

import numpy as np
import pytest

from qfarm import config
from qfarm.engines import standins
from qfarm.errors import ConfigError
from qfarm.plan import Plan, plan
from qfarm.routing import Waiting, takers
from qfarm_schemas.config import Stage
from qfarm_schemas.fragment import Fragment

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "gpu"
PROTOCOL = str(EXAMPLE / "protocol.toml")


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch) -> config.Farm:
    monkeypatch.delenv("QFARM_CONFIG", raising=False)
    return config.load(EXAMPLE)


def stages(farm: config.Farm, n_atoms: int) -> dict[str, Stage]:
    positions = np.arange(3.0 * n_atoms).reshape(n_atoms, 3)
    fragment = Fragment(numbers=[1] * n_atoms, positions=positions, multiplicity=1 + n_atoms % 2)
    planned = plan(fragment, config.load_protocol(PROTOCOL, farm))
    assert isinstance(planned, Plan)
    return {stage.name: stage for stage in planned.stages}


def may_run(farm: config.Farm, stage: Stage, *closed: str) -> tuple[str, ...]:
    waiting = Waiting(stage.name, stage.level.engine, stage.partition)
    return takers(waiting, farm.config.partitions, closed)


@pytest.mark.parametrize(
    ("n_atoms", "partition"), [(99, "cpu"), (100, "gpu"), (350, "gpu"), (351, "gpu")]
)
def test_single_points_above_a_size_go_to_the_gpu(
    farm: config.Farm, n_atoms: int, partition: str
) -> None:
    found = stages(farm, n_atoms)
    assert found["single_point"].partition == partition
    assert found["preopt"].partition is None
    assert may_run(farm, found["single_point"]) == (partition,)
    assert may_run(farm, found["preopt"]) == ("cpu",)


def test_the_level_is_one_wherever_it_is_computed(farm: config.Farm) -> None:
    small, large = (stages(farm, n)["single_point"] for n in (99, 100))
    assert small.level.id == large.level.id
    assert [standins.stand_in(farm.config, one, "pyscf") for one in farm.config.partitions] == [
        "pyscf",
        "gpu4pyscf",
    ]


def test_what_is_large_spills_to_the_cpu_while_the_gpu_partition_is_closed(
    farm: config.Farm,
) -> None:
    large = stages(farm, 100)["single_point"]
    assert may_run(farm, large, "gpu") == ("cpu",)
    assert may_run(farm, large, "gpu", "cpu") == ()
    assert may_run(farm, stages(farm, 99)["single_point"], "cpu") == ()


def test_a_rule_may_name_no_other_partition(tmp_path: Path, farm: config.Farm) -> None:
    text = Path(PROTOCOL).read_text().replace('partition = "gpu"', 'partition = "gup"', 1)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load_protocol(str(tmp_path / "mine.toml"), farm)
    assert str(tmp_path / "mine.toml") in caught.value.what
    assert (
        "stages[1].levels[1].partition: the farm has no partition 'gup' (partitions of "
        "qfarm.toml: cpu, gpu)" in caught.value.what
    )
    assert config.load_protocol(str(tmp_path / "mine.toml")).name == "open-gpu"  # without a farm
