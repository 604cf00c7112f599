"""Which partition `qfarm run` works for, and what it says where there is none of that name."""

import pytest

from qfarm.cli.run import chosen
from qfarm.errors import ConfigError
from qfarm_schemas.config import Partition

CPU = Partition(name="cpu", scheduler="slurm", slots=1)
GPU = Partition(name="gpu", scheduler="slurm", slots=1)
HERE = Partition(name="here")


def test_the_one_that_is_named() -> None:
    assert chosen((CPU, HERE), "here") is HERE
    assert chosen((CPU, GPU), "gpu") is GPU


@pytest.mark.parametrize(
    ("there", "remedy"),
    [
        (
            (CPU, GPU),
            "`qfarm launch` keeps jobs in the queues of clusters. `qfarm run --partition NAME` "
            "works on this machine for another one: cpu, gpu.",
        ),
        ((HERE,), "`qfarm run --partition NAME` works on this machine for another one: here."),
    ],
)
def test_a_farm_of_clusters_has_no_local_one(there: tuple[Partition, ...], remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(there, "local")
    assert caught.value.what == "there is no partition 'local'"
    assert caught.value.remedy == remedy
