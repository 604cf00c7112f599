"""`qfarm launch` on a real Slurm: GPUs, spilling over, MPI on two nodes, a dead node, walltimes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from pymongo import MongoClient

from qfarm.plan import Plan, plan
from qfarm.store import open_store
from qfarm_schemas.attempt import Attempt, Failure
from qfarm_schemas.config import LevelRule, Protocol, StageTemplate, TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from support import build, doubles, engines, steps, work
from support.clusters import ClusterFarm
from support.launched import START, all_done, attempts, endings, write_farm
from support.slurm import Slurm
from support.species import species_tree
from support.wait import until

PARTITION = """\
[[partitions]]
name = "{name}"
scheduler = "slurm"
queue = "{queue}"
memory_mb = 500
max_jobs = 1
submit_per_minute = 30
"""


@contextmanager
def opened(uri: str, database: str, root: Path, slurm: Slurm) -> Iterator[ClusterFarm]:
    """A farm without partitions; `partitions` writes them. Its jobs are cancelled at the end."""
    with open_store(uri, database) as store:
        farm = ClusterFarm(root, store, slurm)
        write_farm(root, uri, database, "")
        yield farm
        print(farm.tell())  # pytest shows it where the test failed
        mine = {note.scheduler_id for name in ("cpu", "gpu") for note in farm.jobs(name)} - {""}
    if mine:
        slurm.command("scancel", *mine, check=False)
        until(lambda: not mine & slurm.jobs().keys(), 30)
    slurm.resume()


@pytest.fixture
def farm(mongo_uri: str, database: str, tmp_path: Path, slurm: Slurm) -> Iterator[ClusterFarm]:
    with opened(mongo_uri, database, tmp_path, slurm) as farm:
        yield farm


def partitions(farm: ClusterFarm, queue: str = "", **tables: str) -> None:
    """Add partitions to the farm, each with lines of its own; `queue` in place of their names."""
    text = (farm.root / "qfarm.toml").read_text()
    for name, lines in tables.items():
        text += PARTITION.format(name=name, queue=queue or name) + lines
    (farm.root / "qfarm.toml").write_text(text)


def routed(
    level: LevelOfTheory, fragments: Sequence[Fragment], *before: StageTemplate
) -> list[Plan]:
    """Plans by a protocol that sends three atoms and more to the partition with GPUs."""
    rules = (LevelRule(min_atoms=3, partition="gpu", level=level), LevelRule(level=level))
    template = StageTemplate(name="single_point", task=TaskKind.SINGLE_POINT, levels=rules)
    protocol = Protocol(name="routed", stages=(*before, template))
    plans = [plan(fragment, protocol) for fragment in fragments]
    assert all(isinstance(one, Plan) for one in plans)
    return [one for one in plans if isinstance(one, Plan)]


def hydrogen(index: int) -> Fragment:
    return Fragment(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 0.7 + 0.01 * index]])


def waters(count: int) -> list[Fragment]:
    return [work.water(index) for index in range(count)]


def made(farm: ClusterFarm, plans: Sequence[Plan]) -> list[Attempt]:
    return [one for each in plans for one in attempts(farm, each.fragment.id)]


def places(found: Sequence[Attempt]) -> set[str]:
    return {one.worker.partition for one in found}


PBE0 = LevelOfTheory(
    engine="pyscf", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="intermediate"
)
GFN2 = LevelOfTheory(engine="tblite", method="GFN2-xTB", dispersion="intrinsic")
PREOPT = StageTemplate(name="preopt", task=TaskKind.OPTIMISATION, levels=(LevelRule(level=GFN2),))


SHORT_LIVES = """\
slots = 2
walltime = 44
idle_seconds = 20
prologue = ["sleep 4"]
"""
"""Of such a life a tenth goes by before anything can be claimed, as where modules take long."""

WITHOUT_GPU = """\
slots = 1
gpus = 1
idle_seconds = 2
takes_stages = ["single_point", "only_here"]
spill_to = ["cpu"]
[partitions.engines.pyscf]
by = "gpu4pyscf"
"""


class Chain(NamedTuple):
    """A farm whose jobs live shortly, and what they have to do.

    `longest` takes more than a life; of the two of `long` not both fit into one; those of `short`
    fit into what is left then.
    """

    farm: ClusterFarm
    longest: list[Plan]
    long: list[Plan]
    short: list[Plan]


@dataclass(frozen=True)
class Beside:
    """Makes farms that work beside the tests of this file, on the node that has GPUs."""

    uri: str
    slurm: Slurm
    root: Path

    @contextmanager
    def farm(
        self, names: Sequence[str], plans: Sequence[Plan], **tables: str
    ) -> Iterator[ClusterFarm]:
        database = f"test_{uuid4().hex[:12]}"
        folder = self.root / database
        folder.mkdir()
        with opened(self.uri, database, folder, self.slurm) as farm:
            partitions(farm, "gpu", **tables)
            farm.store.add(plans)
            with farm.launcher(*names, start=START):
                yield farm
        with MongoClient[dict[str, Any]](self.uri) as client:
            client.drop_database(database)


@pytest.fixture(scope="module")
def beside(mongo_uri: str, slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Beside:
    return Beside(mongo_uri, slurm, tmp_path_factory.mktemp("beside"))


@pytest.fixture(scope="module", autouse=True)
def chain(beside: Beside) -> Iterator[Chain]:
    longest = work.plans(1, steps.stage(330, time_limit=300))
    long = work.plans(2, steps.stage(130, time_limit=300), first=1)
    short = work.plans(3, steps.stage(10, time_limit=6), first=3)
    with beside.farm(["gpu"], [*longest, *long, *short], gpu=SHORT_LIVES) as farm:
        yield Chain(farm, longest, long, short)


@pytest.fixture(scope="module", autouse=True)
def without_gpu(beside: Beside) -> Iterator[tuple[ClusterFarm, list[Plan]]]:
    plans = routed(PBE0, [hydrogen(0), *waters(2)], PREOPT)
    stays = build.stage(name="only_here", level=PBE0, partition="gpu")
    others = 'slots = 1\ntakes_stages = ["preopt", "single_point"]\n'
    added, tables = (
        [*plans, work.plan_of(work.water(9), stays)],
        {"cpu": others, "gpu": WITHOUT_GPU},
    )
    with beside.farm(["cpu", "gpu"], added, **tables) as farm:
        yield farm, plans


def test_a_paused_partition_s_stages_spill_until_it_is_resumed(farm: ClusterFarm) -> None:
    two = 'slots = 2\ngpus = 2\nspill_to = ["cpu"]\nidle_seconds = 40\n'
    partitions(farm, cpu="slots = 1\nidle_seconds = 40\n", gpu=two)
    level = engines.level("devices", seconds=1.0)
    small, large = routed(level, [hydrogen(0)]), routed(level, waters(80))
    farm.store.add([*small, *large])

    def by(partition: str) -> int:
        return sum(one.worker.partition == partition for one in made(farm, large))

    def only(partition: str, other: str, stages: int) -> bool:
        """Whether the next so many stages are done by the one, and none by the other."""
        own, others = by(partition), by(other)
        until(lambda: by(partition) >= own + stages, 30)
        return by(other) == others

    with farm.launcher("cpu", start=START):
        until(lambda: made(farm, small), 60)  # a job is there, and waits for more
        assert by("cpu") == 0  # nobody launches gpu, and that alone opens it to none
        farm.qfarm("launcher", "pause", "gpu")
        until(lambda: by("cpu") >= 2, 20)
        farm.qfarm("launcher", "resume", "gpu")
        with farm.launcher("gpu", start=START):
            # a job hears of it within some seconds, and ends what it has begun
            until(lambda: only("gpu", "cpu", 2), 60)
            farm.qfarm("launcher", "pause", "gpu")
            until(lambda: only("cpu", "gpu", 2), 60)
            farm.qfarm("launcher", "resume", "gpu")
            until(lambda: only("gpu", "cpu", 6), 60)
    at_gpu = [one for one in made(farm, large) if one.worker.partition == "gpu"]
    seen = {(one.worker.name.rpartition(".")[2], one.engine_version) for one in at_gpu}
    assert seen == {("0", "sees 0"), ("1", "sees 1")}  # of the devices that Slurm gave the job
    assert places(made(farm, small)) == {"cpu"}


AIMS = LevelOfTheory(engine="aims", method="PBE0", dispersion="mbd", mbd_beta=0.85, basis="light")

RANK = """\
#!/bin/sh
echo "$SLURM_PROCID on node $SLURM_NODEID, $SLURMD_NODENAME" >>"$RANKS"
[ "$SLURM_PROCID" != 0 ] || exec {double}
"""


def test_an_engine_spreads_its_ranks_over_two_nodes(farm: ClusterFarm) -> None:
    species_tree(farm.root / "species", ("H", "O"))
    rank = farm.root / "rank.sh"
    rank.write_text(RANK.format(double=doubles.command("aims")))
    rank.chmod(0o755)
    aims = (
        "[partitions.engines.aims]\nranks = 4\nparameters = 'species'\n"
        f"command = 'srun -n {{ranks}} {rank}'\n"
        f"environment = {{ RANKS = '{farm.root}/ranks' }}\n"
    )
    partitions(farm, cpu="slots = 1\nnodes = 2\nidle_seconds = 2\n" + aims)
    plans = [work.plan_of(work.water(0), build.stage(level=AIMS))]
    farm.store.add(plans)
    with farm.launcher("cpu", start=START):
        until(lambda: all_done(farm), 90)
        until(lambda: not farm.jobs("cpu"), 40)
    (found,) = made(farm, plans)
    assert endings([found]) == ["success"]
    assert found.environment is not None
    assert found.environment.node_list == "c[1-2]"
    ranks = (farm.root / "ranks").read_text().splitlines()
    assert sorted(ranks[-4:]) == [  # the others are of the self-test
        "0 on node 0, c1",
        "1 on node 0, c1",
        "2 on node 1, c2",
        "3 on node 1, c2",
    ]
    assert len(ranks) == 8


def test_what_a_dead_node_had_goes_on_elsewhere(farm: ClusterFarm, slurm: Slurm) -> None:
    gate = farm.root / "gate"
    partitions(farm, cpu="slots = 1\nidle_seconds = 2\n")
    plans = [work.plan_of(work.water(0), engines.stage("gated", options={"gate": str(gate)}))]
    farm.store.add(plans)
    with farm.launcher("cpu", start=START):
        until(gate.with_suffix(".pid").exists, 60)
        (job,) = farm.jobs("cpu")
        slurm.kill_node(job.host)
        for process in slurm.processes_of(job.scheduler_id):
            process.kill()
        slurm.node_down(job.host)
        until(lambda: made(farm, plans), 90)
        gate.touch()
        until(lambda: all_done(farm), 60)
    slurm.start_node(job.host)
    lost, found = made(farm, plans)
    assert isinstance(lost.outcome, Failure)
    assert lost.outcome.kind is FailureKind.LOST_WORKER
    assert "the node of the batch job failed" in lost.outcome.cause
    assert found.worker.host not in ("", job.host)
    ended = next(note for note in farm.jobs("cpu", ended=True) if note.name == job.name)
    assert "NODE_FAIL" in ended.why


def test_a_gpu_partition_without_a_gpu_closes_and_its_stages_spill(
    without_gpu: tuple[ClusterFarm, list[Plan]],
) -> None:
    farm, plans = without_gpu
    until(lambda: len(made(farm, plans)) == 3, 120)
    single, gpu, jobs = made(farm, plans), farm.status("gpu"), farm.jobs("gpu", ended=True)
    assert endings(single) == ["success"] * 3
    assert {one.level_id for one in single} == {PBE0.id}
    assert places(single) == {"cpu"}
    assert (gpu["state"], gpu["ready"]) == ("refused", 1)  # what may not spill waits
    assert "pyscf fails with water: gpu4pyscf cannot be loaded" in gpu["why"]
    assert "pip install 'qfarm[gpu]'" in gpu["why"]
    assert "closed" in farm.qfarm("launcher", "logs", "gpu", "-n", "100")
    assert sum(job.ended is not None for job in jobs) >= 3
    assert sum(job.attempts for job in jobs) == 0


def test_a_chain_of_jobs_finishes_what_is_longer_than_each(chain: Chain) -> None:
    farm = chain.farm
    until(lambda: all_done(farm), 120)
    first, second = (job.name for job in farm.jobs("gpu", ended=True))
    (once, again), short = made(farm, chain.longest), made(farm, chain.short)
    assert endings([once, again]) == ["walltime", "success"]
    assert (once.worker.job, again.worker.job) == (first, second)
    assert again.rung == once.rung  # it cost the chemistry nothing
    assert again.continued_from == 1
    assert int(again.engine_version.removeprefix("from ")) > 100
    early, late = made(farm, chain.long)
    assert endings([early, late]) == ["success"] * 2
    assert (early.worker.job, late.worker.job) == (first, second)
    assert endings(short) == ["success"] * 3
    assert {one.worker.job for one in short} == {first}
    assert min(one.started for one in short) > early.finished  # `late` was before them in line
