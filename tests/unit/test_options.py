"""What a batch job is told: what its scheduler granted holds, whatever the file says meanwhile."""

from pathlib import Path

import pytest

from qfarm.config import Farm
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_workers.options import arguments, as_granted, ends, farm_with, options

USUAL = ("no-scheduler", "--name", "cpu-1", "--nthreads", "8", "--memory-limit", "15.74GiB")
NAMED = ("--farm", "/farm", "--partition", "cpu", "--job", "cpu-1", "--began", "1000")
SUBMITTED = Partition(
    name="cpu", walltime=3600, slots=4, threads=2, memory_mb=900, gpus=2, nodes=3, idle_seconds=5
)
NOW = Partition(name="cpu", walltime=86400, slots=40, threads=20, memory_mb=90_000, idle_seconds=7)


def test_the_words_are_whole_numbers_where_they_are_whole() -> None:
    assert " ".join(arguments(SUBMITTED)) == (
        "--walltime 3600 --slots 4 --threads 2 --memory-mb 900 --gpus 2 --nodes 3"
    )
    assert arguments(Partition(walltime=5.5))[:2] == ["--walltime", "5.5"]
    assert arguments(Partition())[:2] == ["--walltime", "none"]


@pytest.mark.parametrize("walltime", [None, 3600.0, 5.5, 1e7 + 0.25])
def test_what_was_granted_holds_and_all_else_is_as_the_file_says(walltime: float | None) -> None:
    submitted = SUBMITTED.model_copy(update={"walltime": walltime})
    given = options([*USUAL, *NAMED, *arguments(submitted)])
    assert as_granted(NOW, given) == submitted.model_copy(update={"idle_seconds": 7})


def test_without_them_the_file_holds() -> None:
    given = options([*USUAL, *NAMED])
    assert as_granted(NOW, given) == NOW
    assert (given.farm, given.partition, given.job) == (Path("/farm"), "cpu", "cpu-1")


def test_the_batch_system_ends_the_job_at_the_end_of_what_was_granted() -> None:
    given = options([*NAMED, *arguments(SUBMITTED)])
    partition = as_granted(NOW, given)
    assert ends(given, partition, {}) == 4600.0
    assert ends(given, partition, {"QFARM_JOB_ENDS": "4321"}) == 4321.0
    assert ends(given, partition.model_copy(update={"walltime": None}), {}) is None


def test_the_farm_has_the_job_s_own_partition() -> None:
    gpu = Partition(name="gpu")
    farm = Farm(Path("/farm"), FarmConfig(partitions=(NOW, gpu)))
    assert farm_with(farm, SUBMITTED).config.partitions == (SUBMITTED, gpu)
    gone = Farm(Path("/farm"), FarmConfig(partitions=(gpu,)))
    assert farm_with(gone, SUBMITTED).config.partitions == (gpu, SUBMITTED)
