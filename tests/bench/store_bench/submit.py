"""Submission: `Store.add` against FireWorks' `add_wf` and `bulk_add_wfs`."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

from bench.store_bench import drivers, farm
from bench.store_bench.figures import interleaved, ratio
from bench.store_bench.molecule import plans

SINGLE = 100
"""Workflows that go through add_wf in a round; it takes some 10 ms for each."""

WANTED = 2.0


def measure(bench: farm.Bench) -> None:
    """Rates of each, and the goal."""
    bench.report.section("submit: two-stage workflows a second, one process")
    bench.report.say(
        "Both get objects made before; 'with making' adds their making (ours: validated, hashed\n"
        "fragments and plan keys). The specs of FireWorks' fireworks are copies of ours."
    )
    for count in bench.scale.submit:
        _compare(bench, count)


def _compare(bench: farm.Bench, count: int) -> None:
    works: dict[str, Callable[[], float]] = {
        "Store.add": lambda: _ours(bench.uri, count, making=False),
        "bulk_add_wfs": lambda: _bulk(bench.uri, count, making=False),
        "Store.add, with making": lambda: _ours(bench.uri, count, making=True),
        "bulk_add_wfs, with making": lambda: _bulk(bench.uri, count, making=True),
    }
    if count == min(bench.scale.submit):
        works[f"add_wf ({SINGLE} of them)"] = lambda: _single(bench.uri)
    found = interleaved(bench.scale.repeats, works)
    for name, rates in found.items():
        bench.report.figure(f"{count:,}: {name}", rates, "wf/s")
    for suffix in ("", ", with making"):
        ours, theirs = found[f"Store.add{suffix}"], found[f"bulk_add_wfs{suffix}"]
        name = f"{count:,}: Store.add / bulk_add_wfs{suffix}"
        if suffix:
            bench.report.figure(name, [ratio(ours, theirs)], "x", "paired median, for information")
        else:
            bench.report.goal(name, ratio(ours, theirs), WANTED)


def _ours(uri: str, count: int, making: bool) -> float:
    made = plans(count)
    store = farm.store_of(uri, "submit")
    with farm.mongo(uri, "submit") as database:
        for name in ("fragments", "stages", "workflows", "fireworks"):
            database[name].delete_many({})
    seconds = farm.timed(lambda: store.add(plans(count) if making else made))
    return count / seconds


def _bulk(uri: str, count: int, making: bool) -> float:
    launchpad = drivers.launchpad(uri, "submit_fireworks")
    made = [] if making else drivers.workflows(uri, count)
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        launchpad.reset("", require_password=False, max_reset_wo_password=10**9)
        seconds = farm.timed(
            lambda: launchpad.bulk_add_wfs(drivers.workflows(uri, count) if making else made)
        )
    launchpad.connection.close()
    return count / seconds


def _single(uri: str) -> float:
    launchpad = drivers.launchpad(uri, "submit_fireworks")
    made = drivers.workflows(uri, SINGLE)
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        launchpad.reset("", require_password=False, max_reset_wo_password=10**9)
        seconds = farm.timed(lambda: [launchpad.add_wf(workflow) for workflow in made])
    launchpad.connection.close()
    return SINGLE / seconds
