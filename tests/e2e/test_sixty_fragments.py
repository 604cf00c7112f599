"""60 fragments on a live Slurm of two partitions, with real engines, while much goes wrong.

One story in order, because what it needs of time is a job that reaches its walltime (a minute).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from chaos import whole
from qfarm.store import open_store
from qfarm.store.protocol import StageState
from qfarm_schemas.attempt import Attempt, Failure
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from support.clusters import QFARM, ClusterFarm, kill, line, planned
from support.slurm import Slurm
from support.wait import until

pytestmark = pytest.mark.timeout(600)

CONFIG = """\
keep_scratch = "never"
[mongo]
uri_file = "mongo.uri"
database = "{database}"
[lease]
seconds = 20
heartbeat = 5
[[partitions]]
name = "cpu"
scheduler = "slurm"
queue = "cpu"
slots = 2
memory_mb = 1000
walltime = "00:08:00"
max_jobs = 1
submit_per_minute = 30
idle_seconds = 8
[[partitions]]
name = "gpu"
scheduler = "slurm"
queue = "gpu"
gpus = 1
slots = 1
memory_mb = 1000
walltime = "00:08:00"
max_jobs = 1
submit_per_minute = 30
idle_seconds = 8
"""

PROTOCOL = """\
name = "cluster"
[[stages]]
name = "preopt"
task = "optimisation"
time_limit = 60.0
[[stages.levels]]
[stages.levels.level]
engine = "tblite"
method = "GFN2-xTB"
dispersion = "intrinsic"
basis = "none"
[[stages]]
name = "single_point"
task = "single-point"
time_limit = 120.0
[[stages.levels]]
min_atoms = 3
partition = "gpu"
{larger}
[[stages.levels]]
{level}
"""

LEVEL = """\
[stages.levels.level]
engine = "pyscf"
method = "PBE0"
dispersion = "mbd"
mbd_beta = 0.85
basis = "intermediate"
"""
"""The larger ones are computed with a larger basis, so that a job has work for its minute."""

HYDROGEN, WATER, DIMERS, TRIMERS = 32, 8, 6, 14


def fragments() -> list[Fragment]:
    """Stretched hydrogen, for any partition, and water and its clusters, for the one with GPUs."""
    small = [
        Fragment(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 0.65 + 0.01 * i]])
        for i in range(HYDROGEN)
    ]
    one = [[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]]
    water = [
        Fragment(numbers=[8, 1, 1], positions=[*one[:2], [0.0, -0.72 - 0.004 * i, -0.469]])
        for i in range(WATER)
    ]
    clusters = [
        Fragment(
            numbers=[8, 1, 1] * size,
            positions=[[x, y, z - k * (2.9 + 0.02 * i)] for k in range(size) for x, y, z in one],
        )
        for size, count in ((2, DIMERS), (3, TRIMERS))
        for i in range(count)
    ]
    return [*small[:8], *clusters, *water, *small[8:]]


@pytest.fixture
def farm(mongo_uri: str, database: str, tmp_path: Path, slurm: Slurm) -> Iterator[ClusterFarm]:
    (tmp_path / "qfarm.toml").write_text(CONFIG.format(database=database))
    larger = LEVEL.replace("intermediate", "tight")
    (tmp_path / "protocol.toml").write_text(PROTOCOL.format(level=LEVEL, larger=larger))
    address = tmp_path / "mongo.uri"
    address.touch(0o600)
    address.write_text(mongo_uri)
    slurm.resume()
    slurm.wait_idle()
    with open_store(mongo_uri, database) as store:
        farm = ClusterFarm(tmp_path, store, slurm)
        yield farm
        print(farm.tell())  # pytest shows it where the test failed
    slurm.command("scancel", "--user", str(os.getuid()), check=False)
    slurm.resume()
    slurm.wait_idle()


def xyz(some: list[Fragment]) -> str:
    names = {1: "H", 8: "O"}
    frames = []
    for fragment in some:
        atoms = zip(fragment.numbers, fragment.positions, strict=True)
        rows = [" ".join([names[int(z)], *(repr(float(x)) for x in at)]) for z, at in atoms]
        frames.append("\n".join([str(len(rows)), "charge=0 multiplicity=1", *rows]))
    return "\n".join(frames) + "\n"


def attempts(farm: ClusterFarm, ids: list[str]) -> list[Attempt]:
    views = [farm.store.view(identity) for identity in ids]
    return [one for view in views for made in view.attempts.values() for one in made]


def failures(made: list[Attempt], kind: FailureKind) -> list[Attempt]:
    return [one for one in made if isinstance(one.outcome, Failure) and one.outcome.kind is kind]


def test_sixty_fragments_through_what_clusters_do(
    farm: ClusterFarm, mongo_uri: str, database: str
) -> None:
    slurm, plans = farm.slurm, planned(fragments(), farm.root / "protocol.toml")
    (farm.root / "all.xyz").write_text(xyz([one.fragment for one in plans]))
    farm.qfarm("submit", "all.xyz", "--protocol", "protocol.toml")
    slurm.command("scontrol", "update", "nodename=c1", "state=drain", "reason=test")

    with farm.launcher("cpu", "gpu") as first:
        # the only node of the CPU partition fails everything but the self-test
        until(lambda: len(failures(_made(farm, plans), FailureKind.CRASHED)) >= 3, 60)
        second = farm.run(QFARM, "launch", "cpu")
        assert second.returncode == 1
        assert f"is launched by process {first.pid}" in second.stderr
        slurm.resume("c1")
        gpu = farm.job_at_work("gpu")
        slurm.kill_controller()
        until(lambda: "gives no answer" in str(farm.status("cpu")["why"]), 40)
        slurm.start_controller()
        slurm.wait_known()
        slurm.resume()
        # the batch system ends this job, in whose view it has more time, after a minute of life;
        # asked for before, a controller that is killed may have forgotten it
        slurm.command("scontrol", "update", f"jobid={gpu.scheduler_id}", "timelimit=1")
        kill(first)

    with farm.launcher("cpu", "gpu"):
        assert farm.status("gpu")["launcher"].endswith(str(_pid(farm)))
        adopted = {note.name for note in farm.jobs("gpu")}
        assert gpu.name in adopted or _ended(farm, "gpu", gpu.name)
        until(lambda: farm.at_work("cpu", on="c1"), 90)
        cancelled = farm.at_work("cpu", on="c1")
        assert cancelled is not None
        slurm.command("scancel", cancelled.scheduler_id)
        until(lambda: farm.suspects() == ["c2"], 90)
        until(lambda: _done(farm), 240)
        until(lambda: not farm.jobs("cpu") and not farm.jobs("gpu"), 60)

    made = _made(farm, plans)
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        found = whole.check(client[database], [line(one) for one in plans])
    print(found.report())
    assert found.violations == {}
    assert found.figures["records"] == 2 * len(plans) == 120
    by_stage = {(one.stage, one.worker.partition) for one in made}
    assert {("preopt", "cpu"), ("preopt", "gpu"), ("single_point", "cpu")} <= by_stage
    waters = {one.fragment.id for one in plans if one.fragment.n_atoms >= 3}
    assert {
        one.worker.partition
        for one in made
        if one.stage == "single_point" and one.fragment_id in waters
    } == {"gpu"}
    assert all(one.worker.host in ("c1", "c2", "g1") for one in made)
    lost = [one for one in farm.jobs("gpu", ended=True) if one.name == gpu.name]
    assert [one.ended is not None for one in lost] == [True]
    assert _last_of(made, gpu.name) in (FailureKind.WALLTIME, FailureKind.INTERRUPTED)
    text = farm.qfarm("launcher", "status")
    assert "c2" in text
    assert "went well on" in text
    last = [one for one in farm.jobs("cpu", ended=True) if one.host][-1]
    assert last.host == "c1"
    assert made[0].environment is not None
    assert made[0].environment.scheduler_job
    assert "0 rules broken" in found.report()


def _made(farm: ClusterFarm, plans: list[Any]) -> list[Attempt]:
    return attempts(farm, [one.fragment.id for one in plans])


def _last_of(made: list[Attempt], job: str) -> FailureKind | None:
    """How the last attempt of a job failed; None: it did not."""
    last = max((one for one in made if one.worker.job == job), key=lambda one: one.finished)
    return last.outcome.kind if isinstance(last.outcome, Failure) else None


def _done(farm: ClusterFarm) -> bool:
    states = {count.state for count in farm.store.counts() if count.count}
    assert StageState.FAILED not in states
    return states == {StageState.DONE}


def _pid(farm: ClusterFarm) -> int:
    launcher = farm.store.fleet.standing("gpu").launcher
    assert launcher is not None
    return launcher.pid


def _ended(farm: ClusterFarm, partition: str, name: str) -> bool:
    return any(one.name == name and one.ended for one in farm.jobs(partition, ended=True))
