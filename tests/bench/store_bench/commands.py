"""Commands: how many round trips a claim and a commit take, and where their time goes."""

import cProfile
import pstats
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from time import perf_counter, process_time
from typing import NamedTuple

import psutil
from pymongo import monitoring

from bench.store_bench import drivers, farm
from bench.store_bench.molecule import LEASE, WORKER

TASKS = 200
BATCHES = (10, 50)
ENOUGH = 1000
TOP = 12

PACKAGES = (
    ("pydantic", "pydantic (validate, dump)"),
    ("qfarm/store/codec", "qfarm: codec"),
    ("qfarm", "qfarm"),
    ("bson", "bson"),
    ("recv", "waiting for the server"),
    ("poll", "waiting for the server"),
    ("socket", "sockets"),
    ("pymongo", "pymongo"),
    ("fireworks", "FireWorks"),
    ("monty", "FireWorks"),
    ("tenacity", "tenacity"),
    ("numpy", "numpy"),
    ("bench", "this benchmark"),
)
"""Part of a function's place or name -> what it belongs to; the first that fits counts."""


class Step(NamedTuple):
    """One kind of call: seconds of it, of the processor, of its commands; commands by name."""

    wall: float
    cpu: float
    waited: float
    commands: Counter[str]


class Block(NamedTuple):
    """Many cycles of one kind; `mongod` is the server's processor time, s."""

    name: str
    size: int
    tasks: int
    steps: dict[str, list[Step]]
    mongod: float


class Listener(monitoring.CommandListener):
    """Keeps every command and how long its answer took."""

    def __init__(self) -> None:
        self.commands: Counter[str]
        self.waited: float
        self.begin()
        self._what: dict[int, str] = {}

    def begin(self) -> None:
        """Count from zero."""
        self.commands, self.waited = Counter(), 0.0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        where = event.command.get(event.command_name)
        self._what[event.request_id] = (
            f"{event.command_name} {where}" if isinstance(where, str) else event.command_name
        )

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self.commands[self._what.pop(event.request_id, event.command_name)] += 1
        self.waited += event.duration_micros / 1e6

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        what = self._what.pop(event.request_id, event.command_name)
        self.commands[f"{what} (failed)"] += 1
        self.waited += event.duration_micros / 1e6


class Watch:
    """Sums up what calls of several kinds cost."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.steps: dict[str, list[Step]] = defaultdict(list)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Watch one call."""
        self._listener.begin()
        began, used = perf_counter(), process_time()
        yield
        wall, cpu = perf_counter() - began, process_time() - used
        self.steps[name].append(Step(wall, cpu, self._listener.waited, self._listener.commands))
        self._listener.begin()  # what comes between two calls belongs to neither


def measure(bench: farm.Bench) -> None:
    """Print round trips and milliseconds of each call."""
    bench.report.section("round trips and time of a claim and a commit, one process")
    bench.report.say("waits: in round trips (server and socket); the rest is Python.")
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        for block in alone.submit(_watched, bench.uri).result():
            for name, steps in block.steps.items():
                _report(bench, name, block.size, steps)
            name = f"{block.name}: processor time of mongod"
            bench.report.figure(name, [1000 * block.mongod / block.tasks], "ms/task")
        for size in (1, BATCHES[-1]):
            bench.report.say(f"profile, tasks claimed by {size} (the profiler inflates Python):")
            for line in alone.submit(_profile, bench.uri, size).result():
                bench.report.say(f"  {line}")


def _report(bench: farm.Bench, name: str, size: int, found: list[Step]) -> None:
    calls = statistics.mean(sum(step.commands.values()) for step in found)
    wall, cpu, waited = (
        1000 * statistics.median(getattr(step, part) for step in found) / size
        for part in ("wall", "cpu", "waited")
    )
    note = (
        f"a call; {wall:.2f} ms a task (waits {waited:.2f} ms, processor {cpu:.2f} ms; "
        f"Python {100 * (1 - waited / wall):.0f} %)"
    )
    bench.report.figure(name, [calls], "round trips", note)
    total = sum((step.commands for step in found), Counter[str]())
    listed = (f"{what} {count / len(found):.3g}" for what, count in total.most_common())
    bench.report.say(f"    {', '.join(listed)}")


def _watched(uri: str) -> list[Block]:
    """Watch all calls in a process of its own, whose clients have the listener."""
    listener = Listener()
    monitoring.register(listener)
    with farm.mongo(uri, "admin") as admin:
        mongod = psutil.Process(admin.command("serverStatus")["pid"])
    farm.add(uri, "commands", ENOUGH, 0)
    kinds: list[tuple[str, int, Callable[[Watch], None]]] = [
        ("one by one", 1, partial(_cycle, uri, 1)),
        *((f"batches of {size}", size, partial(_cycle, uri, size)) for size in BATCHES),
        ("raw", 1, _raw_cycle(uri)),
    ]
    blocks = []
    for name, size, work in kinds:
        work(Watch(listener))  # warm up
        watch, rounds = Watch(listener), max(TASKS // size, 10)
        used = sum(mongod.cpu_times()[:2])
        for _ in range(rounds):
            work(watch)
        used = sum(mongod.cpu_times()[:2]) - used
        blocks.append(Block(name, size, rounds * size, dict(watch.steps), used))
    return blocks


def _cycle(uri: str, size: int, watch: Watch) -> None:
    """Claim and commit once."""
    store = farm.store_of(uri, "commands")
    if size == 1:
        with watch.of("claim"):
            claim = farm.take(store)
        [ended] = farm.ended([claim])
        with watch.of("commit"):
            store.commit(*ended)
        return
    with watch.of(f"claim_many({size})"):
        claims = store.claim_many(WORKER, LEASE, size)
    ended_all = farm.ended(farm.own(claims))
    with watch.of(f"commit_many({size})"):
        store.commit_many(ended_all)


def _raw_cycle(uri: str) -> Callable[[Watch], None]:
    model = drivers.models(uri, "commands_model")
    drivers.fill_raw_queue(uri, "commands_raw", 2 * TASKS, 1, model)
    raw = drivers.Raw(uri, "commands_raw")

    def cycle(watch: Watch) -> None:
        with watch.of("raw cycle"):
            raw.step()

    return cycle


def _profile(uri: str, size: int) -> list[str]:
    """Where the time of cycles goes, by package and by function."""
    profile, rounds = cProfile.Profile(), 100 // size
    watch = Watch(Listener())
    _cycle(uri, size, watch)
    with profile:
        for _ in range(rounds):
            _cycle(uri, size, watch)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    by_package: Counter[str] = Counter()
    by_function: Counter[str] = Counter()
    for (file, _, function), (_, _, own, cumulative, _) in stats.items():
        by_package[_package(f"{file} {function}")] += own
        if "qfarm/" in file and function != "<lambda>":
            by_function[f"{file.rpartition('qfarm/')[2]}:{function}"] += cumulative
    ms = 1000 / (rounds * size)
    return [
        *(f"{ms * own:6.2f} ms a task  {name}" for name, own in by_package.most_common(TOP)),
        *(f"{ms * time:6.2f} ms  all of {name}" for name, time in by_function.most_common(TOP)),
    ]


def _package(where: str) -> str:
    return next((name for part, name in PACKAGES if part in where), "the rest")
