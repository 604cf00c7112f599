"""`qfarm status` says which ready stages no partition takes; which wait is no fault."""

import json
from datetime import timedelta
from pathlib import Path

from qfarm.store.fleet import Gate
from qfarm_schemas.attempt import Worker
from qfarm_workers.identity import this_process
from support.farm import Desk, desk
from support.work import PREOPT, SINGLE_POINT, finish, give_up, plan_of, plans, take, water

__all__ = ["desk"]

CPU = """
[[partitions]]
name = "cpu"
scheduler = "slurm"
{more}
"""
GPU = CPU.replace("cpu", "gpu")
ON_GPU = PREOPT.model_copy(update={"partition": "gpu"})


def told(desk: Desk, *partitions: str) -> list[str]:
    Path("qfarm.toml").write_text("".join(one.format(more="") for one in partitions))
    return list(json.loads(desk.run("status", "--json").raw)["untaken"])


def test_a_partition_that_there_is_not(desk: Desk) -> None:
    desk.store.add([*plans(3, ON_GPU), *plans(4, PREOPT, first=10)])
    assert told(desk, CPU) == [
        "3 stages 'preopt' (engine tblite): must run in partition 'gpu', which qfarm.toml does not "
        "have; add it, or correct the protocol and submit the files again"
    ]
    assert told(desk, CPU, GPU) == []


def test_only_what_is_ready_counts(desk: Desk) -> None:
    single = SINGLE_POINT.model_copy(update={"partition": "gpu"})
    desk.store.add(plans(1, PREOPT, single))
    assert told(desk, CPU) == []
    finish(desk.store, take(desk.store))
    assert [line.partition(":")[0] for line in told(desk, CPU)] == [
        "1 stage 'single_point' (engine pyscf)"
    ]


def launch(desk: Desk, partition: str, by: Worker, seconds: float = 60.0) -> str:
    """Launch a partition, and look after it once; the token of its lease."""
    token = desk.store.fleet.take(partition, by, seconds)
    assert desk.store.fleet.keep(partition, token, seconds, {}) is not None
    return token


def process(host: str | None = None, alive: bool = True) -> Worker:
    """This process, on another host or as it were one that has ended."""
    me = this_process("launch-1", host=host)
    return me if alive else me.model_copy(update={"started": me.started - timedelta(days=1)})


def test_a_partition_of_another_cluster_may_take_it(desk: Desk) -> None:
    """Even while that cluster is down for maintenance, which lasts a day."""
    desk.store.add([*plans(1, ON_GPU), *plans(1, PREOPT, first=10)])
    token = launch(desk, "gpu", process("login2"))
    assert told(desk, CPU) == []
    desk.store.fleet.leave("gpu", token)
    assert told(desk, CPU) == []


def test_a_partition_that_was_renamed_takes_nothing_any_more(desk: Desk) -> None:
    """Its document stays in the database, but no launcher comes back to it."""
    desk.store.add(plans(1, ON_GPU))
    desk.store.fleet.ask("gpu", Gate.OPEN)
    missing = ["1 stage 'preopt' (engine tblite): must run in partition 'gpu', which qfarm.toml"]
    assert [line[: len(missing[0])] for line in told(desk, CPU)] == missing
    launch(desk, "gpu", process())
    assert told(desk, CPU) == []
    desk.store.fleet.take("gpu", process(alive=False), 60.0, free=True)
    assert [line[: len(missing[0])] for line in told(desk, CPU)] == missing


def test_what_its_scheduler_has_closed_is_not_for_the_user_to_open(desk: Desk) -> None:
    desk.store.add(plans(1, PREOPT))
    token = launch(desk, "cpu", process("login2"))
    desk.store.fleet.refuse("cpu", "partition cpu is down")
    assert told(desk, CPU) == [
        "1 stage 'preopt' (engine tblite): wait for 'cpu', which can do no work now (partition cpu "
        "is down) and opens by itself"
    ]
    desk.store.fleet.ask("cpu", Gate.PAUSED)
    assert "(`qfarm launcher resume`)" in told(desk, CPU)[0]
    desk.store.fleet.ask("cpu", Gate.OPEN)
    desk.store.fleet.leave("cpu", token)  # nobody looks any more whether it is down
    assert told(desk, CPU) == []


def test_what_no_partition_serves_and_what_is_closed(desk: Desk) -> None:
    desk.store.add([plan_of(water(1), PREOPT)])
    assert told(desk, CPU.replace("{more}", 'takes_stages = ["single_point"]')) == [
        "1 stage 'preopt' (engine tblite): no partition takes them; correct takes_stages and "
        "takes_engines of one in qfarm.toml"
    ]
    desk.store.fleet.ask("cpu", Gate.PAUSED)
    assert told(desk, CPU) == [
        "1 stage 'preopt' (engine tblite): wait for 'cpu', closed now; open it again "
        "(`qfarm launcher resume`)"
    ]
    assert told(desk, CPU, GPU) == []


def test_people_read_it_above_the_next_step(desk: Desk) -> None:
    desk.store.add(plans(2, ON_GPU))
    Path("qfarm.toml").write_text(CPU.format(more=""))
    *_, line, following = desk.run("status").out.splitlines()
    assert line.startswith("2 stages 'preopt' (engine tblite): must run in partition 'gpu'")
    assert following == "Next: 2 stages to compute: qfarm launch"


def test_who_submits_or_retries_on_a_cluster_is_told_to_launch(desk: Desk) -> None:
    Path("qfarm.toml").write_text(CPU.format(more=""))
    path = desk.file("3\ncharge=0 multiplicity=1\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n")
    assert desk.run("submit", path).err.endswith("submitted. Next: qfarm launch\n")
    give_up(desk.store, take(desk.store))
    retried = desk.run("retry", "--all-failed", "--yes")
    assert retried.err.endswith("1 stage will be tried again. Next: qfarm launch\n")
