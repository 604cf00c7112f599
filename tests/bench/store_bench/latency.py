"""Latency of one claim by the length of the queue."""

import statistics
from functools import partial
from time import perf_counter

from bench.store_bench import farm
from bench.store_bench.figures import percentile
from bench.store_bench.molecule import plans

WANTED = 1.5
SLOW_FILL = 400.0
"""s: a fill by `Store.add` that would take longer is done by raw inserts."""

PRIORITIES = (0, 3, 5, 7, 9)
PARTITIONS = (None, "local", "gpu")
MIXED = "several priorities and partitions"

Latencies = dict[str, list[float]]


def name_of(depth: int) -> str:
    """Database with so many ready stages."""
    return f"depth_{depth}"


def prepare(bench: farm.Bench, depth: int) -> None:
    """Fill a database with so many ready stages, unless it is there."""
    name, uri = name_of(depth), bench.uri
    with farm.mongo(uri, name) as database:
        if database["fireworks"].find_one() is not None:
            return
    head = min(depth, 20_000)
    seconds = farm.fill(uri, name, head)
    raw = 0
    if depth > head and seconds / head * (depth - head) > SLOW_FILL:
        raw = depth - head
        seconds += farm.fill_raw(uri, name, raw)
    elif depth > head:
        seconds += farm.fill(uri, name, depth - head, head)
    how = f"{depth - raw:,} workflows by Store.add" + (f", {raw:,} raw copies" if raw else "")
    bench.report.figure(f"fill: {depth:,} ready", [seconds], "s", how)


def measure(bench: farm.Bench) -> None:
    """Median and p95 at each depth, and the goal."""
    bench.report.section("latency of one claim")
    for depth in bench.scale.depths:
        prepare(bench, depth)
    _fill_mixed(bench)
    names = {f"{depth:,} ready": name_of(depth) for depth in bench.scale.depths}
    mixed = {f"{bench.scale.depths[1]:,} ready, {MIXED}": MIXED.replace(" ", "_")}
    _report(bench, _claims(bench, names | mixed), "")
    _examined(bench, names | mixed)
    _take_head(bench)
    ends = [bench.scale.depths[0], bench.scale.depths[-1]]
    taken = {f"{depth:,} ready": name_of(depth) for depth in ends}
    _report(bench, _claims(bench, taken), ", head taken")
    _examined(bench, taken)


def _fill_mixed(bench: farm.Bench) -> None:
    """Ready stages of several priorities and partitions, in turn."""
    store = farm.store_of(bench.uri, MIXED.replace(" ", "_"))
    kinds = [(priority, partition) for priority in PRIORITIES for partition in PARTITIONS]
    part = -(-bench.scale.depths[1] // len(kinds))
    for number, (priority, partition) in enumerate(kinds):
        for start in range(0, part, farm.BLOCK):
            size = min(farm.BLOCK, part - start)
            store.add(plans(size, number * part + start, partition), priority)


def _claims(bench: farm.Bench, databases: dict[str, str]) -> Latencies:
    """Claims in turn at every depth; seconds of each."""
    stores = {label: farm.store_of(bench.uri, name) for label, name in databases.items()}
    found: Latencies = {label: [] for label in stores}
    for store in stores.values():
        farm.take(store)
    for _ in range(bench.scale.claims):
        for label, store in stores.items():
            began = perf_counter()
            farm.take(store)
            found[label].append(perf_counter() - began)
    return found


def _examined(bench: farm.Bench, databases: dict[str, str]) -> None:
    """How many index keys a claim looks at, by the profiler."""
    for label, name in databases.items():
        work = partial(farm.take, farm.store_of(bench.uri, name))
        found = farm.queries_of(bench.uri, name, work)
        first = next(query for query in found if query.collection == "fireworks")
        bench.report.fact(f"  first query of a claim, {label}", str(first))


def _take_head(bench: farm.Bench) -> None:
    depth = bench.scale.depths[-1]
    store = farm.store_of(bench.uri, name_of(depth))
    seconds = farm.timed(lambda: farm.take_many(store, bench.scale.taken))
    name = f"take {bench.scale.taken:,} from the head of {depth:,}"
    bench.report.figure(name, [seconds], "s")


def _report(bench: farm.Bench, found: Latencies, note: str) -> None:
    for label, seconds in found.items():
        ms = [1000 * value for value in seconds]
        bench.report.fact(
            f"{label}{note}",
            f"median {statistics.median(ms):.2f} ms, p95 {percentile(ms, 0.95):.2f} ms, "
            f"n={len(ms)}",
        )
    labels = [label for label in found if MIXED not in label]
    first, last = (statistics.median(found[label]) for label in (labels[0], labels[-1]))
    bench.report.goal(f"latency at {labels[-1]} / {labels[0]}{note}", last / first, WANTED, True)
