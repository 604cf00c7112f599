"""The large farm: reaper pass, status queries and size on disk when the queue is long."""

from collections.abc import Callable

from bench.store_bench import farm, latency
from bench.store_bench.molecule import WORKER, plans
from qfarm.store.mongo import MongoStore

KNOWN = 500
REAPER = WORKER.model_copy(update={"name": "reaper"})
LOST = WORKER.model_copy(update={"name": "lost"})
MB = 1e6
SLOW_REPEATS = 3


def measure(bench: farm.Bench) -> None:
    """All figures at the greatest depth."""
    depth = bench.scale.depths[-1]
    bench.report.section(f"the large farm: {depth:,} workflows of two stages")
    latency.prepare(bench, depth)
    store = farm.store_of(bench.uri, latency.name_of(depth))
    _see_running(bench, store)
    _reaper(bench, store)
    _status(bench, store)
    _plans(bench, store)
    _sizes(bench, latency.name_of(depth))


def _see_running(bench: farm.Bench, store: MongoStore) -> None:
    """Claim stages until so many run as shall be looked after."""
    running = sum(item.count for item in store.counts() if item.state.value == "running")
    if (lacking := bench.scale.taken - running) > 0:
        farm.take_many(store, lacking)


def _reaper(bench: farm.Bench, store: MongoStore) -> None:
    report, taken, lost = bench.report, bench.scale.taken, bench.scale.lost
    nobody = [
        farm.timed(lambda: list(store.take_over(lambda _: False, REAPER)))
        for _ in range(bench.scale.repeats)
    ]
    report.figure(f"reaper pass, {taken:,} running, nobody lost", nobody, "s")
    some, found = [], []
    for _ in range(SLOW_REPEATS):
        farm.take_many(store, lost, LOST)
        seconds = farm.timed(
            lambda: found.append(
                len(list(store.take_over(lambda worker: worker.name == "lost", REAPER)))
            )
        )
        some.append(seconds)
    assert found == [lost] * SLOW_REPEATS, found
    report.figure(f"reaper pass, {taken:,} running, {lost} lost and taken over", some, "s")


def _status(bench: farm.Bench, store: MongoStore) -> None:
    keys = [plan.key for plan in plans(KNOWN // 2)]
    keys += [plan.key for plan in plans(KNOWN // 2, first=10**9)]
    works: dict[str, tuple[Callable[[], object], int]] = {
        "counts": (store.counts, SLOW_REPEATS),
        "workflow_counts": (store.workflow_counts, SLOW_REPEATS),
        "busy, partition with ready stages": (lambda: store.busy("local"), bench.scale.repeats),
        f"known, {KNOWN} keys, half of them there": (
            lambda: store.known(keys),
            bench.scale.repeats,
        ),
        "running": (store.running, SLOW_REPEATS),
    }
    for name, (work, repeats) in works.items():
        seconds = [farm.timed(work) for _ in range(repeats)]
        bench.report.figure(name, [1000 * value for value in seconds], "ms")
    for item in store.counts():
        bench.report.fact(f"stages: {item.stage} {item.state.value}", f"{item.count:,}")


def _plans(bench: farm.Bench, store: MongoStore) -> None:
    """How MongoDB finds what these ask for."""
    works: dict[str, Callable[[], object]] = {
        "reaper": lambda: list(store.take_over(lambda _: False, REAPER)),
        "counts": store.counts,
        "workflow_counts": store.workflow_counts,
        "busy": lambda: store.busy("local"),
        "running": store.running,
    }
    name = latency.name_of(bench.scale.depths[-1])
    for label, work in works.items():
        for query in farm.queries_of(bench.uri, name, work):
            bench.report.fact(f"  query of {label} in {query.collection}", str(query))


def _sizes(bench: farm.Bench, name: str) -> None:
    """Documents and megabytes on disk, by collection, after a checkpoint."""
    with farm.mongo(bench.uri, name) as database:
        database.client.admin.command("fsync")
        for collection in sorted(database.list_collection_names()):
            stats = database.command("collStats", collection)
            bench.report.fact(
                f"  {collection}",
                f"{stats['count']:,} documents of {stats.get('avgObjSize', 0):,.0f} B, "
                f"{stats['storageSize'] / MB:,.1f} MB, indexes "
                f"{stats['totalIndexSize'] / MB:,.1f} MB",
            )
            for index, size in sorted(stats["indexSizes"].items(), key=lambda item: -item[1]):
                if size > 0.1 * stats["totalIndexSize"] and size > MB:
                    bench.report.fact(f"    index {index}", f"{size / MB:,.1f} MB")
        stats = database.command("dbStats")
    bench.report.fact(
        "database on disk",
        f"{stats['objects']:,.0f} documents, storage {stats['storageSize'] / MB:,.0f} MB, indexes "
        f"{stats['indexSize'] / MB:,.0f} MB, uncompressed {stats['dataSize'] / MB:,.0f} MB",
    )
