"""`qfarm launcher` on what the database says of partitions; no scheduler is asked."""

import json
from pathlib import Path
from secrets import token_hex
from typing import Any

from qfarm.config import Farm
from qfarm.store.fleet import Gate, JobNote, JobState
from qfarm_launchers.cluster import DIGITS
from qfarm_launchers.keeper import order_of
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_workers.identity import this_process
from support.farm import Desk, desk

__all__ = ["desk"]

CPU = """
[[partitions]]
name = "cpu"
scheduler = "slurm"
"""
DOWN = "partition cpu is down"


def launch(desk: Desk, partition: str) -> str:
    """Launch a partition; the token of its lease."""
    Path("qfarm.toml").write_text(CPU)
    token = desk.store.fleet.take(partition, this_process("launch-1"), 60.0)
    assert desk.store.fleet.keep(partition, token, 60.0, {"why": "enough jobs"}) is not None
    return token


def row(desk: Desk) -> dict[str, Any]:
    """What is shown of the only partition."""
    (found,) = json.loads(desk.run("launcher", "status", "--json").raw)["partitions"]
    return dict(found)


def test_resume_opens_no_partition_that_its_scheduler_has_closed(desk: Desk) -> None:
    token = launch(desk, "cpu")
    assert desk.run("launcher", "resume").out == "cpu is open"
    desk.store.fleet.refuse("cpu", DOWN)
    assert desk.run("launcher", "resume").out == (
        "cpu is open, but can do no work now (partition cpu is down); it goes on by itself when it "
        "can"
    )
    assert desk.run("launcher", "pause").out == "cpu is paused: `qfarm launcher resume` goes on"
    desk.run("launcher", "resume")
    desk.store.fleet.leave("cpu", token)
    assert desk.run("launcher", "resume").out == "cpu is open"


def test_a_launcher_that_has_ended_refuses_nothing(desk: Desk) -> None:
    token = launch(desk, "cpu")
    desk.store.fleet.refuse("cpu", DOWN)
    assert (row(desk)["state"], row(desk)["why"]) == ("refused", DOWN)
    desk.store.fleet.leave("cpu", token)
    assert (row(desk)["state"], row(desk)["why"], row(desk)["alive"]) == ("open", "", False)
    assert desk.store.fleet.standing("cpu").closed, "its stages may go on spilling to others"


def test_gates_of_a_partition_that_qfarm_toml_no_longer_has(desk: Desk) -> None:
    launch(desk, "gpu")
    for word, gate in (
        ("drain", Gate.DRAINING),
        ("pause", Gate.PAUSED),
        ("resume", Gate.OPEN),
        ("stop", Gate.STOPPING),
    ):
        said = desk.run("launcher", word, "gpu", "cpu" if word != "stop" else "gpu")
        assert (said.code, said.out.splitlines()[0][:4]) == (0, "gpu "), said
        assert desk.store.fleet.standing("gpu").gate is gate
    assert said.out == "gpu stops: its jobs are ended, then its launcher"
    said = desk.run("launcher", "stop", "--keep-jobs", "gpu")
    assert said.out == "the launcher of gpu ends within seconds; its jobs go on"
    wrong = desk.run("launcher", "pause", "cpu", "gqu")
    assert (wrong.code, "there is no partition 'gqu'" in wrong.err) == (1, True)
    assert desk.store.fleet.standing("cpu").gate is Gate.OPEN, "all names are right, or none counts"


def test_without_names_partitions_of_others_are_left_alone(desk: Desk) -> None:
    launch(desk, "gpu")
    desk.run("launcher", "pause")
    gates = {one.name: one.gate for one in desk.store.fleet.standings()}
    assert gates == {"cpu": Gate.PAUSED, "gpu": Gate.OPEN}


def test_stop_says_what_is_left_to_do_where_the_scheduler_is_not_known(desk: Desk) -> None:
    desk.store.fleet.leave("gpu", launch(desk, "gpu"))
    said = desk.run("launcher", "stop", "gpu")
    assert said.code == 0
    assert said.out.splitlines() == [
        "gpu is not in qfarm.toml, so its jobs cannot be cancelled from here: those that run end "
        "by themselves when they have finished what they do",
        "Cancel the others with the scheduler's own command (scancel, qdel, bkill, condor_rm, "
        "oardel): their names begin with 'gpu-'",
    ]
    assert desk.store.fleet.standing("gpu").gate is Gate.STOPPING
    desk.store.fleet.note(JobNote("gpu-1f3a9c", "gpu", JobState.PENDING, "4711"))
    *_, line = desk.run("launcher", "stop", "gpu").out.splitlines()
    assert line.endswith("begin with 'gpu-'; known are gpu-1f3a9c (4711)")


def test_the_beginning_of_its_jobs_names_is_that_of_names_that_launchers_give(desk: Desk) -> None:
    """Names are cut short to hold the digits: with fewer digits it would be a longer one."""
    partition = Partition(name="a_long_partition", scheduler="slurm")
    desk.store.fleet.leave(partition.name, launch(desk, partition.name))
    farm = Farm(desk.folder, FarmConfig(partitions=(partition,)))
    name = order_of(farm, partition, token_hex(DIGITS // 2)).name
    said = desk.run("launcher", "stop", partition.name).out
    assert f"names begin with {name[:-DIGITS]!r}" in said
